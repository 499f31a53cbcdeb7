package export

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
)

// The errors of sealing.
var (
	ErrRecipient = errors.New("age recipient is not usable")
	ErrIdentity  = errors.New("the identity does not open this object")
	ErrSeal      = errors.New("sealed object is damaged")
)

// The classes of recipients. age refuses to mix them, and so does ParseRecipients: a file for one post-quantum recipient and one
// other is only as strong as the other.
const (
	ClassX25519 = "X25519" // age1…: every age reads it
	ClassHybrid = "hybrid" // age1pq1…: ML-KEM-768 with X25519, age 1.3 and later
)

// Recipients are the keys a batch is encrypted to: the destination's W, E (custodian), R (recovery). All are of one class.
// It holds public keys only and is safe for concurrent use.
type Recipients struct {
	Class string   // ClassX25519 or ClassHybrid
	Names []string // the age1… texts, W first
	list  []age.Recipient
}

// ParseRecipients reads the three age recipients. Another class beside the first is ErrRecipient and names the odd one, as does one
// that is given twice: one lost key must never be the loss of two.
func ParseRecipients(destination, custodian, recovery string) (Recipients, error) {
	given := []struct{ role, text string }{
		{"of the destination (W)", destination},
		{"of the custodian (E)", custodian},
		{"of the recovery key (R)", recovery},
	}
	var all Recipients
	for _, g := range given {
		text := strings.TrimSpace(g.text)
		class, recipient, err := parseRecipient(text)
		if err != nil {
			return Recipients{}, fmt.Errorf("recipient %s: %w", g.role, err)
		}
		if all.Class == "" {
			all.Class = class
		}
		if class != all.Class {
			return Recipients{}, fmt.Errorf("recipient %s: %w: it is of class %s, the destination's is %s; give all three of one class",
				g.role, ErrRecipient, class, all.Class)
		}
		for _, name := range all.Names {
			if name == text {
				return Recipients{}, fmt.Errorf("recipient %s: %w: it is given twice; each holder needs a key of its own", g.role, ErrRecipient)
			}
		}
		all.Names, all.list = append(all.Names, text), append(all.list, recipient)
	}
	return all, nil
}

// ParseRecovery reads one age recipient, for what only the holder of R will ever read: a backup.
func ParseRecovery(text string) (Recipients, error) {
	name := strings.TrimSpace(text)
	class, recipient, err := parseRecipient(name)
	if err != nil {
		return Recipients{}, fmt.Errorf("recipient of backups (R): %w", err)
	}
	return Recipients{Class: class, Names: []string{name}, list: []age.Recipient{recipient}}, nil
}

// destination are r without all but the first, the destination itself: for what is nobody else's business.
func (r Recipients) destination() Recipients {
	n := min(1, len(r.list))
	return Recipients{Class: r.Class, Names: r.Names[:n], list: r.list[:n]}
}

// parseRecipient never quotes the text: somebody may have put an identity there.
func parseRecipient(text string) (class string, r age.Recipient, err error) {
	switch {
	case text == "":
		return "", nil, fmt.Errorf("%w: it is missing", ErrRecipient)
	case strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-"):
		return "", nil, fmt.Errorf("%w: this is an identity, which is secret; give its public key (age-keygen -y)", ErrRecipient)
	case strings.HasPrefix(text, "age1pq1"):
		if r, err = age.ParseHybridRecipient(text); err == nil {
			return ClassHybrid, r, nil
		}
	case strings.HasPrefix(text, "age1"):
		if r, err = age.ParseX25519Recipient(text); err == nil {
			return ClassX25519, r, nil
		}
	}
	return "", nil, fmt.Errorf("%w: expected age1… or age1pq1… as age-keygen prints it", ErrRecipient)
}

