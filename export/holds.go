package export

import (
	"slices"

	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// holds are the (subject, purpose) pairs of a batch: what a revocation can concern. 8 bytes a pair, since a batch has many.
type holds struct {
	purposes []string
	pairs    []uint64 // slot << 16 | position of the purpose + 1; | 0: the subject occurs in the batch
	sorted   int      // pairs[:sorted] are sorted and differ
}

func (h *holds) add(row *pseudonymize.Row) {
	h.pair(row.DeviceSlot, 0)
	h.pair(row.PersonSlot, 0)
	linked := row.Linked()
	for i := range row.Grants {
		purpose := h.purpose(row.Grants[i].Purpose)
		h.pair(row.Grants[i].Slot, purpose)
		if linked { // see pseudonymize.Event.Without
			h.pair(row.PersonSlot, purpose)
		}
	}
	if len(h.pairs) > 2*h.sorted+1<<16 {
		h.compact()
	}
}

func (h *holds) purpose(id string) uint64 {
	i := slices.Index(h.purposes, id)
	if i < 0 {
		i = len(h.purposes)
		h.purposes = append(h.purposes, id)
	}
	return uint64(i) + 1
}

func (h *holds) pair(slot subject.Slot, purpose uint64) {
	if slot != 0 {
		h.pairs = append(h.pairs, uint64(slot)<<16|purpose)
	}
}

func (h *holds) compact() {
	slices.Sort(h.pairs)
	h.pairs = slices.Compact(h.pairs)
	h.sorted = len(h.pairs)
}

// concerns: would a revocation of purpose ("": of all) by the subject in slot change the batch? After compact only.
func (h *holds) concerns(slot subject.Slot, purpose string) bool {
	want := uint64(slot) << 16
	if purpose != "" {
		i := slices.Index(h.purposes, purpose)
		if i < 0 {
			return false
		}
		_, found := slices.BinarySearch(h.pairs, want|uint64(i+1))
		return found
	}
	i, _ := slices.BinarySearch(h.pairs, want)
	return i < len(h.pairs) && h.pairs[i]>>16 == uint64(slot)
}

// slots are the subjects that occur in the batch, each once. After compact only.
func (h *holds) slots() []subject.Slot {
	var slots []subject.Slot
	for _, p := range h.pairs {
		if p&0xffff == 0 {
			slots = append(slots, subject.Slot(p>>16))
		}
	}
	return slots
}
