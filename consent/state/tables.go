package state

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sync/errgroup"
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
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	rest, sum, ok := cutSized(content)
	if !ok {
		return 0, ErrDamaged
	}
	_, index, ok := cutSized(rest)
	if !ok || !sumsTo(index, sum) {
		return 0, fmt.Errorf("%w: its index", ErrDamaged)
	}
	if index, err = decrypted(index, key); err != nil {
		return 0, err
	}
	tree := fb.GetRootAsTableIndex(index, 0)
	for i := range tree.OffsetsLength() {
		var at fb.BlockOffset
		if !tree.Offsets(&at, i) {
			return 0, fmt.Errorf("%w: its index", ErrDamaged)
		}
		block, err := decrypted(content[at.Offset():at.Offset()+at.Len()], key)
		if err != nil {
			return 0, err
		}
		body, sum, ok := cutSized(block)
		if !ok || !sumsTo(body, sum) {
			return 0, fmt.Errorf("%w: block %d", ErrDamaged, i)
		}
	}
	return tree.MaxVersion(), nil
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

func decrypted(sealed []byte, key *pb.DataKey) ([]byte, error) {
	end := len(sealed) - aes.BlockSize
	if end < 0 {
		return nil, ErrDamaged
	}
	plain, err := y.XORBlockAllocate(sealed[:end], key.Data, sealed[end:])
	if err != nil {
		return nil, fmt.Errorf("%w: its data key", ErrDamaged)
	}
	return plain, nil
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
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		if len(bytes.Trim(content, "\x00")) == 0 {
			continue
		}
		if header == 0 || len(content) < header || len(bytes.TrimRight(content[header:], "\x00")) != 0 {
			return fmt.Errorf("%s: %w: it is not empty", entry.Name(), ErrDamaged)
		}
		if key, err := registry.DataKey(binary.BigEndian.Uint64(content)); err != nil || key == nil {
			return fmt.Errorf("%s: %w: its data key is unknown", entry.Name(), ErrDamaged)
		}
	}
	return nil
}
