package sweep_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

const node = "n1"

// start is the hour in which every batch of the tests was received.
var start = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

// keys are those of all holders. Each is written to a file, so that a process that is killed and its successor have the same.
type keys struct {
	Stream, Custodian, Approval, Log []byte            // seeds
	Identities                       map[string]string // "W of <destination>", "E", "R"
	Recipients                       map[string]string
}

func newKeys() (k keys, err error) {
	seed := func(name string) []byte { s := sha256.Sum256([]byte("octroi test key " + name)); return s[:] }
	k = keys{
		Stream: seed("stream"), Custodian: seed("custodian"), Approval: seed("approval"), Log: seed("log"),
		Identities: map[string]string{}, Recipients: map[string]string{},
	}
	for _, name := range []string{"warehouse", "accounting", "E", "R", "stranger"} {
		if k.Identities[name], k.Recipients[name], err = export.NewIdentity(export.ClassX25519); err != nil {
			return k, err
		}
	}
	return k, nil
}

func private(seed []byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed) }
func public(seed []byte) ed25519.PublicKey   { return private(seed).Public().(ed25519.PublicKey) }

func (k *keys) signer() (*evidence.Signer, error) {
	return evidence.NewSigner("octroi.example/"+node, private(k.Log))
}

func (k *keys) recipients(destination string) (export.Recipients, error) {
	return export.ParseRecipients(k.Recipients[destination], k.Recipients["E"], k.Recipients["R"])
}

// pins are the recipients that a custodian is configured with.
func (k *keys) pins() map[string][]string {
	all := map[string][]string{}
	for _, destination := range []string{"warehouse", "accounting"} {
		all[destination] = []string{k.Recipients[destination], k.Recipients["E"], k.Recipients["R"]}
	}
	return all
}

// world is a store with a gateway in front of it.
type world struct {
	testing.TB
	folder  string
	keys    keys
	store   export.Archive
	gateway *gateway
}

// newWorld is over a folder where store is nil.
func newWorld(t testing.TB, store export.Archive) *world {
	t.Helper()
	w := &world{TB: t, folder: t.TempDir(), store: store}
	var err error
	if w.keys, err = newKeys(); err != nil {
		t.Fatal(err)
	}
	if w.store == nil {
		w.store = openDir(t, filepath.Join(w.folder, "objects"))
	}
	w.gateway = newGateway(w)
	return w
}

