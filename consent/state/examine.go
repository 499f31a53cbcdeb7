package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sys/unix"
)

// examine checks the files of a database before Badger, which would repair what it does not understand by cutting it off. Groups are
// numbered without gaps: the tables hold the first ones, the logs of memtables the rest, oldest log first. Only the group that was
// being written at a crash may be incomplete: at the end of the newest log, and later than the last that was acknowledged. Anything else
// that does not read is damage, and the files stay as they are. It reads everything once, on all processors.
func examine(dir string, key []byte, acknowledged uint64) error {
	registry, err := openRegistry(dir, key)
	if err != nil {
		return err
	}
	if err := examineEmpty(dir, registry); err != nil {
		return err
	}
	last, err := examineTables(dir, registry)
	if err != nil {
		return err
	}
	logs, err := logFiles(dir)
	if err != nil {
		return err
	}
	for i, name := range logs {
		l, err := readLog(filepath.Join(dir, name), registry)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if l.first > last+1 {
			return fmt.Errorf("%s: %w: groups are missing before it", name, ErrDamaged)
		}
		if l.torn && i < len(logs)-1 {
			return fmt.Errorf("%s: %w: it does not read to its end", name, ErrDamaged)
		}
		last = max(last, l.last)
	}
	if last < acknowledged {
		return fmt.Errorf("%w: it reads to group %d, but group %d was acknowledged", ErrDamaged, last, acknowledged)
	}
	return nil
}

// logFiles lists the logs of Badger's memtables, oldest first: <number>.mem.
func logFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	var names []string
	for _, entry := range entries {
		digits, ok := strings.CutSuffix(entry.Name(), ".mem")
		if !ok {
			continue
		}
		number, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("%w: the file %q does not belong there", ErrDamaged, entry.Name())
		}
		names = append(names, entry.Name())
		numbers[entry.Name()] = number
	}
	slices.SortFunc(names, func(a, b string) int { return numbers[a] - numbers[b] })
	return names, nil
}

// openRegistry opens the file of data keys, which are sealed under the state key.
func openRegistry(dir string, key []byte) (registry *badger.KeyRegistry, err error) {
	defer broken(&err, badger.KeyRegistryFileName)
	registry, err = badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	switch {
	case errors.Is(err, badger.ErrEncryptionKeyMismatch):
		return nil, ErrKey
	case err != nil:
		return nil, fmt.Errorf("%s: %w", badger.KeyRegistryFileName, ErrDamaged)
	}
	return registry, nil
}

// logExtent is what a log holds: the groups first to last (0: none), and whether anything stands behind them that does not read.
type logExtent struct {
	first, last uint64
	torn        bool
}

// Badger v4's log of a memtable: u64 data key id ‖ IV[12], then entries: meta ‖ user meta ‖ uvarint key length ‖ uvarint value
// length ‖ uvarint expiry ‖ AES-CTR(key ‖ value) under the IV ‖ u32 offset ‖ u32 CRC-32C of all before. A group's entries end with one whose
// meta has logGroupEnd and whose value is the group's number in decimal. The file is zero from there on.
const (
	logHeader   = 20
	logGroupEnd = 1 << 7
)

func readLog(path string, registry *badger.KeyRegistry) (l logExtent, err error) {
	log, err := readData(path)
	if err != nil {
		return l, err
	}
	used := len(withoutZeros(log))
	if used == 0 {
		return l, nil // made, and not yet written to
	}
	if len(log) < logHeader {
		return l, fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	dataKey, err := registry.DataKey(binary.BigEndian.Uint64(log))
	if err != nil || dataKey == nil {
		return l, fmt.Errorf("%w: its data key is unknown", ErrDamaged)
	}
	end := logHeader // of the last whole group
	for at := end; ; {
		e, ok := parseEntry(log, at)
		if !ok {
			break
		}
		at = e.end
		if e.meta&logGroupEnd == 0 {
			continue
		}
		number, ok := e.groupNumber(log, dataKey)
		if !ok || l.first != 0 && number != l.last+1 {
			break
		}
		if l.first == 0 {
			l.first = number
		}
		l.last, end = number, at
	}
	l.torn = end < used
	return l, nil
}

// readData reads a file to the end of its last data; what follows is a hole.
func readData(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end := int64(0)
	for end < stat.Size() {
		data, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) { // lseek(2): no data beyond
			break
		}
		hole, err2 := f.Seek(data, unix.SEEK_HOLE)
		if err != nil || err2 != nil {
			end = stat.Size() // a file system that cannot tell
			break
		}
		end = hole
	}
	end = min(end+64, stat.Size()) // a copy may have made a hole of a checksum's last zeros
	content := make([]byte, end)
	_, err = f.ReadAt(content, 0)
	return content, err
}

// withoutZeros cuts the zeros off the end.
func withoutZeros(content []byte) []byte {
	var zeros [4096]byte
	for len(content) >= len(zeros) && bytes.Equal(content[len(content)-len(zeros):], zeros[:]) {
		content = content[:len(content)-len(zeros)]
	}
	return bytes.TrimRight(content, "\x00")
}

// logEntry is where an entry of a log lies.
type logEntry struct {
	meta                   byte
	start, key, value, end int // offsets; end is behind the checksum
}

// parseEntry reads the entry at an offset; false where none stands or it does not read.
func parseEntry(log []byte, at int) (logEntry, bool) {
	if len(log)-at < 2 {
		return logEntry{}, false
	}
	lengths := [3]uint64{} // of key, of value; expiry
	next := at + 2
	for i := range lengths {
		n, size := binary.Uvarint(log[next:])
		if size <= 0 {
			return logEntry{}, false
		}
		lengths[i], next = n, next+size
	}
	left := uint64(len(log) - next)
	if lengths[0] == 0 || lengths[0] > 1<<16 || lengths[1] > left || lengths[0]+lengths[1]+crc32.Size > left {
		return logEntry{}, false
	}
	e := logEntry{meta: log[at], start: at, key: next, value: next + int(lengths[0])}
	sum := e.value + int(lengths[1])
	e.end = sum + crc32.Size
	return e, crc32.Checksum(log[at:sum], castagnoli) == binary.BigEndian.Uint32(log[sum:])
}

// groupNumber reads the value of an entry that ends a group.
func (e logEntry) groupNumber(log []byte, key *pb.DataKey) (uint64, bool) {
	iv := binary.BigEndian.AppendUint32(bytes.Clone(log[8:logHeader]), uint32(e.start))
	plain, err := y.XORBlockAllocate(log[e.key:e.end-crc32.Size], key.Data, iv)
	if err != nil {
		return 0, false
	}
	number, err := strconv.ParseUint(string(plain[e.value-e.key:]), 10, 64)
	return number, err == nil && number > 0
}
