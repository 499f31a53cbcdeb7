package export

import (
	"encoding/json"

	"github.com/octroi/octroi/consent/evidence"
)

// SealedBatches are the batches of a destination that an evidence log's openings know of, for StreamCheck.Sealed: an opening is an intent
// where its core says so.
func SealedBatches(openings map[int64]evidence.Opening, destination string) (out []SealedBatch) {
	for _, o := range openings {
		var core intentCore
		if json.Unmarshal(o.Core, &core) == nil && core.Kind == "intent" && core.Destination == destination {
			out = append(out, SealedBatch{core.Node, core.Number, core.SHA256, core.Time})
		}
	}
	return out
}
