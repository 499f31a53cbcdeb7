package rights

import (
	"fmt"
	"time"

	"github.com/octroi/octroi/policies"
)

// maxExtension is how many months a deadline may be extended by, in all (GDPR Art. 12(3)).
const maxExtension = 2

// clock is the time that a request has.
type clock struct {
	Received time.Time     `json:"received"`         // UTC, seconds: arrival at the first way in (rights.md D1)
	Months   int           `json:"months,omitempty"` // of extension
	Why      string        `json:"why,omitempty"`    // of the extension
	Stood    time.Duration `json:"stood,omitempty"`  // nanoseconds that it stood between questions and their answers
	Stopped  time.Time     `json:"stopped,omitzero"` // since when it stands; zero: it runs
	Asked    int           `json:"asked,omitempty"`  // questions so far
}

// due is when the answer must be there: a month by the calendar (Regulation 1182/71 Art. 3(2)(c): the same-numbered day, else the month's
// last), the months of extension, and the time that the clock stood (rights.md D3). While it stands, due moves along.
func (c *clock) due(now time.Time) time.Time { return c.after(1+c.Months, now) }

func (c *clock) after(months int, now time.Time) time.Time {
	due := policies.Period{Months: months}.AddTo(c.Received).Add(c.Stood)
	if !c.Stopped.IsZero() && now.After(c.Stopped) {
		due = due.Add(now.Sub(c.Stopped))
	}
	return due
}

// extend moves the deadline once or twice, by at most two months in all, and only within month one (GDPR Art. 12(3)).
func (c *clock) extend(months int, why string, now time.Time) error {
	switch {
	case months < 1 || c.Months+months > maxExtension:
		return fmt.Errorf("%w: a deadline can be extended by two months in all", ErrTransition)
	case !now.Before(c.after(1, now)):
		return fmt.Errorf("%w: the first month is over, and a deadline can be extended within it only", ErrTransition)
	}
	c.Months, c.Why = c.Months+months, why
	return nil
}

// maxQuestions bounds how often the clock can be stopped.
const maxQuestions = 5

// stop makes the clock stand: information is asked for that is needed to identify the person (GDPR Art. 12(6)).
func (c *clock) stop(now time.Time) error {
	if c.Asked == maxQuestions {
		return fmt.Errorf("%w: it was asked %d times", ErrTransition, maxQuestions)
	}
	c.Stopped = now
	c.Asked++
	return nil
}

// resume makes the clock go on.
func (c *clock) resume(now time.Time) {
	if now.After(c.Stopped) {
		c.Stood += now.Sub(c.Stopped)
	}
	c.Stopped = time.Time{}
}

// daysLeft is the number of whole days up to due; negative once it has passed.
func daysLeft(due, now time.Time) int {
	const day = 24 * time.Hour
	left := due.Sub(now)
	if left < 0 {
		left -= day - 1
	}
	return int(left / day)
}
