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
	"strings"
)

// StreamCheck says what VerifyStream checks a stream against.
type StreamCheck struct {
	Destination string
	Gateway     ed25519.PublicKey
	// Heads are the least numbers that must be there, by node: what a destination acknowledged, or what an evidence log shows. Without
	// them, entries taken off the end leave no trace in the stream itself.
	Heads map[string]uint64
	// Sealed are objects known from elsewhere, such as the openings of intents in the evidence log: each must stand in the stream.
	Sealed []SealedBatch
	// Objects also hashes the batch objects, which then must be in the folder: of each batch the present one, as the last entry about it
	// states it. Those that were replaced need not be there any more, and of a batch that was left empty there is none.
	Objects bool
}

// SealedBatch is one object of a batch as its intent, or the evidence of its replacement, states it.
type SealedBatch struct {
	Node   string
	Number uint64 // of the stream entry
	SHA256 string // of the ciphertext, hex; empty where a replacement left no object
	At     string // when it was sealed, RFC 3339
}

// StreamReport is what VerifyStream saw.
type StreamReport struct {
	Heads   map[string]uint64 // last entry by node
	Entries int
	Rows    int // of the present objects
	Objects int // that were hashed
}

// ErrAhead is a batch that an intent states and that the stream, whole up to its end, does not reach: it was not yet published when the
// copy was made, or it was taken away. A later copy tells: what is published stays. It comes with ErrGap.
var ErrAhead = errors.New("it was not yet published when this copy was made, or it was removed since: copy the bucket again, now that the log is " +
	"taken; if it is still missing while the gateway says (GET /v1/streams/<destination>/head) that it was published, it was removed")

// ErrObject is a batch object that is missing or has other bytes than its entry states.
var ErrObject = errors.New("batch object is not the one of its stream entry")

// VerifyStream checks a folder that holds <destination>/stream/<node>/<number>.jws, offline: each signature, the numbering from 1
// without gaps, each entry's hash in the next, that a replacement is of what was stated last, that nothing else lies there, and what c asks
// for beside. The error names the entry.
func VerifyStream(folder fs.FS, c StreamCheck) (StreamReport, error) {
	report := StreamReport{Heads: map[string]uint64{}}
	root := path.Join(c.Destination, "stream")
	nodes, err := fs.ReadDir(folder, root)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || len(c.Sealed)+len(c.Heads) == 0) { // else: all that should be there is missing
		return report, fmt.Errorf("verifying stream of %q: %w", c.Destination, err)
	}
	v := streamVerifier{
		folder: folder, check: c, report: &report, sealed: map[string]map[uint64]SealedBatch{}, present: map[string]presentObject{},
	}
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
	for _, rest := range []func() error{v.complete, v.objects} {
		if err := rest(); err != nil {
			return report, fmt.Errorf("verifying stream of %q: %w", c.Destination, err)
		}
	}
	return report, nil
}

type streamVerifier struct {
	folder fs.FS
	check  StreamCheck
	report *StreamReport
	sealed map[string]map[uint64]SealedBatch // node → number

	present map[string]presentObject // batch id → what the last entry about it states
}

// presentObject is what is kept of a batch: of a long stream there are many.
type presentObject struct {
	node        string
	number      uint64 // of the entry that states it
	key, sha256 string // no key: no object
	size        int64
	rows        int
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
		if !want.is(&e) {
			return fmt.Errorf("%w: the evidence states another batch under its number", ErrChain)
		}
		delete(v.sealed[e.Node], e.Number)
	}
	v.report.Entries++
	return v.follow(&e)
}

// is says whether the entry states the object.
func (s *SealedBatch) is(e *Entry) bool {
	b := e.Object()
	if b == nil {
		return e.Replace != nil && s.SHA256 == ""
	}
	return b.SHA256 == s.SHA256
}

// follow keeps which object is the present one of each batch.
func (v *streamVerifier) follow(e *Entry) error {
	id := ""
	switch {
	case e.Batch != nil:
		if id = e.Batch.ID; v.present[id].number != 0 {
			return fmt.Errorf("%w: entry %d states the same batch", ErrChain, v.present[id].number)
		}
	case e.Replace != nil:
		id = e.Replace.Batch
		if p := v.present[id]; p.node != e.Node || p.number != e.Replace.Of || p.key == "" {
			return fmt.Errorf("%w: it replaces what is not the batch's present object", ErrChain)
		}
	default:
		return nil
	}
	p := presentObject{node: e.Node, number: e.Number}
	if b := e.Object(); b != nil {
		p.key, p.sha256, p.size, p.rows = b.Key, b.SHA256, b.Size, b.Rows
	}
	v.report.Rows += p.rows - v.present[id].rows
	v.present[id] = p
	return nil
}

// objects hashes the present objects, if that is asked for, in the order of their keys.
func (v *streamVerifier) objects() error {
	if !v.check.Objects {
		return nil
	}
	order := func(a, b presentObject) int { return strings.Compare(a.key, b.key) }
	for _, p := range slices.SortedFunc(maps.Values(v.present), order) {
		if p.key == "" {
			continue
		}
		v.report.Objects++
		if err := verifyObject(v.folder, p); err != nil {
			return fmt.Errorf("%s: %w", EntryKey(v.check.Destination, p.node, p.number), err)
		}
	}
	return nil
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

func verifyObject(folder fs.FS, p presentObject) error {
	f, err := folder.Open(p.key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrObject, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrObject, err)
	}
	if n != p.size || hex.EncodeToString(h.Sum(nil)) != p.sha256 {
		return fmt.Errorf("%w: %s has other bytes", ErrObject, p.key)
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
