package load

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// sink is where a destination's rows go, with what must be remembered of them: a folder or a database. Its methods are called one at a time.
type sink interface {
	// positions are those of every node of which an entry was applied.
	positions(ctx context.Context) (map[string]position, error)
	// batch is what is recorded of a batch; known is false where it was never loaded.
	batch(ctx context.Context, id string) (r record, known bool, err error)
	// batches calls fn for every batch of a node.
	batches(ctx context.Context, node string, fn func(record)) error
	// begin opens the transaction of one entry. Its owner ends it by commit or rollback before the next.
	begin(ctx context.Context, at place) (change, error)
	// fail records why a node's stream stands still.
	fail(ctx context.Context, node string, f failure) error
	// scratch is the folder for files that have no name.
	scratch() string
	close() error
}

// change is what one entry does at a sink: when commit returns all of it is durable, with the position, and otherwise nothing is.
type change interface {
	// load puts the rows of a batch that no batch brought before, and records it with their number; b is what its batch entry states.
	load(ctx context.Context, b *export.Batch, r record, rows source) (record, error)
	// carryOut does to a loaded batch what an order says. At most once a batch.
	carryOut(ctx context.Context, o order) (effect, error)
	commit(ctx context.Context) error
	rollback() // after commit it does nothing
}

// source calls fn with rows, piece by piece, and returns its error; every call begins anew.
type source func(fn func([]pseudonymize.Row) error) error

// place is the entry that a change carries out.
type place struct {
	node string
	position
}

// position is the last entry that was applied.
type position struct {
	Number   uint64    `json:"number"`
	Previous string    `json:"previous"` // its hash
	At       time.Time `json:"at"`       // when it was applied
}

// failure is why a node's stream stands still. The text holds no personal data.
type failure struct {
	Number uint64    `json:"number"`
	Text   string    `json:"text"`
	At     time.Time `json:"at"`
}

// record is what is known of one loaded batch.
type record struct {
	ID         string `json:"-"`
	Node       string `json:"node"`
	Number     uint64 `json:"number"`           // of the batch entry
	Stated     uint64 `json:"stated,omitempty"` // of the entry whose object the rows are of: Number, or a replace entry's
	Rows       int    `json:"rows"`             // that everybody sees
	Duplicates int    `json:"duplicates"`       // rows that another batch had brought before
	Hidden     int    `json:"hidden,omitempty"` // rows under restriction
	Restricted people `json:"restricted,omitzero"`

	// Of a folder: the batch's file below it, and the hashes (hex) of that and of the file of its hidden rows; empty where there is none.
	Path         string `json:"path"`
	SHA256       string `json:"sha256"`
	HiddenSHA256 string `json:"hidden_sha256,omitempty"`
}

// order is what an entry asks of one loaded batch.
type order struct {
	batch record

	// A replace entry, or one ahead: the object that holds the batch's rows now, and the entry that states it.
	stated uint64
	newest source // nil: the order is of notices

	cuts       []export.Cut // erase, withdraw
	hide, show people       // restrict, lift
}

// restricted are those whose rows are hidden when the order is carried out. Who is erased is forgotten here too.
func (o *order) restricted() people {
	p := o.batch.Restricted.with(o.hide).without(o.show)
	for i := range o.cuts {
		if c := &o.cuts[i]; c.Purposes == nil {
			p = p.without(people{c.Devices, c.Persons})
		}
	}
	return p
}

// cut applies the order's cuts to row.
func (o *order) cut(row *pseudonymize.Row) (keep, changed bool) {
	for i := range o.cuts {
		kept, touched := o.cuts[i].Row(row)
		if changed = changed || touched; !kept {
			return false, true
		}
	}
	return true, changed
}

// effect counts the rows that an entry concerned.
type effect struct{ gone, reduced, hidden, shown int }

func (e *effect) add(x effect) {
	e.gone, e.reduced, e.hidden, e.shown = e.gone+x.gone, e.reduced+x.reduced, e.hidden+x.hidden, e.shown+x.shown
}

// people are pseudonyms of this destination. The zero people are nobody; the maps are not written after they are made.
type people struct{ devices, persons map[[16]byte]bool }

// IsZero says that they are nobody.
func (p people) IsZero() bool { return len(p.devices)+len(p.persons) == 0 }

// has says whether row is about one of them.
func (p people) has(row *pseudonymize.Row) bool {
	return row.Device != nil && p.devices[*row.Device] || row.Person != nil && p.persons[*row.Person]
}

func (p people) with(q people) people {
	return people{union(p.devices, q.devices), union(p.persons, q.persons)}
}

func (p people) without(q people) people {
	return people{difference(p.devices, q.devices), difference(p.persons, q.persons)}
}

func union(a, b map[[16]byte]bool) map[[16]byte]bool {
	all := maps.Clone(a)
	if all == nil {
		all = map[[16]byte]bool{}
	}
	maps.Copy(all, b)
	return all
}

func difference(a, b map[[16]byte]bool) map[[16]byte]bool {
	left := maps.Clone(a)
	maps.DeleteFunc(left, func(p [16]byte, _ bool) bool { return b[p] })
	return left
}

// texts are the pseudonyms as 32 hex digits each, in order.
func (p people) texts() (devices, persons []string) {
	list := func(all map[[16]byte]bool) []string {
		texts := make([]string, 0, len(all))
		for q := range all {
			texts = append(texts, hex.EncodeToString(q[:]))
		}
		slices.Sort(texts)
		return texts
	}
	return list(p.devices), list(p.persons)
}

// peopleOf reads what texts wrote.
func peopleOf(devices, persons []string) (p people, err error) {
	set := func(texts []string) (map[[16]byte]bool, error) {
		all := make(map[[16]byte]bool, len(texts))
		for _, text := range texts {
			q, err := parseID(text)
			if err != nil {
				return nil, err
			}
			all[q] = true
		}
		return all, nil
	}
	if p.devices, err = set(devices); err != nil {
		return people{}, err
	}
	p.persons, err = set(persons)
	return p, err
}

// peopleText is people as a record has them.
type peopleText struct {
	Devices []string `json:"devices,omitempty"`
	Persons []string `json:"persons,omitempty"`
}

// MarshalJSON writes peopleText.
func (p people) MarshalJSON() ([]byte, error) {
	devices, persons := p.texts()
	return json.Marshal(peopleText{devices, persons})
}

// UnmarshalJSON reads peopleText.
func (p *people) UnmarshalJSON(text []byte) (err error) {
	var t peopleText
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	*p, err = peopleOf(t.Devices, t.Persons)
	return err
}
