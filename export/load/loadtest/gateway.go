// Package loadtest ships batches by hand, as a gateway does, for tests of what reads them.
package loadtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// Gateway publishes batches to one destination.
type Gateway struct {
	Destination string
	Key         ed25519.PrivateKey
	Identity    string // of the destination: W
	Recipients  export.Recipients
	Objects     export.Objects

	t       testing.TB
	nodes   map[string]*node
	batches map[string]*batch // by id
}

// batch is what was published of one batch.
type batch struct {
	node       string
	first      export.Batch // of its batch entry
	stated     uint64       // number of the last entry that stated its object
	generation int
	object     string // key; empty: there is none
}

type node struct {
	number   uint64
	previous string
	events   uint64
}

// Hour is the hour of receipt of every batch.
var hour = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

// New makes a gateway with keys of its own.
func New(t testing.TB, objects export.Objects) *Gateway {
	t.Helper()
	g := &Gateway{Destination: "warehouse", Objects: objects, t: t, nodes: map[string]*node{}, batches: map[string]*batch{}}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Key = key
	var recipients [3]string
	for i := range recipients {
		identity, recipient, err := export.NewIdentity(export.ClassX25519)
		if err != nil {
			t.Fatal(err)
		}
		if recipients[i] = recipient; i == 0 {
			g.Identity = identity
		}
	}
	if g.Recipients, err = export.ParseRecipients(recipients[0], recipients[1], recipients[2]); err != nil {
		t.Fatal(err)
	}
	return g
}

// Public is the key that verifies the stream.
func (g *Gateway) Public() ed25519.PublicKey { return g.Key.Public().(ed25519.PublicKey) }

// Rows makes n events that no other call makes. Some have a person, some an amount; texts hold what breaks careless writers.
func (g *Gateway) Rows(name string, n int) []pseudonymize.Row {
	s := g.node(name)
	rows := make([]pseudonymize.Row, n)
	for i := range rows {
		s.events++
		id := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), s.events))
		device := [16]byte(id[16:])
		rows[i] = pseudonymize.Row{
			EventID: [16]byte(id[:16]), Time: hour.Add(time.Duration(i) * time.Millisecond), ReceivedAt: hour, Device: &device,
			Type: "page_view", Channel: "web", Stage: "discover", Site: []string{"shop", "magasin"}[i%2],
			Grants:     []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: device}},
			Properties: map[string]string{"url": "https://shop.example/<p>?a=1&b=\"2\"\n\u2028é"},
		}
		if i%3 == 0 {
			rows[i].Person, rows[i].Device = &device, nil
			rows[i].Value = pseudonymize.Money{Minor: 1230, Currency: "EUR"}
		}
	}
	return rows
}

func (g *Gateway) node(name string) *node {
	if g.nodes[name] == nil {
		g.nodes[name] = &node{}
	}
	return g.nodes[name]
}

// Seal is what a batch of rows looks like in the store.
func (g *Gateway) Seal(rows []pseudonymize.Row) []byte {
	g.t.Helper()
	var object bytes.Buffer
	w, err := export.Seal(&object, g.Recipients)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := export.EncodeRows(w, rows); err != nil {
		g.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		g.t.Fatal(err)
	}
	return object.Bytes()
}

// Publish ships rows as a node's next batch.
func (g *Gateway) Publish(name string, rows []pseudonymize.Row) export.Entry {
	g.t.Helper()
	return g.PublishObject(name, g.Seal(rows), len(rows), nil)
}

// PublishObject ships an object as a node's next batch; change, where it is not nil, changes the entry before it is signed.
func (g *Gateway) PublishObject(name string, object []byte, rows int, change func(*export.Entry)) export.Entry {
	g.t.Helper()
	e := g.Next(name, object, rows)
	if change != nil {
		change(&e)
	}
	version, err := g.put(e.Batch.Key, object)
	if err != nil {
		g.t.Fatal(err)
	}
	e.Batch.Version = version
	g.PublishEntry(e)
	return e
}

