package evidence

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
)

// openingLine is a line of openings.ndjson: the index of the leaf, then the opening as openingJSON spells it, without white space.
type openingLine struct {
	Index int64 `json:"index"`
	openingJSON
}

func writeOpening(index int64, o Opening) ([]byte, error) {
	line, err := json.Marshal(openingLine{Index: index, openingJSON: o.wire()})
	if err != nil {
		return nil, fmt.Errorf("writing opening: %w", err)
	}
	return append(line, '\n'), nil
}

// parseOpening reads a line of openings.ndjson, its newline included, and refuses every other spelling than writeOpening's.
func parseOpening(line []byte) (index int64, o Opening, err error) {
	var read openingLine
	if err := json.Unmarshal(line, &read); err != nil {
		return 0, Opening{}, fmt.Errorf("%w: an opening is not JSON of the expected form", ErrFormat)
	}
	if o, err = read.opening(); err != nil {
		return 0, Opening{}, err
	}
	again, err := writeOpening(read.Index, o)
	if err != nil {
		return 0, Opening{}, err
	}
	if read.Index < 0 || !bytes.Equal(again, line) {
		return 0, Opening{}, fmt.Errorf("%w: an opening spelled otherwise than it is written", ErrFormat)
	}
	return read.Index, o, nil
}

// openingsDigest is what openings.note signs. Nothing in a Merkle log says which leaves have a subject: without this a line
// could vanish from openings.ndjson unseen.
//
//	octroi openings v1 <origin>\n<size of the log>\n<number of openings>\n<SHA-256 of openings.ndjson, base64>\n
//
// The first line holds spaces, which no origin may, so that no such note is ever a checkpoint.
type openingsDigest struct {
	size, count int64
	sum         hash.Hash // of the bytes of openings.ndjson
}

func (d *openingsDigest) text(origin string) string {
	return "octroi openings v1 " + origin + "\n" + strconv.FormatInt(d.size, 10) + "\n" + strconv.FormatInt(d.count, 10) + "\n" +
		base64.StdEncoding.EncodeToString(d.sum.Sum(nil)) + "\n"
}

// maxOpening bounds a line of openings.ndjson, in bytes.
const maxOpening = 8 << 20

// readOpenings reads a whole openings.ndjson of a log of size leaves.
func readOpenings(r io.Reader, size int64) (map[int64]Opening, *openingsDigest, error) {
	openings, digest := map[int64]Opening{}, &openingsDigest{size: size, sum: sha256.New()}
	lines := bufio.NewReaderSize(io.TeeReader(r, digest.sum), 1<<16)
	last := int64(-1)
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return openings, digest, nil
		}
		if err != nil {
			return nil, nil, err
		}
		index, o, err := parseOpening(line)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", digest.count+1, err)
		}
		if index <= last || index >= size {
			return nil, nil, fmt.Errorf("line %d: %w: index out of order or beyond the log", digest.count+1, ErrFormat)
		}
		openings[index], last = o, index
		digest.count++
	}
}

// readLine reads a line with its newline; io.EOF only where there is nothing left.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxOpening:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%w: a line longer than %d bytes", ErrFormat, maxOpening)
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, fmt.Errorf("%w: the last line has no end", ErrFormat)
		default:
			return nil, err
		}
	}
}
