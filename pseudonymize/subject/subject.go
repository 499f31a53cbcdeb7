// Package subject knows subjects: how an identifier becomes a lookup tag, where a subject's key lives and dies, and which
// credential speaks for which subject.
//
// Raw identifiers never leave Normalise's result; what is stored is a tag, HMAC-SHA256(lookup key vN, namespace ‖ 0x00 ‖
// normalised)[:16]. A subject's 32-byte key exists only in its slot of the slot file; overwriting the slot destroys the subject.
package subject

import (
	"context"
	"errors"

	"github.com/octroi/octroi/consent/state"
)

// The errors of this package.
var (
	ErrUnknown    = errors.New("no such subject")
	ErrShredded   = errors.New("the subject's key was destroyed")
	ErrDamaged    = errors.New("slot file is damaged")
	ErrIdentifier = errors.New("identifier cannot be normalised")
	ErrNamespace  = errors.New("unknown identifier namespace")
)

// Kind says what a subject is. Device: one browser or app, known by a secret the gateway minted. Person: known by identifiers
// that a back-end's token named.
type Kind uint8

// The kinds of subject.
const (
	Device Kind = iota + 1
	Person
)

// Slot is the number of a subject's slot. 0 is no subject. Slots are never reused.
type Slot uint32

// Subject is a subject whose key is known. It is a value: copying it copies the key. The zero value is no subject.
type Subject struct {
	slot Slot
	kind Kind
	key  [32]byte
}

func (s Subject) Slot() Slot   { return s.slot }
func (s Subject) Kind() Kind   { return s.kind }
func (s Subject) Exists() bool { return s.slot != 0 }

// ID is the subject's own id (16 bytes, lower-case hex), as it stands in consent records. It is HMAC(key, "id") and so dies with the key.
func (s Subject) ID() string { panic("skeleton") }

// Derive is HMAC-SHA256(subject key, use): row keys, salts, payload keys, pseudonyms all come from here.
// Uses in force: "id", "check", "row:<table>", "seal:<table>", "salt:<n>", "salt':<n>", "spool", "pseudonym:<destination>", "event:<destination>".
func (s Subject) Derive(use string) [32]byte { panic("skeleton") }

// RowKey is the key of a row that belongs to the subject: prefix ‖ Derive("row:"+table)[:16] ‖ suffix.
func (s Subject) RowKey(table string, suffix []byte) []byte { panic("skeleton") }

// Seal encrypts a row's value under the subject (AES-256-GCM, random nonce; additional data is the row's key).
func (s Subject) Seal(table string, rowKey, plaintext []byte) []byte { panic("skeleton") }

// Open reverses Seal.
func (s Subject) Open(table string, rowKey, sealed []byte) ([]byte, error) { panic("skeleton") }

// Identifier is a normalised identifier. It exists only between the HTTP edge and the lookup: it has no String, and formats as "[identifier]".
type Identifier struct{ namespace, value string }

// Normalise brings a raw identifier to the form that is looked up (normaliser v1): email, phone, user, loyalty, receipt.
// region is the ISO 3166 region of phone numbers without a country code. Errors never hold the value.
func Normalise(namespace, raw, region string) (Identifier, error) { panic("skeleton") }

// Tag is an identifier's lookup tag.
type Tag [16]byte

// Options configure OpenRegistry.
type Options struct {
	State     *state.Store
	SlotFile  string
	LookupKey []byte // 32 bytes
	CacheSize int    // tags kept in memory; default 2,000,000
}

// Registry finds, creates and destroys subjects. Safe for concurrent use.
type Registry struct{}

// OpenRegistry opens or creates the slot file. A slot file that ends inside a slot or whose header is wrong is ErrDamaged.
func OpenRegistry(o Options) (*Registry, error) { panic("skeleton") }

func (r *Registry) Close() error { panic("skeleton") }

// Credential is the secret of a device: 128 random bits, minted by the gateway, as the cookie or the app's credential carries it
// (base64url). It formats as "[credential]".
type Credential struct{ secret [16]byte }

// ParseCredential reads a cookie's or app credential's text.
func ParseCredential(text string) (Credential, bool) { panic("skeleton") }

// Text is what goes into the cookie or the app's answer.
func (c Credential) Text() string { panic("skeleton") }

// Device finds the subject of a credential: ErrUnknown, or the subject.
func (r *Registry) Device(c Credential) (Subject, error) { panic("skeleton") }

// Person finds the subject that the identifiers name. Identifiers of two different subjects are an error: persons are never joined.
func (r *Registry) Person(ids ...Identifier) (Subject, error) { panic("skeleton") }

// ErrTwoPersons: the identifiers of one request name two different persons.
var ErrTwoPersons = errors.New("identifiers name two different persons")

// MintDevice creates a device-level subject inside t: its tag row is committed with t. The slot's key is durable before it returns.
func (r *Registry) MintDevice(t *state.Txn) (Credential, Subject, error) { panic("skeleton") }

// EnsurePerson finds or creates, inside t, the person that ids name, and adds the tags that are new to it.
func (r *Registry) EnsurePerson(t *state.Txn, ids ...Identifier) (s Subject, created bool, err error) {
	panic("skeleton")
}

// BySlot is the subject of a slot: ErrShredded when it was overwritten, ErrUnknown when it was never given out.
func (r *Registry) BySlot(slot Slot) (Subject, error) { panic("skeleton") }

// Shred deletes the subject's tag rows (a row sealed under the subject lists them), then overwrites its slot in place and fsyncs.
// What was sealed under the subject opens to nobody from now on. Idempotent; resumes after a crash between the two.
func (r *Registry) Shred(ctx context.Context, s Subject) error { panic("skeleton") }

// Tag computes an identifier's lookup tag; TagOf a credential's.
func (r *Registry) Tag(id Identifier) Tag  { panic("skeleton") }
func (r *Registry) TagOf(c Credential) Tag { panic("skeleton") }

// Count is the number of slots ever given out.
func (r *Registry) Count() int { panic("skeleton") }
