package export

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/octroi/octroi/policies"
)

// The bounds of notices. An object is one change of state until it is published, so it stays well below state.MaxChangeBytes.
const (
	NoticesMax    = 768 << 10 // bytes of a notice object
	NoticeBatches = 10_000    // batches of one notice: 350 KB; a subject with more is told in several
)

// noticesMagic begins a notice object, version 1 (integers big endian):
//
//	object   "OCTN" ‖ 0x01 ‖ notice*                 at least one, at most NoticesMax bytes in all
//	notice   length (4) ‖ age file of that length    encrypted to the destination alone
//	plain    Notice as JSON
var noticesMagic = []byte("OCTN\x01")

// SealNotice encrypts n to the destination alone (the first of r), not to E and R. ErrEntry where n is not what OpenNotices takes.
func SealNotice(n Notice, r Recipients) ([]byte, error) {
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("sealing notice: %w", err)
	}
	plain, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("sealing notice: %w", err)
	}
	var out bytes.Buffer
	w, err := Seal(&out, r.destination())
	if err != nil {
		return nil, fmt.Errorf("sealing notice: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("sealing notice: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing notice: %w", err)
	}
	if len(noticesMagic)+4+out.Len() > NoticesMax {
		return nil, fmt.Errorf("sealing notice: %w: it takes %d bytes, more than an object of %d holds", ErrEntry, out.Len(), NoticesMax)
	}
	return out.Bytes(), nil
}

// PackNotices makes the bytes of a notice object of sealed notices; OpenNotices reads them. The caller keeps it within NoticesMax: each
// notice adds 4 bytes to its own, all of them 5.
func PackNotices(sealed [][]byte) []byte {
	object := bytes.Clone(noticesMagic)
	for _, s := range sealed {
		object = binary.BigEndian.AppendUint32(object, uint32(len(s)))
		object = append(object, s...)
	}
	return object
}

// eachNotice calls fn for each sealed notice of an object.
func eachNotice(object []byte, fn func(sealed []byte) error) error {
	rest, ok := bytes.CutPrefix(object, noticesMagic)
	if !ok || len(object) > NoticesMax {
		return fmt.Errorf("%w: no notice object of version 1, or more than %d bytes", ErrEntry, NoticesMax)
	}
	for first := true; first || len(rest) > 0; first = false {
		if len(rest) < 4 {
			return fmt.Errorf("%w: notice object is cut short", ErrEntry)
		}
		length := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; length == 0 || uint64(length) > uint64(len(rest)) {
			return fmt.Errorf("%w: notice object is cut short", ErrEntry)
		}
		if err := fn(rest[:length]); err != nil {
			return err
		}
		rest = rest[length:]
	}
	return nil
}

// OpenNotices opens every notice of an object. It bounds counts and sizes; ErrIdentity, ErrSeal, ErrEntry.
func OpenNotices(object []byte, ids Identities) (all []Notice, err error) {
	err = eachNotice(object, func(sealed []byte) error {
		r, err := Unseal(bytes.NewReader(sealed), ids)
		if err != nil {
			return err
		}
		plain, err := io.ReadAll(r) // never longer than what was sealed
		if err != nil {
			return err
		}
		n, err := parseNotice(plain)
		all = append(all, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening notices: %w", err)
	}
	return all, nil
}

// parseNotice reads one notice strictly. Its errors quote nothing of it.
func parseNotice(plain []byte) (n Notice, err error) {
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return Notice{}, fmt.Errorf("%w: notice is not JSON of version 1", ErrEntry)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Notice{}, fmt.Errorf("%w: something follows the notice", ErrEntry)
	}
	return n, n.check()
}

func (n *Notice) check() error {
	if _, err := CutOf(*n); err != nil {
		return err
	}
	if len(n.Batches) > NoticeBatches {
		return fmt.Errorf("%w: notice of more than %d batches", ErrEntry, NoticeBatches)
	}
	for _, id := range n.Batches {
		if !batchID.MatchString(id) {
			return fmt.Errorf("%w: batch id in a notice", ErrEntry)
		}
	}
	for _, fields := range n.Rules {
		for _, t := range fields {
			if t != policies.Drop && t.Reveals() == 0 {
				return fmt.Errorf("%w: unknown treatment in a notice", ErrEntry)
			}
		}
	}
	return nil
}
