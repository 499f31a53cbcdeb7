package pseudonymize

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// Sealed is an Event as the spool stores it. Payload opens only while the keys of all its subjects exist:
//
//	payload  = 0x01 (version) ‖ nonce (12) ‖ AES-256-GCM(key, nonce, codec v1, additional data)
//	key      = Derive("spool") of the one subject
//	           of two: SHA-256("octroi spool v1 both" ‖ device.Derive("spool") ‖ person.Derive("spool"))
//	           without a subject: SHA-256("octroi spool v1 none" ‖ the gateway's spool key)
//	add. data = version ‖ Sequence ‖ ReceivedMillis (8 each) ‖ Device ‖ Person (4 each), big endian
type Sealed struct {
	Sequence       uint64 // revocation sequence of the grants
	ReceivedMillis int64  // Unix milliseconds
	Device, Person subject.Slot
	Payload        []byte
}

const (
	sealedVersion = 1
	nonceSize     = 12
)

// Keys gives a slot's subject: subject.ErrShredded where it was destroyed.
type Keys interface {
	BySlot(subject.Slot) (subject.Subject, error)
}

// Sealer seals events one after another, and keeps the cipher while they are of the same subjects, as the events of one request are: making
// it is most of the work. It is not safe for concurrent use. The zero value seals no event without a subject.
type Sealer struct {
	None []byte // the gateway's key for events without a subject, 32 bytes

	device, person subject.Slot
	aead           cipher.AEAD     // of device and person; nil at first
	nonce          [nonceSize]byte // random with each cipher, then counted up in its last 4 bytes
	left           uint32          // events until they have all been used
	plain, data    []byte
	payload        []byte
}

// Seal encrypts the event; ErrNoGrants where it is the zero value. The payload is valid until the next call.
func (x *Sealer) Seal(e *Event) (Sealed, error) {
	if !e.Valid() {
		return Sealed{}, ErrNoGrants
	}
	s := Sealed{
		Sequence: e.sequence, ReceivedMillis: e.received.UnixMilli(),
		Device: e.device.Slot(), Person: e.person.Slot(),
	}
	if x.aead == nil || x.device != s.Device || x.person != s.Person || x.left == 0 {
		aead, err := payloadCipher(e.device, e.person, x.None)
		if err != nil {
			return Sealed{}, fmt.Errorf("sealing event: %w", err)
		}
		x.aead, x.device, x.person, x.left = aead, s.Device, s.Person, math.MaxUint32
		rand.Read(x.nonce[:])
	}
	x.left--
	binary.BigEndian.PutUint32(x.nonce[8:], binary.BigEndian.Uint32(x.nonce[8:])+1)
	x.plain, x.data = e.encode(x.plain[:0]), s.additional(x.data[:0])
	x.payload = append(append(x.payload[:0], sealedVersion), x.nonce[:]...)
	x.payload = x.aead.Seal(x.payload, x.nonce[:], x.plain, x.data)
	s.Payload = x.payload
	return s, nil
}

// Forget drops the last subjects' cipher; what is kept for the next request is memory, and no key.
func (x *Sealer) Forget() { x.aead = nil }

// Seal encrypts one event. none is the gateway's key for events without a subject (32 bytes).
func (e *Event) Seal(none []byte) (Sealed, error) {
	return (&Sealer{None: none, plain: make([]byte, 0, 512)}).Seal(e)
}

// Open reverses Seal: subject.ErrShredded where a subject in it was destroyed, ErrSealed where bytes were changed.
func (s *Sealed) Open(k Keys, none []byte) (Event, error) {
	var device, person subject.Subject
	var err error
	if s.Device != 0 {
		if device, err = k.BySlot(s.Device); err != nil {
			return Event{}, fmt.Errorf("opening event of a device: %w", err)
		}
	}
	if s.Person != 0 {
		if person, err = k.BySlot(s.Person); err != nil {
			return Event{}, fmt.Errorf("opening event of a person: %w", err)
		}
	}
	aead, err := payloadCipher(device, person, none)
	if err != nil {
		return Event{}, fmt.Errorf("opening event: %w", err)
	}
	if len(s.Payload) < 1+nonceSize || s.Payload[0] != sealedVersion {
		return Event{}, ErrSealed
	}
	plain, err := aead.Open(nil, s.Payload[1:1+nonceSize], s.Payload[1+nonceSize:], s.additional(nil))
	if err != nil {
		return Event{}, ErrSealed
	}
	e, err := decode(plain)
	if err != nil {
		return Event{}, err
	}
	e.device, e.person = device, person
	return e, nil
}

func (s *Sealed) additional(b []byte) []byte {
	b = append(b, sealedVersion)
	b = binary.BigEndian.AppendUint64(b, s.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(s.ReceivedMillis))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Device))
	return binary.BigEndian.AppendUint32(b, uint32(s.Person))
}

func payloadCipher(device, person subject.Subject, none []byte) (cipher.AEAD, error) {
	var key [32]byte
	switch {
	case !device.Exists() && !person.Exists():
		key = sha256.Sum256(append([]byte("octroi spool v1 none"), none...))
	case !person.Exists():
		key = device.Derive("spool")
	case !device.Exists():
		key = person.Derive("spool")
	default:
		b := make([]byte, 0, 96)
		d, p := device.Derive("spool"), person.Derive("spool")
		key = sha256.Sum256(append(append(append(b, "octroi spool v1 both"...), d[:]...), p[:]...))
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
