package evidence_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// export writes the log's folder and reads it into memory.
func export(t testing.TB, log *memoryLog) fstest.MapFS {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	if err := evidence.WriteFolder(dir, log, newSigner(t), log.Openings); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.VerifyFolder(os.DirFS(dir), newSigner(t).Verifier()); err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = &fstest.MapFile{Data: content}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func verify(files fstest.MapFS, t testing.TB) (evidence.Report, error) {
	return evidence.VerifyFolder(files, newSigner(t).Verifier())
}

func TestFolderOfManySizes(t *testing.T) {
	for _, size := range []int{0, 1, 2, 255, 256, 257, 512, 700} {
		log := newLog(t, size)
		report, err := verify(export(t, log), t)
		if err != nil {
			t.Fatalf("%d leaves: %v", size, err)
		}
		if report.Checkpoint.Size != int64(size) || report.Checkpoint.Root != log.frontier.Root() {
			t.Fatalf("%d leaves: another head", size)
		}
		if want := (size + 2) / 3; len(report.Openings) != want {
			t.Fatalf("%d leaves: %d openings, want %d", size, len(report.Openings), want)
		}
		for index, o := range report.Openings {
			if o.Leaf() != log.leaves[index] {
				t.Fatalf("opening %d is of another leaf", index)
			}
		}
	}
}

// The tiles are those of C2SP tlog-tiles: golang.org/x/mod's own tile reader, which authenticates what it reads, finds every hash in them.
func TestFolderReadByTlog(t *testing.T) {
	log := newLog(t, 700)
	files := export(t, log)
	for _, name := range []string{
		"checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2",
		"tile/entries/000", "tile/entries/001", "tile/entries/002.p/188", "openings.ndjson", "openings.note",
	} {
		if files[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if len(files) != 10 {
		t.Errorf("%d files, want 10", len(files))
	}
	reader := tlog.TileHashReader(tlog.Tree{N: 700, Hash: log.frontier.Root()}, tileReader{files})
	for index := range int64(700) {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			t.Fatal(err)
		}
		if hashes[0] != log.leaves[index].Hash() {
			t.Fatalf("leaf %d has another hash", index)
		}
	}
}

type tileReader struct{ files fstest.MapFS }

func (r tileReader) Height() int { return 8 }

func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		file := r.files["tile/"+strings.TrimPrefix(tile.Path(), "tile/8/")]
		if file == nil {
			return nil, errors.New("no tile " + tile.Path())
		}
		out = append(out, file.Data)
	}
	return out, nil
}

func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// C10: one flipped byte anywhere is found.
func TestFolderFindsEveryFlippedByte(t *testing.T) {
	files := export(t, newLog(t, 7))
	for name, file := range files {
		original := file.Data
		for i := range original {
			mask := byte(1) << (i % 8)
			file.Data = bytes.Clone(original)
			file.Data[i] ^= mask
			if _, err := verify(files, t); err == nil {
				t.Fatalf("%s: byte %d of %d flipped by %#x is not seen", name, i, len(original), mask)
			}
			if i%4 != 0 {
				continue
			}
			file.Data = append(bytes.Clone(original[:i]), original[i+1:]...)
			if _, err := verify(files, t); err == nil {
				t.Fatalf("%s: the loss of byte %d is not seen", name, i)
			}
		}
		for _, more := range []string{"\n", " ", "\x00", "x"} {
			file.Data = append(bytes.Clone(original), more...)
			if _, err := verify(files, t); err == nil {
				t.Fatalf("%s: an added %q is not seen", name, more)
			}
		}
		file.Data = original
	}
	if _, err := verify(files, t); err != nil {
		t.Fatal(err)
	}
}

