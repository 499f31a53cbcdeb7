package evidence

import (
	"errors"
	"iter"
)

// errStopped ends an owner's openings that nobody wants any more.
var errStopped = errors.New("stopped")

// Merge is the openings of several owners in one, by index. It ends with the first error of any of them.
func Merge(all ...Openings) Openings {
	return func(fn func(index int64, o Opening) error) error {
		owners := make([]*pulled, len(all))
		for i, openings := range all {
			owners[i] = pull(openings)
			defer owners[i].stop()
		}
		for {
			var first *pulled
			for _, p := range owners {
				if p.failed != nil {
					return p.failed
				}
				if p.more && (first == nil || p.index < first.index) {
					first = p
				}
			}
			if first == nil {
				return nil
			}
			if err := fn(first.index, first.opening); err != nil {
				return err
			}
			first.step()
		}
	}
}

// pulled is one owner's openings, one at a time.
type pulled struct {
	index   int64
	opening Opening
	more    bool
	failed  error
	next    func() (int64, Opening, bool)
	stop    func()
}

func pull(openings Openings) *pulled {
	p := new(pulled)
	p.next, p.stop = iter.Pull2(func(yield func(int64, Opening) bool) {
		err := openings(func(index int64, o Opening) error {
			if !yield(index, o) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			p.failed = err
		}
	})
	p.step()
	return p
}

func (p *pulled) step() { p.index, p.opening, p.more = p.next() }
