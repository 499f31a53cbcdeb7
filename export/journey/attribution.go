package journey

// The rules by which a converting journey's credit is shared among its positions. Markov's, which needs all journeys, is markov.go's.
const (
	modelFirst    = "first"
	modelLast     = "last"
	modelLinear   = "linear"   // 1/L each
	modelPosition = "position" // 1 | ½, ½ | 0.4, 0.2/(L−2) each, 0.4
	modelMarkov   = "markov"   // order 1
)

// counted are the models whose credits are counted journey by journey, in the order of reports.
func counted() []string { return []string{modelFirst, modelLast, modelLinear, modelPosition} }

// creditUnit is what one conversion is worth in a cell: every share of a way of at most maxSteps positions is a whole number of it, so credits sum to
// conversions exactly. It is the least common multiple of 1 … 16 and of 5 × (1 … 14).
const creditUnit = 3_603_600

// share is position i's part of a way of n positions, in units of creditUnit.
func share(model string, i, n int) int64 {
	switch {
	case model == modelFirst && i == 0, model == modelLast && i == n-1, n == 1 && model == modelPosition:
		return creditUnit
	case model == modelFirst, model == modelLast:
		return 0
	case model == modelLinear:
		return creditUnit / int64(n)
	case n == 2:
		return creditUnit / 2
	case i == 0 || i == n-1:
		return creditUnit * 2 / 5
	}
	return creditUnit / 5 / int64(n-2)
}

// addCredits shares n conversions and the way's value among its positions.
func (w *way) addCredits(a sums, n int64) {
	for _, model := range counted() {
		var done, paid int64 // of creditUnit; of the value
		for i := range w.steps {
			part := share(model, i, len(w.steps))
			if part == 0 {
				continue
			}
			c := w.steps[i].channel
			a.add(kindCredit, Join(model, c), sum{count: n * part})
			if w.value.Currency == "" {
				continue
			}
			// Money has no fractions: each position gets what is due up to it less what was paid before, so that the parts sum to the value.
			done += part
			due := proportion(w.value.Minor, done, creditUnit)
			a.add(kindWorth, Join(model, c, w.value.Currency), sum{n, due - paid})
			paid = due
		}
	}
}

// proportion is v × part / whole, rounded down, of what is not negative.
func proportion(v, part, whole int64) int64 { return v/whole*part + v%whole*part/whole }
