package consent

import (
	"context"
	"errors"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// ErrNoLinking: the device does not consent to linking.
var ErrNoLinking = errors.New("the device does not consent to linking")

// Identification joins a device to a person from now on.
type Identification struct {
	Site    Site
	Device  subject.Subject
	Persons []subject.Identifier // of the person, who is created where nobody has them
	Method  string               // login_claim | token
	Entity  string               // who says so
}

// Link is one time during which a device was joined to a person.
type Link struct {
	Device, Person subject.Subject
	Since          time.Time
	Until          time.Time // zero: it stands
	Method         string
}

// Identify joins a device to a person from now on (architecture.md "Link, not merge"). A link to another person ends; one to the same goes on.
// ErrNoLinking where the device does not consent to it.
func (l *Ledger) Identify(ctx context.Context, i Identification) (Link, error) {
	return Link{}, errors.ErrUnsupported
}

// Unlink ends the device's link, if it has one.
func (l *Ledger) Unlink(ctx context.Context, site Site, device subject.Subject, entity string) (ended bool, err error) {
	return false, errors.ErrUnsupported
}

// UnlinkIn is Unlink as a part of the caller's change.
func (l *Ledger) UnlinkIn(t *state.Txn, site Site, device subject.Subject, entity string) (ended bool, err error) {
	return false, errors.ErrUnsupported
}

// Links are the times of a device or of a person, oldest first.
func (l *Ledger) Links(s subject.Subject) ([]Link, error) { return nil, nil }

// Linked is the person to whom a device is joined now; the zero subject where it is joined to nobody, or consents to it no more.
func (l *Ledger) Linked(device subject.Subject) (person subject.Subject, err error) {
	return subject.Subject{}, nil
}
