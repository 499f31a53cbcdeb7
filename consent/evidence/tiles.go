package evidence

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The folder of an exported log, v1. Checkpoint, tiles and entry bundles are C2SP tlog-tiles; the two files about openings are ours.
//
//	checkpoint                    signed note, C2SP tlog-checkpoint
//	tile/<L>/<N>[.p/<W>]          256 (or W) hashes of level 8·L, 32 bytes each
//	tile/entries/<N>[.p/<W>]      256 (or W) entries, each uint16 big endian 32 ‖ leaf[32]
//	openings.ndjson               openings of leaves without a subject, a line each, by index ascending
//	openings.note                 signed note: how many openings there are and the hash of openings.ndjson
//
// <N> in groups of three digits, all but the last beginning with x: x001/x234/067.
const (
	checkpointFile   = "checkpoint"
	openingsFile     = "openings.ndjson"
	openingsNoteFile = "openings.note"

	tileHeight = 8
	tileWidth  = 1 << tileHeight

	entrySize = 2 + len(Leaf{}) // bytes of an entry in a bundle
)

// tilePath is the path of n-th tile of a level; width is tileWidth unless the tile is partial.
func tilePath(level int, n int64, width int) string {
	path := tlog.Tile{H: tileHeight, L: level, N: n, W: width}.Path()
	return "tile/" + strings.TrimPrefix(path, "tile/8/")
}

// bundlePath is the path of the n-th bundle of entries.
func bundlePath(n int64, width int) string {
	path := tlog.Tile{H: tileHeight, L: -1, N: n, W: width}.Path()
	return "tile/entries/" + strings.TrimPrefix(path, "tile/8/data/")
}

func appendBundle(bundle []byte, leaves []Leaf) []byte {
	for _, leaf := range leaves {
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(leaf)))
		bundle = append(bundle, leaf[:]...)
	}
	return bundle
}

// parseBundle reads a bundle that must hold exactly width entries.
func parseBundle(bundle []byte, width int) ([]Leaf, error) {
	if width < 1 || width > tileWidth || len(bundle) != width*entrySize {
		return nil, fmt.Errorf("%w: a bundle of another length than its %d entries", ErrFormat, width)
	}
	leaves := make([]Leaf, width)
	for i := range leaves {
		entry := bundle[i*entrySize : (i+1)*entrySize]
		if binary.BigEndian.Uint16(entry) != uint16(len(leaves[i])) {
			return nil, fmt.Errorf("%w: entry %d of a bundle is not 32 bytes long", ErrFormat, i)
		}
		copy(leaves[i][:], entry[2:])
	}
	return leaves, nil
}

// tiler cuts the hashes of a growing log into tiles: emit is called with the path and bytes of each tile, full ones as they
// fill up, partial ones at the end. It holds at most one unfinished tile a level.
type tiler struct {
	levels []unfinished
	emit   func(path string, tile []byte) error
}

type unfinished struct {
	n      int64 // tiles finished at this level
	hashes []tlog.Hash
}

// add appends the next hash of a level; level 0 has the Merkle leaf hashes.
func (t *tiler) add(level int, hash tlog.Hash) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, unfinished{})
	}
	u := &t.levels[level]
	u.hashes = append(u.hashes, hash)
	if len(u.hashes) < tileWidth {
		return nil
	}
	path, tile, root := tilePath(level, u.n, tileWidth), tileBytes(u.hashes), subtreeRoot(u.hashes)
	u.n, u.hashes = u.n+1, u.hashes[:0]
	if err := t.emit(path, tile); err != nil {
		return err
	}
	return t.add(level+1, root)
}

// finish emits the partial tiles. A partial tile is not hashed into the level above.
func (t *tiler) finish() error {
	for level, u := range t.levels {
		if len(u.hashes) == 0 {
			continue
		}
		if err := t.emit(tilePath(level, u.n, len(u.hashes)), tileBytes(u.hashes)); err != nil {
			return err
		}
	}
	return nil
}

func tileBytes(hashes []tlog.Hash) []byte {
	tile := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		tile = append(tile, h[:]...)
	}
	return tile
}

// subtreeRoot is the root over a power of two of hashes.
func subtreeRoot(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeRoot(hashes[:half]), subtreeRoot(hashes[half:]))
}
