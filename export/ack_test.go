package export

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
)

// TestAckRoute: a loader acknowledges what it has read, and nothing else; what is older changes nothing.
func TestAckRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 4, "a", testStart)...)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 1 })
	w.enter(t, s)
	flush(t, s)
	if err := s.sealUpTo(t.Context(), w.spool.Tail()); err != nil {
		t.Fatal(err)
	}
	texts, _ := w.list(t, "warehouse")
	app := fiber.New()
	StreamRoutes(app, StreamOptions{
		Node: "a", State: w.state, Destinations: []string{"warehouse", "accounting"}, Now: func() time.Time { return w.now },
		Authorise: func(c *fiber.Ctx, scope string) error {
			if c.Get("Authorization") != "Bearer "+scope {
				return fiber.ErrForbidden
			}
			return nil
		},
	})
	post := func(destination, scope, body string, status int) {
		t.Helper()
		req := httptest.NewRequest(http.MethodPost, "/v1/streams/"+destination+"/ack", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer stream:"+scope)
		resp, err := app.Test(req, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %s %q %v, want %d", body, resp.Status, text, err, status)
		}
	}
	body := func(loader, node string, number int, text string) string {
		return fmt.Sprintf(`{"loader":%q,"node":%q,"number":%d,"sha256":%q}`, loader, node, number, EntryHash(text))
	}
	good := body("dwh-1", "a", 3, texts[2])
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, good); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, "/v1/streams/warehouse/ack", &packed)
	req.Header.Set("Authorization", "Bearer stream:warehouse")
	req.Header.Set("Content-Encoding", "gzip") // Fiber would unpack it, without a bound (CWE-409)
	if resp, err := app.Test(req, -1); err != nil || resp.StatusCode != 422 {
		t.Errorf("a packed acknowledgement: %v %v", resp.Status, err)
	}
	post("warehouse", "accounting", good, 403)
	post("other", "other", good, 404)
	post("accounting", "accounting", good, 409) // nothing is published there
	post("warehouse", "warehouse", good, 204)
	post("warehouse", "warehouse", good, 204)
	post("warehouse", "warehouse", body("dwh-1", "a", 2, texts[1]), 204)
	post("warehouse", "warehouse", body("dwh-2", "a", 1, texts[0]), 204)
	for _, b := range []string{body("dwh-1", "a", 4, texts[2]), body("dwh-1", "a", 6, texts[4]), body("dwh-1", "b", 4, texts[3])} {
		post("warehouse", "warehouse", b, 409)
	}
	for _, b := range []string{
		"", "{}", "[]", good + "{}", strings.Replace(good, "{", `{"more":1,`, 1), strings.Replace(good, "3", "-3", 1), body("dwh 1", "a", 3, texts[2]),
		body("", "a", 3, texts[2]), body(strings.Repeat("l", 64), "a", 3, texts[2]), body("dwh-1", "a/b", 3, texts[2]), body("dwh-1", "a", 0, ""),
		strings.Replace(good, `"sha256":"`, `"sha256":"A`, 1),
	} {
		post("warehouse", "warehouse", b, 422)
	}
	acks, err := NewAcks(w.state).List("warehouse")
	if err != nil || len(acks) != 2 || acks[0].Loader != "dwh-1" || acks[0].Number != 3 || acks[1].Number != 1 || !acks[0].At.Equal(w.now) {
		t.Fatalf("%+v, %v", acks, err)
	}
	w.wantLeaf(t, acks[0].Leaf, `{"kind":"ack","v":1,"destination":"warehouse","loader":"dwh-1","node":"a","number":3,"sha256":"`+
		EntryHash(texts[2])+`","time":"2026-11-21T17:00:00Z"}`)
	flush(t, s)
	w.check(t, "warehouse")
}

// wantLeaf: the evidence log's leaf opens to the core, and the export of the log shows it.
func (w *world) wantLeaf(t testing.TB, index int64, core string) {
	t.Helper()
	leaves, err := w.state.Leaves(index, index+1)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	err = evidence.Merge(Openings(w.state), w.ledger.Openings)(func(i int64, o evidence.Opening) error {
		if i == index {
			found = true
			if o.Leaf() != leaves[0] || string(o.Core) != core {
				t.Errorf("leaf %d: %s", i, o.Core)
			}
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("leaf %d is not shown: %v", index, err)
	}
}

// TestAckBounds: a destination cannot make rows without end.
func TestAckBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.shipper(t, "warehouse", nil)
	w.enter(t, s)
	flush(t, s)
	texts, _ := w.list(t, "warehouse")
	acks := NewAcks(w.state)
	record := func(loader string) error {
		return acks.Record(t.Context(), "warehouse", Ack{Loader: loader, Node: "a", Number: 1, SHA256: EntryHash(texts[0]), At: w.now})
	}
	for i := range loadersMax {
		if err := record(fmt.Sprintf("l%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := record("one-more"); !errors.Is(err, ErrAckField) {
		t.Error(err)
	}
	if err := record("l0"); err != nil {
		t.Error(err)
	}
	w.update(t, func(x *state.Txn) error {
		x.Set([]byte(acksPrefix("warehouse")+"a/l0"), []byte(`{"v":2}`))
		return nil
	})
	if _, err := acks.List("warehouse"); !errors.Is(err, ErrRow) {
		t.Error(err)
	}
}

// FuzzParseAck: what a loader sends is an acknowledgement or an error.
func FuzzParseAck(f *testing.F) {
	f.Add([]byte(`{"loader":"dwh-1","node":"a","number":12,"sha256":"ab"}`))
	f.Add([]byte(`{"loader":1}`))
	f.Add([]byte(`{}x`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if a, err := parseAck(body); err != nil && (!errors.Is(err, ErrAckField) || a != (Ack{})) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
