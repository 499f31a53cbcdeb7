package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// house is a gateway of the real wiring in a test's folder; nothing is shipped before the test says so.
type house struct {
	*gateway
	t   *testing.T
	dir string
	log *os.File
}

func openHouse(t *testing.T, dir string) *house {
	t.Helper()
	config := filepath.Join(dir, gatewayDir, "octroi.yaml")
	if _, err := os.Stat(config); errors.Is(err, os.ErrNotExist) {
		p := initPlan{
			dir: dir, class: "X25519", site: "shop", key: "demo", origins: []string{"http://127.0.0.1:8080"}, jurisdiction: "FR", controller: "Test",
			destinations: []string{"warehouse", "accounting"}, objects: "../objects", interval: "1h",
		}
		if err := p.create(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(c.path(c.Keys))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(dir, gatewayDir, "gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	g, err := openGateway(context.Background(), c, k, newLogger(log, slog.LevelDebug))
	if err != nil {
		t.Fatal(err)
	}
	return &house{g, t, dir, log}
}

func (h *house) shut() {
	h.t.Helper()
	if err := errors.Join(h.close(), h.log.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// post sends JSON to the public listener; header is added, and the answer's cookies are given back.
func (h *house) post(path string, header http.Header, want int, body any) ([]byte, []*http.Cookie) {
	h.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.public.Test(req, 20_000)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		h.t.Fatalf("%s answered %d, want %d: %s (%v)", path, resp.StatusCode, want, answer, err)
	}
	return answer, resp.Cookies()
}

// accept posts events and fails unless all of them are accepted.
func (h *house) accept(header http.Header, events ...map[string]any) {
	h.t.Helper()
	answer, _ := h.post("/v1/events?k=demo", header, http.StatusAccepted, events)
	if !bytes.Contains(answer, fmt.Appendf(nil, `"accepted":%d`, len(events))) {
		h.t.Fatalf("not all were accepted: %s", answer)
	}
}

func (h *house) flush() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, x := range h.exits {
		if err := x.shipper.Flush(ctx); err != nil {
			h.t.Fatal(err)
		}
	}
}

// away is a store that cannot be reached.
type away struct{ export.Objects }

func (away) Put(context.Context, string, io.ReadSeeker, int64, [32]byte) (string, error) {
	return "", export.ErrUnavailable
}

// sealOnly seals what is spooled; until the next start the store is away, so that it stays in the outbox.
func (h *house) sealOnly() {
	h.t.Helper()
	h.objects.(*checkedStore).Objects = away{}
	for _, x := range h.exits {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		go func() {
			for ctx.Err() == nil && x.shipper.Cursor() < h.spool.Tail() {
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
		}()
		if err := x.shipper.Flush(ctx); !errors.Is(err, context.Canceled) || x.shipper.Stats().Waiting != 1 {
			h.t.Fatalf("%+v: %v", x.shipper.Stats(), err)
		}
	}
}

func (h *house) bearer(claims collector.TokenClaims) http.Header {
	h.t.Helper()
	claims.Subject, claims.Expires = "test", time.Now().Add(time.Hour)
	token, err := mintToken(h.keys.Token, "n1", claims)
	if err != nil {
		h.t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// visitor consents and answers the browser's headers and its subject.
func (h *house) visitor() (http.Header, subject.Credential, subject.Subject) {
	h.t.Helper()
	resp, err := h.public.Test(httptest.NewRequest(http.MethodGet, "/v1/notice?k=demo&language=fr", nil), 20_000)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var notice struct{ Snapshot string }
	if err := json.NewDecoder(resp.Body).Decode(&notice); err != nil {
		h.t.Fatal(err)
	}
	origin := http.Header{"Origin": {"http://127.0.0.1:8080"}}
	_, cookies := h.post("/v1/consents", origin, http.StatusCreated, map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": map[string]bool{"audience": true}})
	for _, c := range cookies {
		if credential, ok := subject.ParseCredential(c.Value); ok {
			s, err := h.subjects.Device(credential)
			if err != nil {
				h.t.Fatal(err)
			}
			origin.Set("Cookie", c.Name+"="+c.Value)
			return origin, credential, s
		}
	}
	h.t.Fatal("no credential was minted")
	return nil, subject.Credential{}, subject.Subject{}
}

// needles are what must not be found of a subject: its key, what derives from it, and how others know it.
func (h *house) needles(s subject.Subject) (out [][]byte) {
	h.t.Helper()
	file, err := os.ReadFile(h.config.path(h.config.Slots))
	if err != nil {
		h.t.Fatal(err)
	}
	at := 4096 + 64*(int(s.Slot())-1)
	if n := binary.BigEndian.Uint32(file[at+4:]); n != uint32(s.Slot()) {
		h.t.Fatalf("the slot file is laid out otherwise: slot %d where %d should be", n, s.Slot())
	}
	raw := [][]byte{file[at+16 : at+48]}
	id, err := hex.DecodeString(s.ID())
	if err != nil {
		h.t.Fatal(err)
	}
	raw = append(raw, id)
	for _, x := range h.exits {
		p := x.destination.Pseudonym(s)
		raw = append(raw, p[:])
	}
	for _, b := range raw {
		out = append(out, b, []byte(hex.EncodeToString(b)), []byte(base64.StdEncoding.EncodeToString(b)), []byte(base64.RawURLEncoding.EncodeToString(b)))
	}
	return out
}

// erasedPair gives a visitor and a person consents and events, shipped and spooled, erases both inside the gateway, and answers what
// must not be found any more.
func erasedPair(h *house) (needles [][]byte, slots []subject.Slot, tags []subject.Tag) {
	browser, credential, device := h.visitor()
	till := h.bearer(collector.TokenClaims{Scopes: []string{"events:write", "consent:write"}, Declare: []string{"service"}})
	purchase := func(id string) map[string]any {
		return map[string]any{
			"id": id, "type": "store_purchase", "subject": map[string]string{"loyalty": "CANARY-CARD-1", "email": "canary.anna@example.org"},
			"fields": map[string]any{"value": map[string]string{"amount": "12.30", "currency": "EUR"}, "campaign": "canary-campaign"},
		}
	}
	view := func(id string) map[string]any {
		return map[string]any{"id": id, "type": "page_view", "fields": map[string]any{"url": "https://shop.example/canary-path", "campaign": "canary-campaign"}}
	}
	h.accept(browser, view("canary-event-1"))
	h.accept(till, purchase("canary-event-2"))
	h.flush()
	h.accept(browser, view("canary-event-5"))
	h.accept(till, purchase("canary-event-6"))
	h.sealOnly()
	h.accept(browser, view("canary-event-3"))
	h.accept(till, purchase("canary-event-4"))
	loyalty, err := subject.Normalise("loyalty", "CANARY-CARD-1", "FR")
	if err != nil {
		h.t.Fatal(err)
	}
	email, err := subject.Normalise("email", "canary.anna@example.org", "FR")
	if err != nil {
		h.t.Fatal(err)
	}
	person, err := h.subjects.Person(loyalty)
	if err != nil {
		h.t.Fatal(err)
	}
	needles = append(h.needles(device), h.needles(person)...)
	for _, text := range []string{"CANARY-CARD-1", "canary.anna", "canary-path", "canary-campaign", "canary-event", credential.Text()} {
		needles = append(needles, []byte(text))
	}
	for _, s := range []subject.Subject{device, person} {
		if _, err := h.ledger.Sever(context.Background(), s); err != nil {
			h.t.Fatal(err)
		}
	}
	return needles, []subject.Slot{device.Slot(), person.Slot()}, []subject.Tag{h.subjects.Tag(loyalty), h.subjects.Tag(email), h.subjects.TagOf(credential)}
}

// Invariant 5: after the slot was overwritten, whoever holds the gateway's disk and its keys finds of the subject at most that a tag
// once existed: not in the state, whose deleted rows Badger keeps, not in spool, outbox, slot file or log.
func TestErasedSubjectsLeaveNoResidue(t *testing.T) {
	dir := t.TempDir()
	h := openHouse(t, dir)
	needles, slots, tags := erasedPair(h)
	stateKey := h.keys.State
	before := countObjects(t, dir)
	h.shut()
	files(t, filepath.Join(dir, gatewayDir, "outbox"), ".age") // what was sealed before is searched as well
	search(t, filepath.Join(dir, gatewayDir), needles)
	searchRows(t, filepath.Join(dir, gatewayDir, "state"), stateKey, needles, tags)

	// A restart finds nobody, ships what was sealed before the erasure, and nothing that was spooled.
	h = openHouse(t, dir)
	h.flush()
	if after := countObjects(t, dir); after != before+2 {
		t.Errorf("%d objects became %d: two were sealed before the erasure, and the spooled events must not be", before, after)
	}
	for _, slot := range slots {
		if _, err := h.subjects.BySlot(slot); !errors.Is(err, subject.ErrShredded) {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
	id, err := subject.Normalise("email", "canary.anna@example.org", "FR")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.subjects.Person(id); !errors.Is(err, subject.ErrUnknown) {
		t.Errorf("the erased person is found again: %v", err)
	}
	h.shut()
	search(t, filepath.Join(dir, gatewayDir), needles)
	searchRows(t, filepath.Join(dir, gatewayDir, "state"), stateKey, needles, tags)
}

func countObjects(t *testing.T, dir string) int {
	n, _ := count(filepath.Join(dir, "objects", "warehouse", "events"))
	m, _ := count(filepath.Join(dir, "objects", "accounting", "events"))
	if n+m == 0 {
		t.Fatal("no object was shipped before the erasure")
	}
	return n + m
}

// search looks for the needles in every byte of every file below dir.
func search(t *testing.T, dir string, needles [][]byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, n := range needles {
			if bytes.Contains(b, n) || strings.Contains(path, string(n)) {
				t.Errorf("%s holds %q", path, n)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Fatalf("searched %d files: %v", files, err)
	}
}

// searchRows opens the state with its key, as one who stole both would, and looks at every version of every row, deleted ones too.
func searchRows(t *testing.T, dir string, key []byte, needles [][]byte, tags []subject.Tag) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithEncryptionKey(key).WithIndexCacheSize(1 << 20).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, seen := 0, map[int]bool{}
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			rows++
			k := it.Item().KeyCopy(nil)
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			for _, n := range needles {
				if bytes.Contains(k, n) || bytes.Contains(v, n) {
					t.Errorf("row %q holds %q", k, n)
				}
			}
			for i, tag := range tags {
				seen[i] = seen[i] || bytes.Contains(k, tag[:])
				if bytes.Contains(k, tag[:]) && len(v) > 16 {
					t.Errorf("a tag's row holds more than a slot and a check: %d bytes", len(v))
				}
			}
		}
		return nil
	})
	if err != nil || rows < 10 {
		t.Fatalf("looked at %d rows: %v", rows, err)
	}
	t.Logf("looked at %d rows; %d of %d tags can still be seen to have existed", rows, len(seen), len(tags))
}
