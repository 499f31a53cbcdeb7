package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// copyTries is how often a chunk is read again when one of its slots does not read: it may be being overwritten at that moment.
const copyTries = 3

// CopySlots writes a copy of the slot file to w, beside running changes: a file that OpenRegistry takes with the state of that moment, and with any
// copy of state that was made before. It holds every subject's key: w must encrypt. A slot whose shredding has begun is shredded in the copy. Copies
// made earlier still hold its key: an erasure is complete when the last of them is gone (rights.md "Erasure", 3).
func (r *Registry) CopySlots(ctx context.Context, w io.Writer) error {
	s := r.slots
	s.mu.Lock()
	chunks := s.keys.chunks // each is durable; what grows from now on, no state knows yet that was copied before
	s.mu.Unlock()

	buf := make([]byte, chunkSize)
	defer clear(buf)
	if _, err := s.file.ReadAt(buf[:headerSize], 0); err != nil {
		return fmt.Errorf("copying slot file: %w", err)
	}
	if _, err := w.Write(buf[:headerSize]); err != nil {
		return fmt.Errorf("copying slot file: %w", err)
	}
	for number := range chunks {
		err := ctx.Err()
		if err == nil {
			err = s.readChunk(number, buf)
		}
		if err == nil {
			_, err = w.Write(buf)
		}
		if err != nil {
			return fmt.Errorf("copying slot file: %w", err)
		}
	}
	return nil
}

// readChunk reads a chunk as its copy is to be.
func (s *slotFile) readChunk(number uint32, buf []byte) error {
	for try := 1; ; try++ {
		if _, err := s.file.ReadAt(buf, chunkOffset(number)); err != nil {
			return err
		}
		damaged := Slot(0)
		for i := range uint32(chunkSlots) {
			slot, b := slotIn(number, i, buf)
			if _, err := s.keys.get(slot); errors.Is(err, ErrShredded) {
				encodeSlot(b, slot, slotShredded, new([32]byte))
			}
			if _, ok := checkSlot(slot, b); !ok {
				damaged = slot
			}
		}
		if damaged == 0 {
			return nil
		}
		if try == copyTries {
			return fmt.Errorf("slot %d: %w", damaged, ErrDamaged)
		}
	}
}
