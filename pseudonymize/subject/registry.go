package subject

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/octroi/octroi/consent/state"
)

// Options configure OpenRegistry.
type Options struct {
	State     *state.Store
	SlotFile  string // path; its folder must exist
	LookupKey []byte // 32 bytes
	// SuppressionKey, 32 bytes, is what erased subjects are remembered under. None: Mark, Suppress and Find are ErrSuppressionKey. A state
	// that was opened with one never opens with another or with none: the erased would come back.
	SuppressionKey []byte
	CacheSize      int // tags kept in memory, at least 1024; default 2,000,000, which take 100 MiB when they are all there
}

// defaultCacheSize keeps 2 million tags.
const defaultCacheSize = 2_000_000

// Registry finds, creates and destroys subjects. Safe for concurrent use.
type Registry struct {
	state       *state.Store
	slots       *slotFile
	tags        *tagTable
	tagger      *tagger
	lookupCheck [16]byte  // says which lookup key it is
	suppression *[32]byte // nil: none
}

// OpenRegistry opens the slot file, or creates it where state never had one. It repairs what a crash leaves (an unfinished chunk at the
// end; a shredding between its steps) and refuses everything else: ErrDamaged with the slot's number; ErrSlotFile where the file is missing or is
// another state's; ErrLookupKey where state was made with another key.
func OpenRegistry(o Options) (*Registry, error) {
	if len(o.LookupKey) != 32 {
		return nil, fmt.Errorf("opening subjects: lookup key has %d bytes, needs 32", len(o.LookupKey))
	}
	if o.CacheSize == 0 {
		o.CacheSize = defaultCacheSize
	}
	if n := len(o.SuppressionKey); n != 0 && n != 32 {
		return nil, fmt.Errorf("opening subjects: suppression key has %d bytes, needs 32: %w", n, ErrSuppressionKey)
	}
	key := [32]byte(o.LookupKey)
	r := &Registry{
		state: o.State, tags: newTagTable(o.CacheSize), tagger: newTagger(&key), lookupCheck: keyCheck(&key, lookupCheckUse),
	}
	if o.SuppressionKey != nil {
		own := [32]byte(o.SuppressionKey)
		r.suppression = &own
	}
	var h *home
	var known knownSlots
	err := o.State.View(func(v state.Reader) (err error) {
		if h, err = readHome(v); err == nil {
			known, err = readKnown(v)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening subjects: %w", err)
	}
	if h != nil && h.lookup != r.lookupCheck {
		return nil, fmt.Errorf("opening subjects: %w: put the key file of this state in place", ErrLookupKey)
	}
	if err := r.openSlots(o.SlotFile, h, known); err != nil {
		return nil, fmt.Errorf("opening subjects: %w", err)
	}
	if err := errors.Join(r.settle(h == nil, known), r.bindSuppression()); err != nil {
		return nil, fmt.Errorf("opening subjects: %w", errors.Join(err, r.Close()))
	}
	return r, nil
}

// openSlots opens the slot file at path and compares it with the home row.
func (r *Registry) openSlots(path string, h *home, known knownSlots) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if h != nil {
			return fmt.Errorf("%w: %q is missing, and without it no subject of this state can be read: put its newest copy in place, or start with an empty state",
				ErrSlotFile, path)
		}
		if err := createSlotFile(path); err != nil {
			return err
		}
		file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return fmt.Errorf("opening slot file: %w", err)
	}
	if err := r.readSlots(file, h, known); err != nil {
		return fmt.Errorf("%q: %w", path, errors.Join(err, file.Close()))
	}
	return nil
}

func (r *Registry) readSlots(file *os.File, h *home, known knownSlots) error {
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	s := &slotFile{file: file}
	if err := s.readHeader(stat.Size()); err != nil {
		return err
	}
	// Before the chunks are read: reading them may cut one off, and another state's file is not ours to cut.
	switch {
	case h != nil && h.file != s.id:
		return fmt.Errorf("%w: the file is another state's: put this state's newest copy in place", ErrSlotFile)
	case h == nil && stat.Size() > headerSize:
		return fmt.Errorf("%w: the state is new and the file holds keys: restore the state, or move the file away", ErrSlotFile)
	}
	r.slots = s
	return s.readChunks(stat.Size(), known)
}

// settle writes the home row of a new state and ends the shreddings that a crash cut short.
func (r *Registry) settle(fresh bool, known knownSlots) error {
	if fresh {
		err := r.state.Update(context.Background(), func(t *state.Txn) error {
			t.Set([]byte(homeKey), encodeHome(home{r.slots.id, r.lookupCheck}))
			return nil
		})
		if err != nil {
			return err
		}
	}
	for slot := range known.shredding {
		if err := r.finishShred(context.Background(), slot); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the slot file. Lookups go on for as long as the state is open; creating and shredding fail.
func (r *Registry) Close() error {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	return r.slots.file.Close()
}

// Device finds the subject of a credential: ErrUnknown, or the subject. Any other error means that state or slot file could not
// answer. It allocates nothing for a device that is in memory.
func (r *Registry) Device(c Credential) (Subject, error) { return r.find(r.TagOf(c)) }

// Person finds the subject that the identifiers name: ErrUnknown where none of them is known, ErrTwoPersons where two are known as two
// subjects, who are never joined. Identifiers that nobody has are passed over.
func (r *Registry) Person(ids ...Identifier) (Subject, error) {
	var person Subject
	for _, id := range ids {
		if id.namespace == 0 {
			return Subject{}, fmt.Errorf("finding a person: the zero identifier: %w", ErrIdentifier)
		}
		s, err := r.find(r.Tag(id))
		switch {
		case errors.Is(err, ErrUnknown):
			continue
		case err != nil:
			return Subject{}, err
		case person.Exists() && person.slot != s.slot:
			return Subject{}, ErrTwoPersons
		}
		person = s
	}
	if !person.Exists() {
		return Subject{}, ErrUnknown
	}
	return person, nil
}

// find is the subject of a tag, from memory or from state.
func (r *Registry) find(tag Tag) (Subject, error) {
	if slot, ok := r.tags.get(tag); ok {
		if s, err := r.slots.keys.get(slot); err == nil {
			return s, nil
		}
		r.tags.forget(tag) // a late reader put a shredded subject's tag back
	}
	return r.findStored(tag)
}

func (r *Registry) findStored(tag Tag) (s Subject, err error) {
	err = r.state.View(func(v state.Reader) error {
		s, err = r.readTag(v, tag)
		return err
	})
	if err != nil {
		return Subject{}, err
	}
	r.tags.fill(tag, s.slot)
	return s, nil
}

// BySlot is the subject of a slot: ErrShredded when it was overwritten, ErrUnknown when it was never given out. It takes no lock
// and allocates nothing.
func (r *Registry) BySlot(slot Slot) (Subject, error) { return r.slots.keys.get(slot) }

// Count is the number of slots ever given out, those of changes that failed included.
func (r *Registry) Count() int { return r.slots.keys.given() }
