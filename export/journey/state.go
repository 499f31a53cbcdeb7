package journey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Rows of state, format v1 (u64 is big endian; names hold no byte 0; a subject's rows lie under its own key and are sealed by it):
//
//	"j/n"                                                    u64          cursor: the spool position below which everything is folded
//	"j/g"                                                    u64          generation: how often something was taken out
//	"j/f"                                                    progress     what the cells are counted by, and how far (recount.go)
//	"j/w"                                                    u32          slot up to which old touches have fallen out; no row: all have
//	"j/b/" ‖ site                                            u64          Unix ms: where the site's oldest open period begins
//	"j/c/" ‖ period 0 site 0 segment 0 kind 0 key            tally        of open periods
//	"j/v/" ‖ period 0 site 0 segment 0 kind 0 key            tally        coverage of open periods
//	"j/r/" ‖ site 0 period 0 report 0 segment 0 ‖ u16 part   bytes        a released report, in parts
//	"j/own/" ‖ subject's [16]                                sealed       touches of a device's own, or of a person without a device
//	"j/both/" ‖ person's [16] ‖ device's [16]                sealed       touches of the device while it was the person's; sealed by both
//	"j/with/" ‖ subject's [16]                               sealed       u32 slots, sorted: of a person the devices, of a device the
//	                                                                      persons, with whom it has rows "j/both/"
var (
	cursorKey     = []byte("j/n")
	generationKey = []byte("j/g")
	progressKey   = []byte("j/f")
	fallingKey    = []byte("j/w")
)

const (
	allPrefix      = "j/"
	beginPrefix    = "j/b/"
	cellPrefix     = "j/c/"
	coveragePrefix = "j/v/"
	reportPrefix   = "j/r/"

	ownTable  = "j/own/"
	bothTable = "j/both/"
	withTable = "j/with/"

	bothUse = "journeys:both" // of Derive: a device's part of a row's key
)

// errStored is a row of the window that cannot be what this package wrote.
var errStored = errors.New("row of journeys in state is damaged")

// readNumber reads a u64, 0 where there is no row.
func readNumber(r state.Reader, key []byte) (uint64, error) {
	b, err := r.Get(key)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(b) != 8:
		return 0, fmt.Errorf("%w: a number of %d bytes", errStored, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func beginKey(site string) []byte { return []byte(beginPrefix + site) }

// begins are the beginnings of the oldest open period of each site, Unix milliseconds.
func (j *Journeys) begins(r state.Reader) (map[string]int64, error) {
	begins := make(map[string]int64, len(j.sites))
	for site := range j.sites {
		n, err := readNumber(r, beginKey(site))
		if err != nil {
			return nil, fmt.Errorf("reading where periods are open: %w", err)
		}
		begins[site] = int64(n)
	}
	return begins, nil
}

// key is the cell's key below a prefix.
func (c Cell) key(prefix string) []byte {
	return []byte(prefix + strings.Join([]string{c.Period, c.Site, c.Segment, c.Kind, c.Key}, "\x00"))
}

func parseCell(key []byte, prefix string) (Cell, error) {
	parts := strings.Split(strings.TrimPrefix(string(key), prefix), "\x00")
	if len(parts) != 5 {
		return Cell{}, errCell
	}
	return Cell{parts[0], parts[1], parts[2], parts[3], parts[4]}, nil
}

// readCounts reads the cells of one period at one site, coverage included.
func readCounts(r state.Reader, site, period string) (counts, error) {
	c := counts{}
	for _, prefix := range []string{cellPrefix, coveragePrefix} {
		err := r.Scan([]byte(prefix+period+"\x00"+site+"\x00"), func(key, value []byte) error {
			cell, err := parseCell(key, prefix)
			if err != nil {
				return err
			}
			c[cell], err = decodeTally(value)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading cells: %w", err)
		}
	}
	return c, nil
}

// addCells adds delta to the cells in state. A cell that falls to zero is deleted, so that who is gone leaves no trace of having been there.
func addCells(t *state.Txn, prefix string, delta counts) error {
	for _, cell := range slices.SortedFunc(maps.Keys(delta), compareCells) {
		key := cell.key(prefix)
		was, err := t.Get(key)
		var sum Tally
		if err == nil {
			sum, err = decodeTally(was)
		} else if errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("reading a cell: %w", err)
		}
		change := delta[cell]
		if sum = sum.plus(&change, 1); sum == (Tally{}) {
			t.Delete(key)
		} else {
			t.Set(key, sum.encode())
		}
	}
	return nil
}

func compareCells(a, b Cell) int {
	for _, c := range [...]int{
		strings.Compare(a.Period, b.Period), strings.Compare(a.Site, b.Site), strings.Compare(a.Segment, b.Segment), strings.Compare(a.Kind, b.Kind),
	} {
		if c != 0 {
			return c
		}
	}
	return strings.Compare(a.Key, b.Key)
}

// weight is about what writing the cells takes of a change of state, bytes.
func (c counts) weight() (bytes int) {
	for cell := range c {
		bytes += len(cellPrefix) + len(cell.Period) + len(cell.Site) + len(cell.Segment) + len(cell.Kind) + len(cell.Key) + cellBytes + state.RowOverhead
	}
	return bytes
}

const cellBytes = 96 // separators, and nearly every encoded tally

// bothKey is the key of the touches of a device while it was a person's.
func bothKey(person, device subject.Subject) []byte {
	half := device.Derive(bothUse)
	return person.RowKey(bothTable, half[:16])
}

// sealBoth seals a row under both keys: whichever of the two is destroyed, it opens to nobody.
func sealBoth(person, device subject.Subject, key, plain []byte) []byte {
	return person.Seal(bothTable, key, device.Seal(bothTable, key, plain))
}

func openBoth(person, device subject.Subject, key, sealed []byte) ([]byte, error) {
	inner, err := person.Open(bothTable, key, sealed)
	if err != nil {
		return nil, err
	}
	return device.Open(bothTable, key, inner)
}

// readWith lists with whom a subject has rows.
func readWith(r state.Reader, s subject.Subject) ([]subject.Slot, error) {
	key := s.RowKey(withTable, nil)
	sealed, err := r.Get(key)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := s.Open(withTable, key, sealed)
	if err != nil {
		return nil, err
	}
	if len(plain)%4 != 0 {
		return nil, fmt.Errorf("%w: a list of slots", errStored)
	}
	slots := make([]subject.Slot, len(plain)/4)
	for i := range slots {
		slots[i] = subject.Slot(binary.BigEndian.Uint32(plain[4*i:]))
	}
	return slots, nil
}

func sealWith(s subject.Subject, key []byte, slots []subject.Slot) []byte {
	plain := make([]byte, 0, 4*len(slots))
	for _, slot := range slots {
		plain = binary.BigEndian.AppendUint32(plain, uint32(slot))
	}
	return s.Seal(withTable, key, plain)
}

// deletePrefix deletes rows below a prefix, as many as fit into one change; more says that some are left.
func deletePrefix(t *state.Txn, prefix string) (more bool, err error) {
	const rows = 2000
	var keys [][]byte
	err = t.Scan([]byte(prefix), func(key, _ []byte) error {
		if len(keys) == rows {
			more = true
			return state.ErrStop
		}
		keys = append(keys, key)
		return nil
	})
	for _, key := range keys {
		t.Delete(key)
	}
	return more, err
}

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
