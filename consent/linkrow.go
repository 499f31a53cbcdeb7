package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// linkRow is the times at which a device was joined to persons, or a person to devices. It is one sealed row of each side, JSON, oldest first:
//
//	{"v":1,"links":[{"other":slot,"record":number,"since":ms,"until":ms,"method":"login_claim"},…]}     no until: nobody has ended it
//
// Each link stands on both sides. It leaves both when one of them is erased, or when it is the oldest of more than maxLinks on either.
type linkRow struct {
	Version int        `json:"v"`
	Links   []linkTime `json:"links"`
}

type linkTime struct {
	Other  subject.Slot `json:"other"`
	Record uint32       `json:"record"` // of the device: the one that says so
	Since  int64        `json:"since"`  // Unix milliseconds
	Until  int64        `json:"until,omitempty"`
	Method string       `json:"method,omitempty"`
}

const (
	linkTable   = "c/links/"
	linkVersion = 1
)

// maxLinks bounds the times that are kept of a subject. The oldest that has ended goes first; of a person with as many devices that are linked now the
// oldest link ends, which fails closed.
const maxLinks = 64

// link is the link as it stands in the row of own.
func (x *linkTime) link(own, other subject.Subject) Link {
	out := Link{Device: own, Person: other, Since: time.UnixMilli(x.Since).UTC(), Method: x.Method}
	if own.Kind() == subject.Person {
		out.Device, out.Person = other, own
	}
	if x.Until != 0 {
		out.Until = time.UnixMilli(x.Until).UTC()
	}
	return out
}

// is says whether two times are one link, in rows of the same side.
func (x *linkTime) is(y linkTime) bool { return x.Other == y.Other && x.Record == y.Record }

// readLinks reads the row through a reader or the writer's transaction, nothing where there is none.
func readLinks(r interface{ Get([]byte) ([]byte, error) }, s subject.Subject) ([]linkTime, error) {
	key := s.RowKey(linkTable, nil)
	sealed, err := r.Get(key)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading links: %w", err)
	}
	text, err := s.Open(linkTable, key, sealed)
	if err != nil {
		return nil, fmt.Errorf("reading links: %w", err)
	}
	var row linkRow
	if json.Unmarshal(text, &row) != nil || row.Version != linkVersion {
		return nil, fmt.Errorf("reading links: %w", ErrStored)
	}
	return row.Links, nil
}

func writeLinks(t *state.Txn, s subject.Subject, list []linkTime) {
	key := s.RowKey(linkTable, nil)
	if len(list) == 0 {
		t.Delete(key)
		return
	}
	t.Set(key, s.Seal(linkTable, key, canonical(linkRow{linkVersion, list})))
}

// addLink adds a link to one side, and makes room for it first.
func (l *Ledger) addLink(t *state.Txn, s subject.Subject, x linkTime) error {
	if err := l.makeRoom(t, s); err != nil {
		return err
	}
	list, err := readLinks(t, s)
	if err == nil {
		writeLinks(t, s, append(list, x))
	}
	return err
}

// endLink writes when a link ended, on one side.
func (l *Ledger) endLink(t *state.Txn, s subject.Subject, x linkTime, until int64) error {
	list, err := readLinks(t, s)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, x.is); i >= 0 {
		list[i].Until = until
		writeLinks(t, s, list)
	}
	return nil
}

// dropLink takes a link off one side.
func dropLink(t *state.Txn, s subject.Subject, x linkTime) error {
	list, err := readLinks(t, s)
	if err == nil {
		writeLinks(t, s, slices.DeleteFunc(list, x.is))
	}
	return err
}

// makeRoom takes the oldest link of a full row off both sides.
func (l *Ledger) makeRoom(t *state.Txn, s subject.Subject) error {
	list, err := readLinks(t, s)
	if err != nil || len(list) < maxLinks {
		return err
	}
	i := slices.IndexFunc(list, func(x linkTime) bool { return x.Until != 0 })
	if i < 0 {
		i = 0
		device, err := l.subjects.BySlot(list[i].Other)
		if err == nil {
			_, err = l.UnlinkIn(t, Site{}, device, "")
		}
		if err != nil && !errors.Is(err, subject.ErrShredded) { // its erasure has begun: nothing of it is admitted any more
			return err
		}
	}
	if err := dropLink(t, s, list[i]); err != nil {
		return err
	}
	return l.dropOther(t, s, list[i])
}

// dropOther takes a link in the row of s off the other side.
func (l *Ledger) dropOther(t *state.Txn, s subject.Subject, x linkTime) error {
	other, err := l.subjects.BySlot(x.Other)
	if errors.Is(err, subject.ErrShredded) { // its side went with it
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding the other side of a link: %w", err)
	}
	x.Other = s.Slot()
	return dropLink(t, other, x)
}

// severLinks takes, inside the writer, the links of a subject that is erased off both sides: of a person also off the standings of the devices. more
// says that it stopped at the bound of one change.
func (l *Ledger) severLinks(t *state.Txn, s subject.Subject) (more bool, err error) {
	list, err := readLinks(t, s)
	if errors.Is(err, subject.ErrSealed) || errors.Is(err, ErrStored) { // a damaged row does not stop an erasure
		t.Delete(s.RowKey(linkTable, nil))
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for len(list) > 0 && !more {
		if err := l.severLink(t, s, list[0]); err != nil {
			return false, err
		}
		list = list[1:]
		more = len(list) > 0 && t.Room() < severRoom
	}
	writeLinks(t, s, list)
	return more, nil
}

// severLink takes one link off the other side.
func (l *Ledger) severLink(t *state.Txn, s subject.Subject, x linkTime) error {
	if s.Kind() == subject.Person {
		if err := l.freeDevice(t, s, x); err != nil {
			return err
		}
	}
	return l.dropOther(t, s, x)
}

// freeDevice ends the link of a device to a person who is erased: the device lives on.
func (l *Ledger) freeDevice(t *state.Txn, person subject.Subject, x linkTime) error {
	device, err := l.subjects.BySlot(x.Other)
	if errors.Is(err, subject.ErrShredded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding a linked device: %w", err)
	}
	row, err := standingIn(t, device)
	if err != nil || row.Link == nil || row.Link.Person != person.Slot() {
		return err
	}
	_, err = l.UnlinkIn(t, Site{}, device, "")
	if errors.Is(err, subject.ErrShredded) { // it is being erased too, and nothing is recorded of it any more
		row.Link = nil
		key := device.RowKey(standingTable, nil)
		t.Set(key, device.Seal(standingTable, key, row.encode())) // the gate goes on taking it for nobody
		err = nil
	}
	return err
}
