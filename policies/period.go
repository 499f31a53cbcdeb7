package policies

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// AtLeast is the shortest time the period can be, whatever the months and years are: years of 365 days, months of 28.
func (p Period) AtLeast() time.Duration {
	days := 365*p.Years + 28*p.Months + p.Days
	return time.Duration(24*days+p.Hours)*time.Hour + time.Duration(p.Minutes)*time.Minute
}

// ErrPeriod is the error of a text that is not a Period.
var ErrPeriod = errors.New("not an ISO 8601 period")

// Period is a calendar span (ISO 8601 duration such as P6M or PT24H). The zero Period is no time at all.
type Period struct{ Years, Months, Days, Hours, Minutes int }

// maxPeriodDigits bounds each number of a period, so that no sum overflows.
const maxPeriodDigits = 4

// ParsePeriod reads an ISO 8601 duration: P, then years, months, days, then after T hours and minutes, each at most four
// digits and in this order; or weeks alone (P2W is fourteen days). Seconds and fractions are no calendar span: ErrPeriod.
func ParsePeriod(text string) (Period, error) {
	p, seconds, err := parseDuration(text)
	if err == nil && seconds != 0 {
		err = fmt.Errorf("%q: %w: seconds", text, ErrPeriod)
	}
	if err != nil {
		return Period{}, err
	}
	return p, nil
}

// parseDuration reads what ParsePeriod reads, and seconds.
func parseDuration(text string) (p Period, seconds int, err error) {
	weeks := 0
	date, clock, timed := strings.Cut(strings.TrimPrefix(text, "P"), "T")
	ok := strings.HasPrefix(text, "P") && (date != "" || timed) && (clock != "" || !timed)
	if strings.HasSuffix(date, "W") {
		ok = ok && !timed && parseNumbers(date, "W", &weeks)
	} else {
		ok = ok && parseNumbers(date, "YMD", &p.Years, &p.Months, &p.Days)
	}
	ok = ok && parseNumbers(clock, "HMS", &p.Hours, &p.Minutes, &seconds)
	if !ok {
		return Period{}, 0, fmt.Errorf("%q: %w", text, ErrPeriod)
	}
	p.Days += 7 * weeks
	return p, seconds, nil
}

// parseNumbers reads numbers that each carry one of the designators, which must occur in order and at most once.
func parseNumbers(text, designators string, into ...*int) bool {
	for text != "" {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		if digits == 0 || digits > maxPeriodDigits || digits == len(text) {
			return false
		}
		at := strings.IndexByte(designators, text[digits])
		if at < 0 {
			return false
		}
		n, err := strconv.Atoi(text[:digits])
		if err != nil {
			return false
		}
		*into[at] = n
		text, designators, into = text[digits+1:], designators[at+1:], into[at+1:]
	}
	return true
}

// IsZero reports whether the period is no time at all.
func (p Period) IsZero() bool { return p == Period{} }

// String is the ISO 8601 form, which ParsePeriod reads back; P0D for the zero Period.
func (p Period) String() string {
	if p.IsZero() {
		return "P0D"
	}
	var b strings.Builder
	b.WriteByte('P')
	write := func(n int, designator byte) {
		if n != 0 {
			b.WriteString(strconv.Itoa(n))
			b.WriteByte(designator)
		}
	}
	write(p.Years, 'Y')
	write(p.Months, 'M')
	write(p.Days, 'D')
	if p.Hours != 0 || p.Minutes != 0 {
		b.WriteByte('T')
		write(p.Hours, 'H')
		write(p.Minutes, 'M')
	}
	return b.String()
}

// AddTo is t plus the period by the calendar, in UTC; a day that the month lacks becomes the month's last (Regulation
// 1182/71 Art. 3(2)(c)).
func (p Period) AddTo(t time.Time) time.Time {
	t = t.UTC()
	year, month, day := t.Date()
	first := time.Date(year+p.Years, month+time.Month(p.Months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(day, last)-1+p.Days).
		Add(time.Duration(p.Hours)*time.Hour + time.Duration(p.Minutes)*time.Minute)
}
