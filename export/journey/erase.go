package journey

import (
	"errors"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Erase subtracts a subject inside t: what purposes alone allowed, or, without any, everything. Of a person it takes also what its devices did while
// they were that person's, of a device what it did under every person; what is published stays, since it is anonymous. The caller revokes in the same
// change, so that nothing that is being folded comes back.
//
// It writes at most half of the room that t has left, whoever it is about: where taking out some purposes would need more (tens of thousands of
// touches), everything of the subject goes; where subtracting would (thousands of cells), the cells are counted anew, and reports of open periods wait
// for that. It reads at most maxWith journeys beside the subject's own.
func (j *Journeys) Erase(t *state.Txn, s subject.Subject, purposes []string) error {
	w, err := j.taken(t, s, purposes)
	if err == nil && len(purposes) > 0 && w.weight() > t.Room()/2 {
		w, err = j.taken(t, s, nil)
	}
	if err != nil {
		return fmt.Errorf("erasing from journeys: %w", err)
	}
	if w.empty() {
		return nil
	}
	w.recount = w.recount || w.weight() > t.Room()/2
	generation, err := readNumber(t, generationKey)
	if err != nil {
		return fmt.Errorf("erasing from journeys: %w", err)
	}
	t.Set(generationKey, encodeNumber(generation+1)) // what was computed from before this change is not written any more
	if err := j.apply(t, w); err != nil {
		return fmt.Errorf("erasing from journeys: %w", err)
	}
	t.OnCommit(func() {
		j.note(func(st *Stats) { st.Erased++ })
		j.wake()
	})
	return nil
}

// taken is what is written when purposes of a subject go, or all of it.
func (j *Journeys) taken(r state.Reader, s subject.Subject, purposes []string) (*writes, error) {
	v, err := j.revise(r)
	if err != nil {
		return nil, err
	}
	places, err := v.whole(s)
	if err != nil {
		return nil, err
	}
	var moved []moved
	if len(purposes) > 0 {
		if moved, err = v.cut(s, places, purposes); err != nil {
			return nil, err
		}
	} else {
		for _, p := range places {
			if err := v.keep(p, func(*Touch) bool { return false }); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range moved {
		if _, err := v.put(m.to, m.touch); err != nil {
			return nil, err
		}
	}
	return v.settle()
}

// whole is every place where touches of a subject lie, under whomever, with the journeys they belong to opened.
func (v *revision) whole(s subject.Subject) ([]place, error) {
	w, err := v.with(s.Slot())
	if err != nil {
		return nil, err
	}
	places := []place{{device: s.Slot()}}
	if s.Kind() == subject.Person {
		places[0] = place{person: s.Slot()}
	}
	for _, other := range slices.Clone(w.slots) {
		p := place{s.Slot(), other}
		if s.Kind() == subject.Device {
			p = place{other, s.Slot()}
		}
		switch _, err := v.open(p.owner()); {
		case errors.Is(err, subject.ErrShredded): // a slot file that is newer than the state
			v.broken = true
			v.leave(s.Slot(), other)
		case err != nil:
			return nil, err
		case slices.Contains(w.slots, other):
			places = append(places, p)
		}
	}
	return places, nil
}

// moved is a touch that is another's, or less, than it was.
type moved struct {
	to    place
	touch Touch
}

// cut takes purposes of a subject off the touches of its places, by the rules by which custodian and loader take them off rows: fields, amount and
// pseudonyms that nothing allows any more go with them. A touch without the person's pseudonym is the device's own (architecture.md "Link, not merge").
func (v *revision) cut(s subject.Subject, places []place, purposes []string) (out []moved, err error) {
	pseudonym := map[[16]byte]bool{v.j.o.Destination.Pseudonym(s): true}
	c := export.Cut{Purposes: map[string]bool{}, Rules: v.j.o.Policy.Rules()}
	if s.Kind() == subject.Device {
		c.Devices = pseudonym
	} else {
		c.Persons = pseudonym
	}
	for _, id := range purposes {
		c.Purposes[id] = true
	}
	for _, p := range places {
		l, err := v.list(p)
		if err != nil {
			return nil, err
		}
		gone := map[[16]byte]bool{}
		for i := range l.touches {
			t := &l.touches[i]
			row, err := v.j.rowOf(t, p)
			if err != nil {
				return nil, err
			}
			stays, changed := c.Row(&row)
			if !changed {
				continue
			}
			gone[t.ID] = true
			if stays && (row.DeviceSlot != 0 || row.PersonSlot != 0) { // what is nobody's has no journey
				out = append(out, moved{placeOf(&row), v.j.touchOf(&row)})
			}
		}
		if err := v.keep(p, func(t *Touch) bool { return !gone[t.ID] }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// placeOf is where a row's touch lies.
func placeOf(row *pseudonymize.Row) place { return place{row.PersonSlot, row.DeviceSlot} }

// Window is what is kept of a subject's journey: of a device, what it did while it was nobody's. A row has the fields that the window keeps.
func (j *Journeys) Window(s subject.Subject) (rows []pseudonymize.Row, err error) {
	err = j.o.State.View(func(r state.Reader) error {
		v, err := j.revise(r)
		if err != nil {
			return err
		}
		places, err := v.places(s)
		if err != nil {
			return err
		}
		for _, p := range places {
			l, err := v.list(p)
			if errors.Is(err, subject.ErrShredded) {
				continue
			}
			if err != nil {
				return err
			}
			for i := range l.touches {
				row, err := j.rowOf(&l.touches[i], p)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading journey window: %w", err)
	}
	slices.SortFunc(rows, func(a, b pseudonymize.Row) int { return a.Time.Compare(b.Time) })
	return rows, nil
}
