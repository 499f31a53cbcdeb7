package export

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
)

// Openings are those of the shipper's leaves in st (intents, replacements, acknowledgements) by index: what an export of the evidence log
// shows (evidence.WriteFolder). They hold nothing of a person, so that whoever has the log can compare each object and each stream with them.
func Openings(st *state.Store) evidence.Openings {
	return func(fn func(index int64, o evidence.Opening) error) error {
		return st.View(func(r state.Reader) error {
			return r.Scan([]byte(leafPrefix), func(key, value []byte) error {
				var o evidence.Opening
				if len(key) != len(leafPrefix)+8 || json.Unmarshal(value, &o) != nil {
					return fmt.Errorf("%w: opening of a leaf", ErrRow)
				}
				return fn(int64(binary.BigEndian.Uint64(key[len(leafPrefix):])), o)
			})
		})
	}
}
