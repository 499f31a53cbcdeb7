package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// Report is what a verified folder shows.
type Report struct {
	Checkpoint Checkpoint
	Openings   map[int64]Opening // of leaves without a subject, by index; a stream's batches are checked against the intents among them
}

// VerifyFolder checks an exported log offline with the log's public key: the head's signature, the root recomputed from the entries, every
// tile, every opening, that no opening is missing, and that there is no other file. A flipped, removed, added or reordered byte or
// record anywhere is an error (ErrFolder, ErrFormat or ErrSignature) that names the file.
func VerifyFolder(fsys fs.FS, v *Verifier) (Report, error) {
	return VerifySince(fsys, v, Checkpoint{})
}

// VerifySince is VerifyFolder, and checks that the log was not rewritten since a head of it that was kept elsewhere: that what was
// logged by then begins the log still (ErrFolder). The zero Checkpoint asks nothing.
func VerifySince(fsys fs.FS, v *Verifier, older Checkpoint) (Report, error) {
	c := check{fsys: fsys, verifier: v, older: older, seen: map[string]bool{}}
	report, err := c.run()
	if err != nil {
		return Report{}, fmt.Errorf("verifying the exported log: %w", err)
	}
	return report, nil
}

// check is the verification of one folder.
type check struct {
	fsys     fs.FS
	verifier *Verifier
	older    Checkpoint
	seen     map[string]bool // files that belong to the folder, and the directories above them
}

func (c *check) run() (Report, error) {
	signed, err := c.read(checkpointFile, maxNote)
	if err != nil {
		return Report{}, err
	}
	head, err := c.verifier.Open(string(signed))
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", checkpointFile, err)
	}
	openings, err := c.openings(head.Size)
	if err != nil {
		return Report{}, err
	}
	if err := c.tree(head, openings); err != nil {
		return Report{}, err
	}
	if err := c.nothingElse(); err != nil {
		return Report{}, err
	}
	return Report{Checkpoint: head, Openings: openings}, nil
}

// openings reads openings.ndjson and checks it against its signed note.
func (c *check) openings(size int64) (map[int64]Opening, error) {
	f, err := c.open(openingsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	openings, digest, err := readOpenings(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", openingsFile, err)
	}
	signed, err := c.read(openingsNoteFile, maxNote)
	if err != nil {
		return nil, err
	}
	text, err := c.verifier.open(string(signed))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", openingsNoteFile, err)
	}
	if text != digest.text(c.verifier.Origin()) {
		return nil, fmt.Errorf("%s: %w: the signed openings are others", openingsFile, ErrFolder)
	}
	return openings, nil
}

// tree recomputes tiles and root from the entries.
func (c *check) tree(head Checkpoint, openings map[int64]Opening) error {
	if c.older.Size > head.Size {
		return fmt.Errorf("%s: %w: the log has shrunk from %d entries to %d", checkpointFile, ErrFolder, c.older.Size, head.Size)
	}
	tiles := tiler{emit: c.same}
	var frontier Frontier
	for from := int64(0); from < head.Size; from += tileWidth {
		leaves, err := c.bundle(from, min(from+tileWidth, head.Size))
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			if o, ok := openings[from+int64(i)]; ok && o.Leaf() != leaf {
				return fmt.Errorf("%s: %w: the opening of leaf %d does not open it", openingsFile, ErrFolder, from+int64(i))
			}
			frontier.Append(leaf, nil)
			if frontier.Size() == c.older.Size && frontier.Root() != c.older.Root {
				return fmt.Errorf("tile/entries: %w: the first %d entries are not those of the older head: the log was rewritten", ErrFolder, c.older.Size)
			}
			if err := tiles.add(0, leaf.Hash()); err != nil {
				return err
			}
		}
	}
	if err := tiles.finish(); err != nil {
		return err
	}
	if frontier.Root() != head.Root {
		return fmt.Errorf("tile/entries: %w: the entries have another root", ErrFolder)
	}
	return nil
}

func (c *check) bundle(from, to int64) ([]Leaf, error) {
	name := bundlePath(from/tileWidth, int(to-from))
	content, err := c.read(name, tileWidth*entrySize)
	if err != nil {
		return nil, err
	}
	leaves, err := parseBundle(content, int(to-from))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return leaves, nil
}

// same checks that the folder has this tile, byte for byte.
func (c *check) same(name string, tile []byte) error {
	content, err := c.read(name, len(tile))
	if err != nil {
		return err
	}
	if !bytes.Equal(content, tile) {
		return fmt.Errorf("%s: %w: the entries have other hashes", name, ErrFolder)
	}
	return nil
}

// nothingElse checks that the folder has no file or directory that does not belong there.
func (c *check) nothingElse() error {
	return fs.WalkDir(c.fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFolder, err)
		}
		if name != "." && !c.seen[name] {
			return fmt.Errorf("%s: %w: it does not belong there", name, ErrFolder)
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return fmt.Errorf("%s: %w: it is not a plain file", name, ErrFolder)
		}
		return nil
	})
}

func (c *check) open(name string) (fs.File, error) {
	f, err := c.fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is missing", name, ErrFolder)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrFolder, err)
	}
	for up := name; up != "."; up = path.Dir(up) {
		c.seen[up] = true
	}
	return f, nil
}

// read reads a file of at most limit bytes.
func (c *check) read(name string, limit int) ([]byte, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrFolder, err)
	}
	if len(content) > limit {
		return nil, fmt.Errorf("%s: %w: it is longer than %d bytes", name, ErrFolder, limit)
	}
	return content, nil
}
