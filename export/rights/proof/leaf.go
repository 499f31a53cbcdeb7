package proof

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/evidence"
)

// Leaf is the core of the evidence leaf of one step of a request. It has random salts and no strippable part, and holds nothing of a person.
//
//	stored form, version 1:  the JSON below, as encoding/json writes it; another spelling of the same values is refused
type Leaf struct {
	Kind        string         `json:"kind"` // "rights"
	Version     int            `json:"v"`    // 1
	Request     string         `json:"request"`
	Right       Right          `json:"right"`
	Origin      Origin         `json:"origin"`
	Event       string         `json:"event"` // see the constants
	Actor       string         `json:"actor"` // person, gateway, custodian, or the name of an access token
	Time        time.Time      `json:"time"`  // UTC, milliseconds; of EventReceived: when the request arrived, which may have been elsewhere before
	Due         time.Time      `json:"due,omitzero"`
	Reason      string         `json:"reason,omitempty"` // of a closed list
	Destination string         `json:"destination,omitempty"`
	Number      uint64         `json:"number,omitempty"` // of a stream entry
	SHA256      string         `json:"sha256,omitempty"` // of an approval, a report, a package, a certificate
	Counts      map[string]int `json:"counts,omitempty"`
	Remains     []Exception    `json:"remains,omitempty"` // of EventSuppressed and EventSevered: what this step leaves behind, by What
}

// LeafKind is the kind by which these leaves differ from others of the log.
const LeafKind = "rights"

// The events of leaves.
const (
	EventReceived   = "received"
	EventVerified   = "verified"
	EventApproved   = "approved"
	EventDenied     = "denied"
	EventExtended   = "extended"
	EventAsked      = "asked"    // information was asked for: the clock stands
	EventAnswered   = "answered" // and goes on
	EventCancelled  = "cancelled"
	EventExpired    = "expired"
	EventFailed     = "failed"
	EventSuppressed = "suppressed"
	EventSevered    = "severed"    // tags deleted, slot overwritten
	EventNotified   = "notified"   // a destination's stream has the entry: Destination, Number
	EventSpoolGone  = "spool_gone" // nothing that was spooled before the freeze is left
	EventPurged     = "purged"     // the custodian proved every former object gone
	EventConfirmed  = "confirmed"  // a destination acknowledged: Destination, Number
	EventPackaged   = "packaged"   // an access package is there: SHA256
	EventOpened     = "opened"     // and was opened
	EventCertified  = "certified"  // SHA256 of the certificate
	EventCompleted  = "completed"
	EventForgotten  = "forgotten" // the request's identity was purged
)

var events = []string{
	EventReceived, EventVerified, EventApproved, EventDenied, EventExtended, EventAsked, EventAnswered, EventCancelled, EventExpired, EventFailed,
	EventSuppressed, EventSevered, EventNotified, EventSpoolGone, EventPurged, EventConfirmed, EventPackaged, EventOpened, EventCertified,
	EventCompleted, EventForgotten,
}

// maxLeaf bounds a leaf's core in bytes; one takes about 300.
const maxLeaf = 16 << 10

// NewLeaf is the opening of l, with fresh salts. Kind and Version are set, and times brought to UTC and whole milliseconds; what ParseLeaf would
// refuse is ErrStatement.
func NewLeaf(l Leaf) (evidence.Opening, error) {
	l.Kind, l.Version, l.Time, l.Due = LeafKind, 1, stamp(l.Time), stamp(l.Due)
	l.Remains = slices.Clone(l.Remains)
	for i := range l.Remains {
		l.Remains[i].Until = stamp(l.Remains[i].Until)
	}
	if err := l.check(); err != nil {
		return evidence.Opening{}, fmt.Errorf("making leaf: %w", err)
	}
	core, err := json.Marshal(&l)
	if err != nil {
		return evidence.Opening{}, fmt.Errorf("making leaf: %w", err)
	}
	if len(core) > maxLeaf {
		return evidence.Opening{}, fmt.Errorf("making leaf: %w: longer than %d bytes", ErrStatement, maxLeaf)
	}
	o := evidence.Opening{Core: core}
	rand.Read(o.Salt[:])
	rand.Read(o.StrippableSalt[:])
	return o, nil
}

// ParseLeaf reads the core of an opening that NewLeaf made: ErrStatement.
func ParseLeaf(core []byte) (Leaf, error) {
	var l Leaf
	if len(core) > maxLeaf {
		return l, fmt.Errorf("reading leaf: %w: longer than %d bytes", ErrStatement, maxLeaf)
	}
	err := read(core, &l)
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return Leaf{}, fmt.Errorf("reading leaf: %w", err)
	}
	return l, nil
}

func (l *Leaf) check() error {
	err := all(
		field{"kind", l.Kind == LeafKind}, field{"v", l.Version == 1}, field{"request", requestID.MatchString(l.Request)},
		field{"right", l.Right.known()}, field{"origin", l.Origin.known()}, field{"event", slices.Contains(events, l.Event)},
		field{"actor", l.Actor != "" && plain(l.Actor)}, field{"time", whole(l.Time, time.Millisecond)},
		field{"due", wholeOrNone(l.Due, time.Millisecond)}, field{"reason", l.Reason == "" || name.MatchString(l.Reason)},
		field{"destination", l.Destination == "" || name.MatchString(l.Destination)}, field{"number", l.Number < 1e12},
		field{"sha256", l.SHA256 == "" || digest.MatchString(l.SHA256)}, field{"counts", counts(l.Counts, name, maxDestinations)},
		field{"remains", len(l.Remains) == 0 || l.Event == EventSuppressed || l.Event == EventSevered},
	)
	if err != nil {
		return err
	}
	if l.Event == EventNotified || l.Event == EventConfirmed {
		err = all(field{"destination", l.Destination != ""}, field{"number", l.Number > 0})
	}
	if err != nil {
		return err
	}
	return checkExceptions(l.Remains)
}