// C10, over several tiles: any number of random changes of bytes, records, files.
func TestFolderFindsChanges(t *testing.T) {
	clean := export(t, newLog(t, 600))
	names := make([]string, 0, len(clean))
	for name := range clean {
		names = append(names, name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		files := maps.Clone(clean)
		name := rapid.SampledFrom(names).Draw(rt, "file")
		data := bytes.Clone(clean[name].Data)
		switch rapid.SampledFrom([]string{"flip", "insert", "remove", "swap records", "remove file", "add file", "swap files"}).Draw(rt, "change") {
		case "flip":
			data[rapid.IntRange(0, len(data)-1).Draw(rt, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		case "insert":
			at := rapid.IntRange(0, len(data)).Draw(rt, "at")
			data = append(data[:at:at], append([]byte{rapid.Byte().Draw(rt, "byte")}, data[at:]...)...)
		case "remove":
			at := rapid.IntRange(0, len(data)-1).Draw(rt, "at")
			data = append(data[:at:at], data[at+1:]...)
		case "swap records":
			data = swapRecords(rt, name, data)
		case "remove file":
			delete(files, name)
			data = nil
		case "add file":
			files[rapid.SampledFrom([]string{"x", "tile/x", "tile/0/003", "tile/2/000.p/1", "tile/entries/003", "a/b"}).Draw(rt, "new")] = &fstest.MapFile{Data: data}
		case "swap files":
			other := rapid.SampledFrom(names).Draw(rt, "other")
			files[other], data = clean[name], clean[other].Data
		}
		if data != nil {
			files[name] = &fstest.MapFile{Data: data}
		}
		if same(files, clean) {
			return
		}
		if _, err := verify(files, t); err == nil {
			rt.Fatal("the change is not seen")
		}
	})
}

// swapRecords exchanges two records of a file: lines, hashes or entries.
func swapRecords(t *rapid.T, name string, data []byte) []byte {
	var records [][]byte
	switch {
	case strings.HasPrefix(name, "tile/entries/"):
		records = chunks(data, 34)
	case strings.HasPrefix(name, "tile/"):
		records = chunks(data, 32)
	default:
		records = bytes.SplitAfter(data, []byte("\n"))
	}
	i := rapid.IntRange(0, len(records)-1).Draw(t, "record")
	j := rapid.IntRange(0, len(records)-1).Draw(t, "with")
	records[i], records[j] = records[j], records[i]
	return bytes.Join(records, nil)
}

func chunks(data []byte, size int) (out [][]byte) {
	for ; len(data) > 0; data = data[size:] {
		out = append(out, data[:size])
	}
	return out
}

func same(a, b fstest.MapFS) bool {
	return maps.EqualFunc(a, b, func(x, y *fstest.MapFile) bool { return bytes.Equal(x.Data, y.Data) })
}

func TestFolderFindsWhatIsNoFile(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"link":            func(dir string) error { return os.Symlink("checkpoint", filepath.Join(dir, "link")) },
		"file as link":    func(dir string) error { return relink(filepath.Join(dir, "checkpoint")) },
		"empty directory": func(dir string) error { return os.MkdirAll(filepath.Join(dir, "tile", "3"), 0o755) },
		"hidden file":     func(dir string) error { return os.WriteFile(filepath.Join(dir, ".x"), nil, 0o644) },
	} {
		dir := filepath.Join(t.TempDir(), "log")
		log := newLog(t, 3)
		if err := evidence.WriteFolder(dir, log, newSigner(t), log.Openings); err != nil {
			t.Fatal(err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.VerifyFolder(os.DirFS(dir), newSigner(t).Verifier()); !errors.Is(err, evidence.ErrFolder) {
			t.Errorf("%s: %v, want ErrFolder", name, err)
		}
	}
}

// relink moves a file away and leaves a link in its place.
func relink(name string) error {
	away := filepath.Join(filepath.Dir(filepath.Dir(name)), "away")
	if err := os.Rename(name, away); err != nil {
		return err
	}
	return os.Symlink(away, name)
}

// A valid folder of another size or key, put in piece by piece, is found too.
func TestFolderFindsPiecesOfAnother(t *testing.T) {
	older, newer := export(t, newLog(t, 19)), export(t, newLog(t, 20))
	for name := range older {
		mixed := maps.Clone(newer)
		mixed[name] = older[name]
		if same(mixed, newer) {
			continue
		}
		if _, err := verify(mixed, t); err == nil {
			t.Errorf("%s of an older export is not seen", name)
		}
	}
}

func TestWriteFolderRefuses(t *testing.T) {
	log := newLog(t, 10)
	dir := filepath.Join(t.TempDir(), "log")
	broken := errors.New("broken")
	failing := func(func(int64, evidence.Opening) error) error { return broken }
	if err := evidence.WriteFolder(dir, log, newSigner(t), failing); !errors.Is(err, broken) {
		t.Errorf("failing openings: %v", err)
	}
	reordered := func(fn func(int64, evidence.Opening) error) error {
		return errors.Join(fn(3, log.openings[3]), fn(0, log.openings[0]))
	}
	if err := evidence.WriteFolder(dir, log, newSigner(t), reordered); !errors.Is(err, evidence.ErrFormat) {
		t.Errorf("reordered openings: %v", err)
	}
	log.leaves[4][0]++
	if err := evidence.WriteFolder(dir, log, newSigner(t), log.Openings); !errors.Is(err, evidence.ErrFolder) {
		t.Errorf("a log whose leaves have another root: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 0 {
		t.Errorf("a failed export leaves %d files behind (%v)", len(left), err)
	}
	if err := evidence.WriteFolder(t.TempDir(), newLog(t, 1), newSigner(t), log.Openings); err == nil {
		t.Error("an existing folder is overwritten")
	}
}

// An export of a log that grows meanwhile holds the log as it was at its head.
func TestWriteFolderWhileTheLogGrows(t *testing.T) {
	log := newLog(t, 10)
	growing := func(fn func(int64, evidence.Opening) error) error {
		for i := range 5 {
			log.append(t, opening(10+i))
		}
		return log.Openings(fn)
	}
	dir := filepath.Join(t.TempDir(), "log")
	if err := evidence.WriteFolder(dir, log, newSigner(t), growing); err != nil {
		t.Fatal(err)
	}
	report, err := evidence.VerifyFolder(os.DirFS(dir), newSigner(t).Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if report.Checkpoint.Size != 10 || len(report.Openings) != 4 {
		t.Fatalf("%d leaves and %d openings, want 10 and 4", report.Checkpoint.Size, len(report.Openings))
	}
}

// A log that its own key has rewritten and signed anew holds in itself; an older head that somebody kept shows it, wherever it was
// changed, and only then.
func TestOlderHeadsShowRewriting(t *testing.T) {
	const size = 300
	v := newSigner(t).Verifier()
	honest := export(t, newLog(t, size))
	for _, kept := range []int{0, 1, 2, 255, 256, 257, size} {
		log := newLog(t, kept)
		older := evidence.Checkpoint{Origin: v.Origin(), Size: int64(kept), Root: log.frontier.Root()}
		if _, err := evidence.VerifySince(honest, v, older); err != nil {
			t.Errorf("honest log, head of %d: %v", kept, err)
		}
		for _, changed := range []int{0, kept - 1, kept, size - 1} {
			if changed < 0 || changed >= size {
				continue
			}
			rewritten := &memoryLog{}
			for i := range size {
				o := opening(i)
				if i == changed {
					o.Core = []byte(`{"record":"another"}`)
				}
				rewritten.append(t, o)
			}
			_, err := evidence.VerifySince(export(t, rewritten), v, older)
			if before := changed < kept; errors.Is(err, evidence.ErrFolder) != before || (err != nil) != before {
				t.Errorf("entry %d rewritten, head of %d: %v", changed, kept, err)
			}
		}
	}
	longer := newLog(t, size+1)
	older := evidence.Checkpoint{Origin: v.Origin(), Size: size + 1, Root: longer.frontier.Root()}
	if _, err := evidence.VerifySince(honest, v, older); !errors.Is(err, evidence.ErrFolder) {
		t.Errorf("a log cut by one entry: %v", err)
	}
}
