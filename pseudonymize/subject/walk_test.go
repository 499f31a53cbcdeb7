package subject_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// TestEverySubjectIsComeBy: each living one once, by slot, whatever kinds the chunks are of, and nobody who was destroyed.
func TestEverySubjectIsComeBy(t *testing.T) {
	h := newHouse(t)
	var all []subject.Subject
	h.update(func(c *state.Txn) error {
		for i := range 1100 {
			_, device, err := h.MintDevice(c)
			if err != nil {
				return err
			}
			person, _, err := h.EnsurePerson(c, h.id("loyalty", fmt.Sprintf("card-%d", i)))
			if err != nil {
				return err
			}
			all = append(all, device, person)
		}
		return nil
	})
	for _, i := range []int{0, 1, 2046, len(all) - 1} {
		h.shred(all[i])
		all[i] = subject.Subject{}
	}
	all = slices.DeleteFunc(all, func(s subject.Subject) bool { return !s.Exists() })
	slices.SortFunc(all, func(a, b subject.Subject) int { return int(a.Slot()) - int(b.Slot()) })
	for range 2 {
		var got []subject.Subject
		for s, ok := h.Next(0); ok; s, ok = h.Next(s.Slot()) {
			got = append(got, s)
		}
		if !slices.Equal(got, all) {
			t.Fatalf("came by %d subjects, want %d", len(got), len(all))
		}
		h.reopen()
	}
}
