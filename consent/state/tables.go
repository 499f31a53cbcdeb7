package state

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// examineTables checks every block of every table and returns the number of the last group in them. Badger itself would end the process over
// some broken tables, and its iterators pass over a block that does not read as if its rows did not exist.
func examineTables(dir string, registry *badger.KeyRegistry) (last uint64, err error) {
	manifest, err := readManifest(dir)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex // guards last
	var checks errgroup.Group
	checks.SetLimit(runtime.GOMAXPROCS(0))
	for id, t := range manifest.Tables {
		checks.Go(func() error {
			name := table.IDToFilename(id)
			key, err := registry.DataKey(t.KeyID)
			if err != nil || key == nil || t.Compression != options.None {
				return fmt.Errorf("%s: %w: its data key is unknown", name, ErrDamaged)
			}
			version, err := checkTable(filepath.Join(dir, name), key)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			last = max(last, version)
			return nil
		})
	}
	return last, checks.Wait()
}

// readManifest reads Badger's list of tables.
func readManifest(dir string) (m badger.Manifest, err error) {
	defer broken(&err, badger.ManifestFilename)
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return m, fmt.Errorf("%s: %w: it is missing", badger.ManifestFilename, ErrDamaged)
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	m, _, err = badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return m, fmt.Errorf("%s: %w", badger.ManifestFilename, ErrDamaged)
	}
	return m, nil
}

// broken turns a panic over a broken file into ErrDamaged.
func broken(err *error, name string) {
	if recover() != nil {
		*err = fmt.Errorf("%s: %w", name, ErrDamaged)
	}
}

// checkTable reads a table of Badger v4 as far as its checksums and returns the number of the last group in it:
//
//	blocks ‖ index ‖ u32 length of index ‖ checksum of index ‖ u32 length of checksum
//
// where index and blocks are AES-CTR(…) ‖ IV[16], and a block in plain is rows ‖ … ‖ checksum of what is before it ‖ u32 length of checksum.
func checkTable(path string, key *pb.DataKey) (version uint64, err error) {
	defer broken(&err, "its form")
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a disk that does not give a page of the mapping
	content, unmap, err := mapped(path)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer unmap()
	block, err := aes.NewCipher(key.Data)
	if err != nil {
		return 0, fmt.Errorf("%w: its data key", ErrDamaged)
	}
	rest, sum, ok := cutSized(content)
	if !ok {
		return 0, ErrDamaged
	}
	_, index, ok := cutSized(rest)
	if !ok || !sumsTo(index, sum) {
		return 0, fmt.Errorf("%w: its index", ErrDamaged)
	}
	tree := fb.GetRootAsTableIndex(decrypted(nil, index, block), 0)
	var plain []byte
	for i := range tree.OffsetsLength() {
		var at fb.BlockOffset
		if !tree.Offsets(&at, i) {
			return 0, fmt.Errorf("%w: its index", ErrDamaged)
		}
		plain = decrypted(plain, content[at.Offset():at.Offset()+at.Len()], block)
		body, sum, ok := cutSized(plain)
		if !ok || !sumsTo(body, sum) {
			return 0, fmt.Errorf("%w: block %d", ErrDamaged, i)
		}
	}
	return tree.MaxVersion(), nil
}

// mapped is the bytes of a file, which stay on disk.
func mapped(path string) (content []byte, unmap func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if content, err = unix.Mmap(int(f.Fd()), 0, int(stat.Size()), unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
		return nil, nil, fmt.Errorf("mapping %d bytes: %w", stat.Size(), err)
	}
	return content, func() error { return unix.Munmap(content) }, nil
}

// cutSized cuts a part off the end of content whose length stands behind it as u32.
func cutSized(content []byte) (rest, part []byte, ok bool) {
	end := len(content) - 4
	if end < 0 {
		return nil, nil, false
	}
	start := end - int(binary.BigEndian.Uint32(content[end:]))
	if start < 0 {
		return nil, nil, false
	}
	return content[:start], content[start:end], true
}

func sumsTo(content, sum []byte) bool {
	var want pb.Checksum
	return proto.Unmarshal(sum, &want) == nil && y.VerifyChecksum(content, &want) == nil
}

// decrypted decrypts what is followed by its IV, into buffer if it is large enough. It panics where there is no IV.
func decrypted(buffer, sealed []byte, block cipher.Block) []byte {
	end := len(sealed) - aes.BlockSize
	buffer = slices.Grow(buffer[:0], end)[:end]
	cipher.NewCTR(block, sealed[end:]).XORKeyStream(buffer, sealed[:end])
	return buffer
}

// examineEmpty checks what the store never fills: the value log holds its header (u64 data key id ‖ IV[12]) and the list of what may be
// discarded from it nothing.
func examineEmpty(dir string, registry *badger.KeyRegistry) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		header := 0
		switch {
		case strings.HasSuffix(entry.Name(), ".vlog"):
			header = logHeader
		case entry.Name() != "DISCARD":
			continue
		}
		content, err := readData(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		size := len(content)
		content = withoutZeros(content)
		if len(content) == 0 {
			continue
		}
		if size < header || len(content) > header {
			return fmt.Errorf("%s: %w: it is not empty", entry.Name(), ErrDamaged)
		}
		if key, err := registry.DataKey(binary.BigEndian.Uint64(append(content, make([]byte, 8)...))); err != nil || key == nil {
			return fmt.Errorf("%s: %w: its data key is unknown", entry.Name(), ErrDamaged)
		}
	}
	return nil
}