// Next is the entry that would state an object as a node's next batch.
func (g *Gateway) Next(name string, object []byte, rows int) export.Entry {
	sum := sha256.Sum256(object)
	e := g.after(name, export.BatchEntry)
	e.Batch = &export.Batch{
		ID: fmt.Sprintf("%s-%06d", name, e.Number), Key: export.BatchKey(g.Destination, name, hour, e.Number, e.Number, 0), SHA256: hex.EncodeToString(sum[:]),
		Size: int64(len(object)), Rows: rows, From: hour, To: hour, Purposes: []string{"audience"}, PolicyHash: strings.Repeat("00", 32),
		Recipients: g.Recipients.Names, Schema: export.EventsSchema,
	}
	return e
}

// PublishEntry signs and stores an entry, and makes it the node's last.
func (g *Gateway) PublishEntry(e export.Entry) {
	g.t.Helper()
	token, err := export.SignEntry(e, g.Key)
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.put(export.EntryKey(e.Destination, e.Node, e.Number), []byte(token)); err != nil {
		g.t.Fatal(err)
	}
	s := g.node(e.Node)
	s.number, s.previous = e.Number, export.EntryHash(token)
	if e.Batch != nil {
		g.batches[e.Batch.ID] = &batch{node: e.Node, first: *e.Batch, stated: e.Number, generation: 1, object: e.Batch.Key}
	}
}

// Replace ships rows as the next object of a batch; without rows none is left. It answers the key of the object that is no longer needed.
func (g *Gateway) Replace(id string, rows []pseudonymize.Row) (old string) {
	g.t.Helper()
	return g.ReplaceAs(g.batches[id].node, id, rows)
}

// ReplaceAs is Replace in the stream of any node.
func (g *Gateway) ReplaceAs(name, id string, rows []pseudonymize.Row) (old string) {
	g.t.Helper()
	b := g.batches[id]
	b.generation++
	r := export.Replace{Batch: id, Of: b.stated, Generation: b.generation}
	old, b.object = b.object, ""
	if len(rows) > 0 {
		object := g.Seal(rows)
		sum := sha256.Sum256(object)
		now := b.first
		now.Key = strings.TrimSuffix(now.Key, ".0.parquet.age") + fmt.Sprintf(".%d.parquet.age", b.generation)
		now.SHA256, now.Size, now.Rows, b.object = hex.EncodeToString(sum[:]), int64(len(object)), len(rows), now.Key
		version, err := g.put(now.Key, object)
		if err != nil {
			g.t.Fatal(err)
		}
		now.Version, r.Now = version, &now
	}
	e := g.after(name, export.ReplaceEntry)
	e.Replace, b.stated = &r, e.Number
	g.PublishEntry(e)
	return old
}

// Notify enters notices into a node's stream, sealed to the destination; it answers the key of their object.
func (g *Gateway) Notify(name string, t export.EntryType, notices ...export.Notice) (key string) {
	g.t.Helper()
	var sealed [][]byte
	for _, n := range notices {
		one, err := export.SealNotice(n, g.Recipients)
		if err != nil {
			g.t.Fatal(err)
		}
		sealed = append(sealed, one)
	}
	return g.NotifyObject(name, t, export.PackNotices(sealed), nil)
}

// NotifyObject enters a notice object into a node's stream; change, where it is not nil, changes the entry before it is signed.
func (g *Gateway) NotifyObject(name string, t export.EntryType, object []byte, change func(*export.Entry)) (key string) {
	g.t.Helper()
	e := g.after(name, t)
	sum := sha256.Sum256(object)
	e.Notice = &export.NoticeRef{Key: export.NoticeKey(g.Destination, name, e.Number), SHA256: hex.EncodeToString(sum[:]), Size: int64(len(object))}
	if change != nil {
		change(&e)
	}
	version, err := g.put(e.Notice.Key, object)
	if err != nil {
		g.t.Fatal(err)
	}
	e.Notice.Version = version
	g.PublishEntry(e)
	return e.Notice.Key
}

// after is the next entry of a node, without its statement.
func (g *Gateway) after(name string, t export.EntryType) export.Entry {
	s := g.node(name)
	return export.Entry{Destination: g.Destination, Node: name, Number: s.number + 1, Type: t, IssuedAt: hour.Add(time.Hour), Previous: s.previous}
}

func (g *Gateway) put(key string, body []byte) (version string, err error) {
	return g.Objects.Put(g.t.Context(), key, bytes.NewReader(body), int64(len(body)), sha256.Sum256(body))
}
