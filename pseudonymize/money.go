package pseudonymize

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"golang.org/x/text/currency"
)

// Money is an amount in the currency's minor unit (cents of EUR, yen of JPY). There is no floating point anywhere near it.
type Money struct {
	Minor    int64
	Currency string // ISO 4217; empty: no amount
}

// maxDigits keeps every amount well inside an int64.
const maxDigits = 15

// ParseMoney reads a decimal amount such as "12.30" of an ISO 4217 currency. More decimals than the currency has are an error unless they
// are zeros; so is anything but an optional minus, digits and one point. ErrMoney never holds the amount.
func ParseMoney(amount, code string) (Money, error) {
	unit, err := currency.ParseISO(code)
	if err != nil || len(code) != 3 || unit.String() != code {
		return Money{}, fmt.Errorf("%w: currency is not an upper-case ISO 4217 code", ErrMoney)
	}
	scale, _ := currency.Standard.Rounding(unit)
	digits, negative := strings.CutPrefix(amount, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || (point && fraction == "") || !allDigits(whole) || !allDigits(fraction) {
		return Money{}, ErrMoney
	}
	if extra := strings.TrimRight(fraction, "0"); len(extra) > scale {
		return Money{}, fmt.Errorf("%w: %s has %d decimals", ErrMoney, code, scale)
	}
	if len(fraction) > scale {
		fraction = fraction[:scale]
	}
	text := strings.TrimLeft(whole+fraction+strings.Repeat("0", scale-len(fraction)), "0")
	if len(text) > maxDigits {
		return Money{}, fmt.Errorf("%w: more than %d digits", ErrMoney, maxDigits)
	}
	if text == "" {
		return Money{0, code}, nil
	}
	minor, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Money{}, ErrMoney
	}
	if negative {
		minor = -minor
	}
	return Money{minor, code}, nil
}

// Parts parts the amount at the decimals of its currency, two for a code that is none; sign is "-" or empty.
func (m Money) Parts() (sign, whole, fraction string) {
	scale := 2
	if unit, err := currency.ParseISO(m.Currency); err == nil {
		scale, _ = currency.Standard.Rounding(unit)
	}
	amount := big.NewInt(m.Minor) // the least int64 has no positive
	if amount.Sign() < 0 {
		sign = "-"
	}
	digits := amount.Abs(amount).String()
	digits = strings.Repeat("0", max(0, scale+1-len(digits))) + digits
	return sign, digits[:len(digits)-scale], digits[len(digits)-scale:]
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
