package consent

import (
	"bytes"
	"errors"
	"testing"

	"github.com/octroi/octroi/consent/state"
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
	g.suppress(s)
	if found := search(); len(found) != 2 {
		t.Fatalf("suppressed: %v", found)
	}
	if x := g.sever(s); x.Kept != 1 { // one row that outlives the subject, and names neither it nor its record
		t.Fatalf("%+v", x)
	}
	if found := search(); len(found) != 0 {
		t.Fatalf("after: %v", found)
	}
}