func openDir(t testing.TB, folder string) *export.Dir {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := export.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// options are those of a custodian with all it needs; every change changes them.
func (w *world) options(changes ...func(*sweep.Options)) sweep.Options {
	w.Helper()
	ids, err := export.ParseIdentities([]byte(w.keys.Identities["E"]))
	if err != nil {
		w.Fatal(err)
	}
	signer, err := w.keys.signer()
	if err != nil {
		w.Fatal(err)
	}
	o := sweep.Options{
		Gateway: w.gateway.client(w.TB), Archive: w.store, Identities: ids, Key: private(w.keys.Custodian), Stream: public(w.keys.Stream),
		Log: signer.Verifier(), Approval: public(w.keys.Approval), State: filepath.Join(w.folder, "state"),
		Poll: 10 * time.Millisecond, Settle: 50 * time.Millisecond, Now: w.gateway.now, Recipients: w.keys.pins(),
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// custodian opens one until the test ends.
func (w *world) custodian(changes ...func(*sweep.Options)) *sweep.Sweep {
	w.Helper()
	s, err := sweep.Open(w.options(changes...))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.Close() })
	return s
}

// sweep makes one pass with a custodian that is opened for it.
func (w *world) sweep(changes ...func(*sweep.Options)) sweep.Report {
	w.Helper()
	s, err := sweep.Open(w.options(changes...))
	if err != nil {
		w.Fatal(err)
	}
	defer s.Close()
	report, err := s.Once(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return report
}

// subject is a pseudonym at a destination.
func subject(destination string, n int) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", destination, n))
	return [16]byte(sum[:16])
}

func pseudonym(destination string, n int) string {
	p := subject(destination, n)
	return hex.EncodeToString(p[:])
}

// rowsOf are one row for each subject, in order; a negative number is a person.
func rowsOf(destination string, batch uint64, subjects ...int) []pseudonymize.Row {
	rows := make([]pseudonymize.Row, len(subjects))
	for i, n := range subjects {
		id := sha256.Sum256(binary.BigEndian.AppendUint64(fmt.Appendf(nil, "%s/%d/", destination, i), batch))
		at := start.Add(time.Duration(i) * time.Second)
		p := subject(destination, n)
		rows[i] = pseudonymize.Row{
			EventID: [16]byte(id[:16]), Time: at, ReceivedAt: start, Type: "page_view", Channel: "web", Stage: "discover", Site: "shop",
			Grants: []pseudonymize.RowGrant{
				{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: p},
				{Purpose: "service", Version: 2, Basis: policies.Consent, Ref: p},
			},
			Campaign: "autumn", Properties: map[string]string{"url": fmt.Sprintf("https://shop.example/%s/%d?q=%d", destination, n, i), "basket": "3"},
		}
		if n < 0 {
			rows[i].Person, rows[i].Value = &p, pseudonymize.Money{Minor: 1230, Currency: "EUR"}
		} else {
			rows[i].Device = &p
		}
	}
	return rows
}

// texts are rows as text, sorted: two lists of rows are equal where these are.
func texts(rows []pseudonymize.Row) []string {
	all := make([]string, len(rows))
	for i := range rows {
		r := rows[i]
		r.DeviceSlot, r.PersonSlot = 0, 0
		if len(r.Properties) == 0 {
			r.Properties = nil
		}
		text, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		all[i] = string(text)
	}
	slices.Sort(all)
	return all
}

// open decrypts an object with the identity of a holder.
func (w *world) open(holder, key, version string) []pseudonymize.Row {
	w.Helper()
	r, err := w.store.Get(w.Context(), key, version)
	if err != nil {
		w.Fatalf("%s: %v", key, err)
	}
	defer r.Close()
	ids, err := export.ParseIdentities([]byte(w.keys.Identities[holder]))
	if err != nil {
		w.Fatal(err)
	}
	plain, err := export.Unseal(r, ids)
	if err != nil {
		w.Fatalf("%s: %v", key, err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(plain); err != nil {
		w.Fatal(err)
	}
	var rows []pseudonymize.Row
	err = export.DecodeRows(bytes.NewReader(b.Bytes()), int64(b.Len()), func(some []pseudonymize.Row) error {
		rows = append(rows, some...)
		return nil
	})
	if err != nil {
		w.Fatalf("%s: %v", key, err)
	}
	return rows
}

// objects are all versions of batches, by key; the store's other objects are not looked at.
func (w *world) objects() map[string][]export.ObjectVersion {
	w.Helper()
	all := map[string][]export.ObjectVersion{}
	for _, destination := range []string{"warehouse", "accounting"} {
		err := w.store.Versions(w.Context(), destination+"/events/", func(v export.ObjectVersion) error {
			all[v.Key] = append(all[v.Key], v)
			return nil
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return all
}

// wantRows checks that the store holds, of all versions of all batches together, exactly these rows.
func (w *world) wantRows(want []pseudonymize.Row) {
	w.Helper()
	var got []pseudonymize.Row
	for _, key := range slices.Sorted(maps.Keys(w.objects())) {
		for _, v := range w.objects()[key] {
			if v.Marker {
				w.Errorf("%s has a delete marker", key)
				continue
			}
			got = append(got, w.open("E", key, v.Version)...)
		}
	}
	if !slices.Equal(texts(got), texts(want)) {
		w.Errorf("%d rows are in the store, want %d, or others", len(got), len(want))
	}
}

// wantHolders checks that destination and recovery read of each object what the custodian reads.
func (w *world) wantHolders() {
	w.Helper()
	for key := range w.objects() {
		rows := texts(w.open("E", key, ""))
		destination, _, _ := strings.Cut(key, "/")
		for _, holder := range []string{destination, "R"} {
			if !slices.Equal(texts(w.open(holder, key, "")), rows) {
				w.Errorf("%s: %s reads other rows than E", key, holder)
			}
		}
	}
}

// without are the rows of nobody of these.
func without(rows []pseudonymize.Row, destination string, subjects ...int) (left []pseudonymize.Row) {
	for _, r := range rows {
		gone := slices.ContainsFunc(subjects, func(n int) bool {
			p := subject(destination, n)
			return r.Device != nil && *r.Device == p || r.Person != nil && *r.Person == p
		})
		if !gone {
			left = append(left, r)
		}
	}
	return left
}
