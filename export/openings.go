package export

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
)

// Openings are those of the shipper's leaves in st (intents, replacements, acknowledgements), merged with others by index: what an export of
// the evidence log shows (evidence.WriteFolder). They hold nothing of a person, so that whoever has the log can compare each object and each
// stream with them.
func Openings(st *state.Store, others evidence.Openings) evidence.Openings {
	return func(fn func(index int64, o evidence.Opening) error) error {
		return st.View(func(r state.Reader) error {
			var failed error
			next, stop := iter.Pull2(ownOpenings(r, &failed))
			defer stop()
			index, opening, more := next()
			before := func(limit int64) error { // our own before an index; all: -1
				for ; more && (limit < 0 || index < limit); index, opening, more = next() {
					if err := fn(index, opening); err != nil {
						return err
					}
				}
				return failed
			}
			err := others(func(i int64, o evidence.Opening) error {
				if err := before(i); err != nil {
					return err
				}
				return fn(i, o)
			})
			if err != nil {
				return err
			}
			return before(-1)
		})
	}
}

// ownOpenings goes through the shipper's openings by index; an error ends it and is left in failed.
func ownOpenings(r state.Reader, failed *error) iter.Seq2[int64, evidence.Opening] {
	return func(yield func(int64, evidence.Opening) bool) {
		*failed = r.Scan([]byte(leafPrefix), func(key, value []byte) error {
			var o evidence.Opening
			if len(key) != len(leafPrefix)+8 || json.Unmarshal(value, &o) != nil {
				return fmt.Errorf("%w: opening of a leaf", ErrRow)
			}
			if !yield(int64(binary.BigEndian.Uint64(key[len(leafPrefix):])), o) {
				return state.ErrStop
			}
			return nil
		})
	}
}
