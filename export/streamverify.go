package export

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// StreamCheck says what VerifyStream checks a stream against.
type StreamCheck struct {
	Destination string
	Gateway     ed25519.PublicKey
	// Heads are the least numbers that must be there, by node: what a destination acknowledged, or what an evidence log shows. Without
	// them, entries taken off the end leave no trace in the stream itself.
	Heads map[string]uint64
	// Sealed are batches known from elsewhere, such as the openings of intents in the evidence log: each must stand in the stream.
	Sealed []SealedBatch
	// Objects also hashes the batch objects, which then must be in the folder.
	Objects bool
}

// SealedBatch is one batch as its intent states it.
type SealedBatch struct {
	Node   string
	Number uint64 // of the stream entry
	SHA256 string // of the ciphertext, hex
	At     string // when it was sealed, RFC 3339
}

// StreamReport is what VerifyStream saw.
type StreamReport struct {
	Heads   map[string]uint64 // last entry by node
	Entries int
	Rows    int
	Objects int // that were hashed
}

// ErrAhead is a batch that an intent states and that the stream, whole up to its end, does not reach: it was not yet published when the
// copy was made, or it was taken away. A later copy tells: what is published stays. It comes with ErrGap.
var ErrAhead = errors.New("it was not yet published when this copy was made, or it was removed since: copy the bucket again, now that the log is " +
	"taken; if it is still missing while the gateway says (GET /v1/streams/<destination>/head) that it was published, it was removed")

// ErrObject is a batch object that is missing or has other bytes than its entry states.
var ErrObject = errors.New("batch object is not the one of its stream entry")

// VerifyStream checks a folder that holds <destination>/stream/<node>/<number>.jws, offline: each signature, the numbering from 1
// without gaps, each entry's hash in the next, that nothing else lies there, and what c asks for beside. The error names the entry.
func VerifyStream(folder fs.FS, c StreamCheck) (StreamReport, error) {
	report := StreamReport{Heads: map[string]uint64{}}
	root := path.Join(c.Destination, "stream")
	nodes, err := fs.ReadDir(folder, root)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || len(c.Sealed)+len(c.Heads) == 0) { // else: all that should be there is missing
		return report, fmt.Errorf("verifying stream of %q: %w", c.Destination, err)
	}
	v := streamVerifier{folder: folder, check: c, report: &report, sealed: map[string]map[uint64]SealedBatch{}}
	for _, s := range c.Sealed {
		if v.sealed[s.Node] == nil {
			v.sealed[s.Node] = map[uint64]SealedBatch{}
		}
		v.sealed[s.Node][s.Number] = s
	}
	for _, node := range nodes {
		if err := v.node(node); err != nil {
			return report, fmt.Errorf("verifying stream of %q: %w", c.Destination, err)
		}
	}
	if err := v.complete(); err != nil {
		return report, fmt.Errorf("verifying stream of %q: %w", c.Destination, err)
	}
	return report, nil
}

type streamVerifier struct {
	folder fs.FS
	check  StreamCheck
	report *StreamReport
	sealed map[string]map[uint64]SealedBatch // node → number
}

func (v *streamVerifier) node(node fs.DirEntry) error {
	if !node.IsDir() || !streamName.MatchString(node.Name()) {
		return fmt.Errorf("%s/stream/%s: %w: no node's folder", v.check.Destination, node.Name(), ErrEntry)
	}
	files, err := fs.ReadDir(v.folder, path.Join(v.check.Destination, "stream", node.Name()))
	if err != nil {
		return err
	}
	chain := Chain{Destination: v.check.Destination, Node: node.Name(), Gateway: v.check.Gateway}
	for _, file := range files { // in order of names, which is that of numbers
		name := EntryKey(v.check.Destination, node.Name(), chain.Number+1)
		switch at := path.Join(path.Dir(name), file.Name()); {
		case at == name:
		case at > name:
			return fmt.Errorf("%s: %w: the next one there is %s", name, ErrGap, file.Name())
		default:
			return fmt.Errorf("%s: %w: no entry has this name", at, ErrEntry)
		}
		if err := v.entry(&chain, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	v.report.Heads[node.Name()] = chain.Number
	return nil
}

func (v *streamVerifier) entry(chain *Chain, name string) error {
	token, err := readEntry(v.folder, name)
	if err != nil {
		return err
	}
	e, err := chain.Next(token)
	if err != nil {
		return err
	}
	if want, ok := v.sealed[e.Node][e.Number]; ok {
		if e.Batch == nil || e.Batch.SHA256 != want.SHA256 {
			return fmt.Errorf("%w: the evidence states another batch under its number", ErrChain)
		}
		delete(v.sealed[e.Node], e.Number)
	}
	v.report.Entries++
	if e.Batch == nil {
		return nil
	}
	v.report.Rows += e.Batch.Rows
	if !v.check.Objects {
		return nil
	}
	v.report.Objects++
	return verifyObject(v.folder, e.Batch)
}

func readEntry(folder fs.FS, name string) (string, error) {
	f, err := folder.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, entryMax+1))
	return string(text), err
}

func verifyObject(folder fs.FS, b *Batch) error {
	f, err := folder.Open(b.Key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrObject, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrObject, err)
	}
	if n != b.Size || hex.EncodeToString(h.Sum(nil)) != b.SHA256 {
		return fmt.Errorf("%w: %s has other bytes", ErrObject, b.Key)
	}
	return nil
}

// complete checks what entries taken off the end, or a node's whole folder taken away, would miss.
func (v *streamVerifier) complete() error {
	for _, node := range slices.Sorted(maps.Keys(v.check.Heads)) {
		if head, want := v.report.Heads[node], v.check.Heads[node]; head < want {
			return fmt.Errorf("%s: %w: the stream must reach entry %d", EntryKey(v.check.Destination, node, head+1), ErrGap, want)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(v.sealed)) {
		for _, number := range slices.Sorted(maps.Keys(v.sealed[node])) {
			return fmt.Errorf("%s: %w: the evidence log states its batch, sealed at %s: %w",
				EntryKey(v.check.Destination, node, number), ErrGap, v.sealed[node][number].At, ErrAhead)
		}
	}
	return nil
}
