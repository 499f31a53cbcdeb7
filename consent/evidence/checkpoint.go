package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the head of a log: what its key has signed.
type Checkpoint struct {
	Origin string    // name of the log, e.g. octroi.example/node-1
	Size   int64     // leaves
	Root   tlog.Hash // RFC 6962 section 2.1
}

// text is the body of the signed note, C2SP tlog-checkpoint, without extension lines:
//
//	<origin>\n<size, decimal>\n<root, base64>\n
func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

// parseCheckpoint reads the body of a checkpoint, strictly: it is refused unless it is spelled as text spells it.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint has three lines", ErrFormat)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > maxSize {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint's second line is the size of the log", ErrFormat)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint's third line is the root of the log", ErrFormat)
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if c.Origin == "" || c.text() != text {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint spelled otherwise than it is written", ErrFormat)
	}
	return c, nil
}

// Signer signs the heads of one log. It is safe for concurrent use.
type Signer struct {
	verifier *Verifier
	key      ed25519.PrivateKey
}

// NewSigner makes the signer of the log named origin: a URL without scheme, such as octroi.example/node-1 (ErrOrigin, ErrLogKey).
func NewSigner(origin string, key ed25519.PrivateKey) (*Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, ErrLogKey
	}
	verifier, err := NewVerifier(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Signer{verifier: verifier, key: key}, nil
}

// SignCheckpoint signs the head of the log: size in leaves and the root. The caller must never have two heads signed of which one is not
// a prefix of the other (C2SP tlog-checkpoint, "Signatures").
func (s *Signer) SignCheckpoint(size int64, root [32]byte) (string, error) {
	if size < 0 || size > maxSize {
		return "", fmt.Errorf("%w: size of the log", ErrFormat)
	}
	return s.sign(Checkpoint{Origin: s.verifier.Origin(), Size: size, Root: root}.text())
}

// Verifier is what checks this signer's notes.
func (s *Signer) Verifier() *Verifier { return s.verifier }

func (s *Signer) sign(text string) (string, error) {
	signed, err := note.Sign(&note.Note{Text: text}, noteSigner{s})
	if err != nil {
		return "", fmt.Errorf("signing note: %w", err)
	}
	return string(signed), nil
}

// noteSigner is Signer in the form that x/mod/sumdb/note asks for.
type noteSigner struct{ *Signer }

func (s noteSigner) Name() string                     { return s.verifier.note.Name() }
func (s noteSigner) KeyHash() uint32                  { return s.verifier.note.KeyHash() }
func (s noteSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key, text), nil }

// Verifier checks what one log has signed, by its name and public key. It is safe for concurrent use.
type Verifier struct{ note note.Verifier }

// NewVerifier makes the verifier of the log named origin (ErrOrigin, ErrLogKey).
func NewVerifier(origin string, key ed25519.PublicKey) (*Verifier, error) {
	text, err := note.NewEd25519VerifierKey(origin, key)
	if err != nil {
		return nil, ErrLogKey
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %q", ErrOrigin, origin)
	}
	return &Verifier{note: verifier}, nil
}

// Origin is the name of the log.
func (v *Verifier) Origin() string { return v.note.Name() }

// Open checks a signed checkpoint and returns the head it signs (ErrSignature, ErrFormat). It is stricter than a note must be: exactly
// the log's own signature, and one spelling, so that no byte of a checkpoint can change unseen. Cosignatures of witnesses
// belong beside it.
func (v *Verifier) Open(signed string) (Checkpoint, error) {
	text, err := v.open(signed)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("opening checkpoint: %w", err)
	}
	c, err := parseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Origin() {
		return Checkpoint{}, fmt.Errorf("opening checkpoint: %w", ErrSignature)
	}
	return c, nil
}

// maxNote bounds a signed note, in bytes.
const maxNote = 4096

func (v *Verifier) open(signed string) (text string, err error) {
	if len(signed) > maxNote {
		return "", fmt.Errorf("%w: a note longer than %d bytes", ErrFormat, maxNote)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v.note))
	if err != nil || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return "", ErrSignature
	}
	// base64 of 68 bytes has four bits to spare, and note.Open passes over repeated lines: neither may change unseen.
	signature, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || signed != n.Text+"\n— "+v.Origin()+" "+base64.StdEncoding.EncodeToString(signature)+"\n" {
		return "", ErrSignature
	}
	return n.Text, nil
}