// Seal encrypts what is written to the returned writer. Closing it ends the age file; its error must be checked.
func Seal(w io.Writer, r Recipients) (io.WriteCloser, error) {
	if len(r.list) == 0 {
		return nil, fmt.Errorf("sealing: %w: there is none", ErrRecipient)
	}
	sealed, err := age.Encrypt(w, r.list...)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed, nil
}

// Identities are age identities, from an identity file as age-keygen writes it (several lines, comments). They format as "[identities]".
type Identities struct{ list []age.Identity }

// String and GoString keep the keys out of logs.
func (Identities) String() string   { return "[identities]" }
func (Identities) GoString() string { return "[identities]" }

// Opens says whether one of the identities is that of a recipient, given as its age1… text.
func (ids Identities) Opens(recipient string) bool {
	return slices.ContainsFunc(ids.list, func(id age.Identity) bool {
		switch id := id.(type) {
		case *age.X25519Identity:
			return id.Recipient().String() == recipient
		case *age.HybridIdentity:
			return id.Recipient().String() == recipient
		}
		return false
	})
}

// ParseIdentities reads an identity file's text; errors never hold a line of it.
func ParseIdentities(text []byte) (Identities, error) {
	var ids Identities
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		// age's own error may quote the line, so it is not kept.
		var id age.Identity
		var err error
		if strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1") {
			id, err = age.ParseHybridIdentity(line)
		} else {
			id, err = age.ParseX25519Identity(line)
		}
		if err != nil {
			return Identities{}, fmt.Errorf("identity file: line %d is not an age identity (AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…)", n)
		}
		ids.list = append(ids.list, id)
	}
	if lines.Err() != nil {
		return Identities{}, errors.New("identity file: a line is too long")
	}
	if len(ids.list) == 0 {
		return Identities{}, errors.New("identity file: no identity in it")
	}
	return ids, nil
}

// Unseal decrypts; reading to EOF authenticates the whole. ErrIdentity where no identity is a recipient; ErrSeal, here or from Read,
// where the bytes are no whole age file.
func Unseal(r io.Reader, ids Identities) (io.Reader, error) {
	if len(ids.list) == 0 {
		return nil, fmt.Errorf("unsealing: %w: there is none", ErrIdentity)
	}
	plain, err := age.Decrypt(r, ids.list...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("unsealing: %w", ErrIdentity)
	case err != nil:
		return nil, fmt.Errorf("unsealing: %w: %w", ErrSeal, err)
	}
	return unsealed{plain}, nil
}

// UnsealFile decrypts sealed into a nameless file in folder (see Nameless): Parquet is read from its end. The caller closes it.
func UnsealFile(sealed *os.File, ids Identities, folder string) (plain *os.File, size int64, err error) {
	if _, err := sealed.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	r, err := Unseal(sealed, ids)
	if err != nil {
		return nil, 0, err
	}
	if plain, err = Nameless(folder); err != nil {
		return nil, 0, err
	}
	if size, err = io.Copy(plain, r); err != nil {
		plain.Close()
		return nil, 0, err
	}
	return plain, size, nil
}

// Nameless is a file in folder without a name: nothing is left of it when the process ends, however it does.
func Nameless(folder string) (*os.File, error) {
	f, err := os.CreateTemp(folder, "octroi-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unsealed names what is wrong with an age file's payload.
type unsealed struct{ r io.Reader }

func (u unsealed) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("unsealing: %w: %w", ErrSeal, err)
	}
	return n, err
}

// NewIdentity makes an identity of a class (ClassX25519, ClassHybrid): the text for its file, and its recipient.
func NewIdentity(class string) (identity, recipient string, err error) {
	switch class {
	case ClassX25519:
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return "", "", fmt.Errorf("making identity: %w", err)
		}
		return id.String(), id.Recipient().String(), nil
	case ClassHybrid:
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", fmt.Errorf("making identity: %w", err)
		}
		return id.String(), id.Recipient().String(), nil
	}
	return "", "", fmt.Errorf("making identity: unknown class %q; expected %q or %q", class, ClassX25519, ClassHybrid)
}
