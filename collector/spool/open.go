package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/octroi/octroi/pseudonymize"
)

// Open recovers the spool: a torn tail, which was never acknowledged, is cut off; damage before it is ErrDamaged with the segment's
// name and the offset. Of segments that have an index, only the index is read, so that a full spool opens fast: damage inside
// such a segment shows in Peek. ErrInUse while another has it open.
func Open(o Options) (*Spool, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("opening spool: %w", err)
	}
	root, err := openFolder(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening spool: %w", err)
	}
	lock, err := takeLock(root)
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening spool: %w", err)
	}
	s, err := start(o, folder{root})
	if err != nil {
		lock.Close()
		root.Close()
		return nil, fmt.Errorf("opening spool: %w", err)
	}
	s.closing = sync.OnceValue(func() error { return errors.Join(s.close(), lock.Close(), root.Close()) })
	return s, nil
}

// openFolder opens the directory, and makes it durably if it is not there.
func openFolder(dir string) (*os.Root, error) {
	if dir == "" {
		return nil, errors.New("no directory is given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	above, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(above.Sync(), above.Close()); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// start recovers what is on the disk, and starts the goroutines.
func start(o Options, d disk) (*Spool, error) {
	s := &Spool{
		o: o, disk: d,
		queue: queue{limit: o.QueueBytes, wake: make(chan struct{}, 1)},
		sweep: make(chan struct{}, 1),
		stop:  make(chan struct{}),
	}
	s.duplicates = duplicateKey(o.Key)
	s.names.New = func() any { return new([]byte) }
	s.sealers.New = func() any { return &pseudonymize.Sealer{None: o.Key} }
	w := &writer{s: s, window: newWindow(o.Window, o.WindowCount)}
	if err := w.recover(); err != nil {
		return nil, err
	}
	s.running.Add(2)
	go w.run()
	go s.sweeper()
	return s, nil
}

// recover rebuilds segments and window from the disk, in the order of positions, which is the order of time.
func (w *writer) recover() error {
	s := w.s
	// Names that a crash left without a synced directory must not vanish later.
	if err := s.disk.Sync(); err != nil {
		return err
	}
	segments, indexes, err := s.list()
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		if len(indexes) > 0 {
			return damaged(fileName(indexes[len(indexes)-1], indexSuffix), 0, "there is no segment after it")
		}
		f, err := createSegment(s.disk, 0)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		segments = []uint64{0}
	}
	for _, first := range indexes {
		if !slices.Contains(segments, first) {
			if err := w.recall(first, segments); err != nil {
				return err
			}
		}
	}
	for i, first := range segments[:len(segments)-1] {
		if err := w.recoverSealed(first, segments[i+1], segments[len(segments)-1]); err != nil {
			return err
		}
	}
	last := segments[len(segments)-1]
	if slices.Contains(indexes, last) {
		return damaged(fileName(last, indexSuffix), 0, "the segment after it is missing")
	}
	if err := w.recoverActive(last); err != nil {
		return err
	}
	w.clock = max(w.clock, s.o.Now().UnixMilli())
	w.window.expire(w.clock)
	s.figures = w.window.figures()
	return nil
}

// list gives the first positions of segments and of indexes, sorted, and deletes drafts.
func (s *Spool) list() (segments, indexes []uint64, err error) {
	names, err := s.disk.Names()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if first, ok := parseName(name, segmentSuffix); ok {
			segments = append(segments, first)
		}
		if first, ok := parseName(name, indexSuffix); ok {
			indexes = append(indexes, first)
		}
		if strings.HasSuffix(name, draftSuffix) {
			if err := s.disk.Remove(name); err != nil {
				return nil, nil, err
			}
		}
	}
	slices.Sort(segments)
	slices.SortFunc(indexes, cmp.Compare)
	return segments, indexes, nil
}

// recall takes the hashes of a deleted segment into the window.
func (w *writer) recall(first uint64, segments []uint64) error {
	name := fileName(first, indexSuffix)
	x, err := readIndex(w.s.disk, first)
	if errors.Is(err, errIndex) || errors.Is(err, errVersion) {
		return damaged(name, 0, err.Error())
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if x.end > segments[0] {
		return damaged(name, 0, "its segment is missing")
	}
	w.remember(x, segments[len(segments)-1])
	w.s.remembered = append(w.s.remembered, remembered{x.first, x.end, x.lastWritten})
	return nil
}

// remember adds an index's hashes to the window, as of the time of its last block: they stay a little longer than they must.
// last is where the last segment begins: hashes that the window has no room for are not even counted.
func (w *writer) remember(x *index, last uint64) {
	w.clock = max(w.clock, x.lastWritten)
	if last-x.end >= uint64(w.s.o.WindowCount) {
		w.window.skipped(x.lastWritten)
		return
	}
	for b := x.hashes; len(b) > 0; b = b[16:] {
		w.window.add(hash(b[:16]), w.clock)
	}
}

// recoverSealed takes in a segment that ends at end: from its index, or, where a crash or damage took that, from its blocks.
func (w *writer) recoverSealed(first, end, last uint64) error {
	d, name := w.s.disk, fileName(first, segmentSuffix)
	x, err := readIndex(d, first)
	indexed := err == nil
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errIndex):
		if x, err = makeIndex(d, first, end); err != nil {
			return err
		}
	case errors.Is(err, errVersion):
		return damaged(fileName(first, indexSuffix), 0, err.Error())
	case err != nil:
		return fmt.Errorf("reading index of %s: %w", name, err)
	}
	f, err := d.Open(name, false)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if x.end != end || size < x.length {
		return damaged(name, size, "records are missing before the next segment")
	}
	w.remember(x, last)
	w.s.live.Add(x.length)
	w.s.segments = append(w.s.segments, &segment{first: first, content: x.content, indexed: indexed})
	return nil
}

// recoverActive takes in the last segment, cuts off its torn tail, and makes its last block durable: if the process died before its
// fsync, or the fsync failed, it is here now and would be called a duplicate, so it must stay.
func (w *writer) recoverActive(first uint64) error {
	s, name := w.s, fileName(first, segmentSuffix)
	f, err := s.disk.Open(name, true)
	if err != nil {
		return err
	}
	c, err := scan(f, name, first, nil, func(h hash, written int64) {
		w.clock = max(w.clock, written)
		w.window.add(h, w.clock)
	})
	if err == nil {
		err = w.settle(f, c)
	}
	if err != nil {
		f.Close()
		return err
	}
	w.file, w.room, w.active = f, c.length, &segment{first: first, content: c}
	s.live.Add(c.length)
	s.segments = append(s.segments, w.active)
	return nil
}

// settle cuts off what lies beyond c, and writes c's last block once more: only a page that is dirty again is sure to be synced.
func (w *writer) settle(f file, c content) error {
	w.s.cut = c.torn
	if err := f.Truncate(c.length); err != nil {
		return err
	}
	last := make([]byte, c.length-c.lastOffset)
	if len(last) > 0 {
		if _, err := f.ReadAt(last, c.lastOffset); err != nil {
			return err
		}
		if _, err := f.WriteAt(last, c.lastOffset); err != nil {
			return err
		}
	}
	return f.Sync()
}
