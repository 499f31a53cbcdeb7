package consent

import (
	"bytes"
	"errors"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// C10: a record that was removed, altered, or put in the place of another is found when the history is read.
func TestHistoryFindsWhatIsMissing(t *testing.T) {
	for name, spoil := range map[string]func(tx *state.Txn, keys [][]byte, values [][]byte){
		"first removed": func(tx *state.Txn, keys, _ [][]byte) { tx.Delete(keys[0]) },
		"inner removed": func(tx *state.Txn, keys, _ [][]byte) { tx.Delete(keys[1]) },
		"last removed":  func(tx *state.Txn, keys, _ [][]byte) { tx.Delete(keys[2]) },
		"altered": func(tx *state.Txn, keys, values [][]byte) {
			changed := bytes.Clone(values[1])
			changed[len(changed)/2] ^= 1
			tx.Set(keys[1], changed)
		},
		"reordered": func(tx *state.Txn, keys, values [][]byte) { tx.Set(keys[0], values[1]); tx.Set(keys[1], values[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			g := openGateway(t)
			s, _ := g.mint(allPurposes)
			g.choose(s, allPurposes)
			g.choose(s, allPurposes)
			if _, err := g.History(s); err != nil {
				t.Fatal(err)
			}
			err := g.state.Update(ctx, func(tx *state.Txn) error {
				var keys, values [][]byte
				err := tx.Scan(s.RowKey(recordTable, nil), func(key, value []byte) error {
					keys, values = append(keys, bytes.Clone(key)), append(values, bytes.Clone(value))
					return nil
				})
				if err != nil || len(keys) != 3 {
					return errors.Join(err, errors.New("there are not three records"))
				}
				spoil(tx, keys, values)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.History(s); err == nil || errors.Is(err, ErrNoRecord) {
				t.Fatalf("not found: %v", err)
			}
		})
	}
}

// A crash after the revocation is durable and before the rows are gone: the subject gets nothing any more, and the call made again ends it.
func TestForgetResumes(t *testing.T) {
	g := openGateway(t)
	s, r := g.mint(allPurposes)
	g.choose(s, allPurposes)
	if err := g.state.Update(ctx, func(tx *state.Txn) error { return g.forget(tx, s) }); err != nil {
		t.Fatal(err)
	}
	g.reopen(nil)
	s, err := g.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	g.want(g.query("page_view", s, noSubject), NoConsent)
	c := g.banner(allPurposes)
	c.Who.Device = s
	if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
		t.Fatal("a choice is recorded of a subject that is being erased:", err)
	}
	leaves, sequence := g.leaves(), g.Sequence()
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal(err)
	}
	if g.leaves() != leaves || g.Sequence() != sequence {
		t.Fatal("the erasure was recorded twice")
	}
	if n := g.rowsUnder(s.RowKey(recordTable, nil)); n != 0 {
		t.Fatalf("%d records are left", n)
	}
}

func (g *gateway) rowsUnder(prefix []byte) (n int) {
	g.t.Helper()
	err := g.state.View(func(r state.Reader) error {
		return r.Scan(prefix, func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// Nothing that names the subject or one of its records stands in a row, neither before an erasure (it is sealed) nor after (it is gone).
func TestRowsNameNobody(t *testing.T) {
	g := openGateway(t)
	s, r := g.mint(allPurposes)
	names := map[string][]byte{
		"subject id": []byte(s.ID()), "record id": []byte(r.RecordID), "record rows": s.RowKey(recordTable, nil), "standing row": s.RowKey(standingTable, nil),
	}
	search := func() map[string]int {
		found := map[string]int{}
		err := g.state.View(func(rd state.Reader) error {
			return rd.Scan([]byte{}, func(key, value []byte) error {
				for name, x := range names {
					if bytes.Contains(key, x) || bytes.Contains(value, x) {
						found[name]++
					}
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := search(); len(found) != 2 || found["record rows"] != 1 || found["standing row"] != 1 {
		t.Fatalf("before: %v", found)
	}
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal(err)
	}
	if found := search(); len(found) != 0 {
		t.Fatalf("after: %v", found)
	}
}

func TestForget(t *testing.T) {
	g := openGateway(t)
	other, _ := g.mint(allPurposes)
	s, r := g.mint(allPurposes)
	for range 3 {
		g.choose(s, allPurposes)
	}
	grants := g.want(g.query("page_view", s, noSubject), "", "audience")
	slot, prefix := s.Slot(), s.RowKey(recordTable, nil)
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal(err)
	}
	g.want(g.query("page_view", s, noSubject), NoConsent)
	if !g.RevokedAfter(slot, "audience", grants.Sequence()) {
		t.Fatal("spooled events of an erased subject must be dropped")
	}
	if _, err := g.subjects.Device(*r.Minted); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal("the credential still finds a subject:", err)
	}
	if _, err := g.Resolve(slot, 1); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	err := g.state.View(func(r state.Reader) error {
		return r.Scan(prefix, func(key, _ []byte) error { return errors.New("a record is left") })
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.History(s); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
	c := g.banner(allPurposes)
	c.Who.Device = s // a request that found the subject before it was erased
	if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	sequence := g.Sequence()
	if err := g.Forget(ctx, s); err != nil || g.Sequence() != sequence {
		t.Fatal("erasing again must do nothing:", err)
	}
	g.want(g.query("page_view", other, noSubject), "", "audience")
	deletions := 0
	err = g.Openings(func(_ int64, o evidence.Opening) error {
		var c core
		if err := decodeCanonical(o.Core, &c); err != nil {
			return err
		}
		if c.Event.Type == "deletion" && c.Counts["records"] == 4 {
			deletions++
		}
		return nil
	})
	if err != nil || deletions != 1 {
		t.Fatal(deletions, err)
	}
}
