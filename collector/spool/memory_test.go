package spool

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// memory is a disk that knows what would survive a power cut: contents as of their last sync, and names as of the last sync of
// the directory; of what came after, crash keeps as much as it is told. It fails on demand.
type memory struct {
	mu      sync.Mutex
	names   map[string]*inode
	durable map[string]*inode
	// fail is asked before each operation: create, open, rename, remove, syncdir, write, sync, truncate. nil: nothing fails.
	fail atomic.Pointer[func(operation string) error]
}

// inode is a file: data is what reads see, durable what the disk has, dirty what lies between. A failed sync forgets what was
// dirty and keeps showing it, as the kernel does: a second sync would succeed and prove nothing.
type inode struct {
	data, durable []byte
	dirty         []change
}

// change is a write, or a truncation where bytes is nil.
type change struct {
	offset int
	bytes  []byte
}

func (c change) apply(data []byte) []byte {
	if c.bytes == nil {
		return append([]byte(nil), data[:min(c.offset, len(data))]...)
	}
	if grow := c.offset + len(c.bytes) - len(data); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[c.offset:], c.bytes)
	return data
}

func newMemory() *memory {
	return &memory{names: make(map[string]*inode), durable: make(map[string]*inode)}
}

func (m *memory) asked(operation string) error {
	if fail := m.fail.Load(); fail != nil {
		return (*fail)(operation)
	}
	return nil
}

// failWith makes operations fail as fail says from now on; nil: none.
func (m *memory) failWith(fail func(operation string) error) {
	if fail == nil {
		m.fail.Store(nil)
		return
	}
	m.fail.Store(&fail)
}

func (m *memory) Create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("create"); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	m.names[name] = n
	return &memoryFile{disk: m, inode: n}, nil
}

func (m *memory) Open(name string, _ bool) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("open"); err != nil {
		return nil, err
	}
	if m.names[name] == nil {
		return nil, fs.ErrNotExist
	}
	return &memoryFile{disk: m, inode: m.names[name]}, nil
}

func (m *memory) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("rename"); err != nil {
		return err
	}
	if m.names[from] == nil {
		return fs.ErrNotExist
	}
	m.names[to] = m.names[from]
	delete(m.names, from)
	return nil
}

func (m *memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	if err := m.asked("remove"); err != nil {
		return err
	}
	delete(m.names, name)
	return nil
}

func (m *memory) Names() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.names)), nil
}

func (m *memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("syncdir"); err != nil {
		return err
	}
	m.durable = maps.Clone(m.names)
	return nil
}

// crash gives the disk that is found after the power comes back. survives says of each name that was changed since the last sync of
// the directory whether the change reached the disk: file systems keep no order there. torn gives, for an unsynced write, the
// number of its bytes that did.
func (m *memory) crash(survives func() bool, torn func(n int) int) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory()
	names := maps.Clone(m.durable)
	maps.Copy(names, m.names)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := m.durable[name]
		if n != m.names[name] && survives() {
			n = m.names[name]
		}
		if n != nil {
			data := n.left(torn)
			after.names[name] = &inode{data: data, durable: slices.Clone(data)}
		}
	}
	after.durable = maps.Clone(after.names)
	return after
}

// left is the synced content and what reached the disk of the changes since.
func (n *inode) left(torn func(n int) int) []byte {
	data := slices.Clone(n.durable)
	for _, c := range n.dirty {
		if c.bytes == nil {
			data = c.apply(data)
			continue
		}
		k := torn(len(c.bytes))
		data = change{c.offset, c.bytes[:k:k]}.apply(data)
		if k < len(c.bytes) {
			break
		}
	}
	return data
}

type memoryFile struct {
	disk  *memory
	inode *inode
}

func (f *memoryFile) ReadAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if offset >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.asked("write")
	if err != nil {
		p = p[:len(p)/2] // as a full disk does
	}
	f.inode.change(change{int(offset), append([]byte{}, p...)})
	return len(p), err
}

func (f *memoryFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.asked("truncate"); err != nil {
		return err
	}
	f.inode.change(change{offset: int(size)})
	return nil
}

func (n *inode) change(c change) {
	n.data = c.apply(n.data)
	n.dirty = append(n.dirty, c)
}

func (f *memoryFile) Sync() error {
	err := f.disk.asked("sync") // may wait, and readers must not
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err == nil {
		for _, c := range f.inode.dirty {
			f.inode.durable = c.apply(f.inode.durable)
		}
	}
	f.inode.dirty = nil
	return err
}

func (f *memoryFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.inode.data)), nil
}

func (f *memoryFile) Close() error { return nil }

var errDisk = errors.New("disk says no")

// noRoom fails the given operations as a full disk does.
func noRoom(operations ...string) func(string) error { return failing(syscall.ENOSPC, operations...) }

func failing(err error, operations ...string) func(string) error {
	return func(operation string) error {
		if slices.Contains(operations, operation) {
			return err
		}
		return nil
	}
}
