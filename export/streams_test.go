package export

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/pseudonymize/subject"
	"pgregory.net/rapid"
)

// TestStreamRoutes: the mirror gives what is published, to who has the destination's scope.
func TestStreamRoutes(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	flush(t, w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 1 }))
	texts, _ := w.list(t, "warehouse")
	app := fiber.New()
	StreamRoutes(app, StreamOptions{
		Node: "a", State: w.state, Destinations: []string{"warehouse", "accounting"},
		Authorise: func(c *fiber.Ctx, scope string) error {
			if c.Get("Authorization") != "Bearer "+scope {
				return fiber.ErrForbidden
			}
			return nil
		},
	})
	get := func(path, scope string, status int) string {
		t.Helper()
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Header.Set("Authorization", "Bearer "+scope)
		resp, err := app.Test(req, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status {
			t.Fatalf("%s: %s %v, want %d", path, resp.Status, err, status)
		}
		return string(body)
	}
	lines := func(path string) (got []string) {
		for s := bufio.NewScanner(strings.NewReader(get(path, "stream:warehouse", 200))); s.Scan(); {
			var text string
			if err := json.Unmarshal(s.Bytes(), &text); err != nil {
				t.Fatal(err)
			}
			got = append(got, text)
		}
		return got
	}
	if got := lines("/v1/streams/warehouse"); len(got) != 5 || !slices.Equal(got, texts) {
		t.Errorf("%d entries, the store has %d", len(got), len(texts))
	}
	if got := lines("/v1/streams/warehouse?after=2&limit=2"); !slices.Equal(got, texts[2:4]) {
		t.Errorf("%d entries after 2, at most 2", len(got))
	}
	for _, end := range []string{"5", "6", "9223372036854775807"} {
		if got := lines("/v1/streams/warehouse?after=" + end); len(got) != 0 {
			t.Errorf("%d entries after %s", len(got), end)
		}
	}
	var head Head
	if err := json.Unmarshal([]byte(get("/v1/streams/warehouse/head", "stream:warehouse", 200)), &head); err != nil {
		t.Fatal(err)
	}
	if want := (Head{"warehouse", "a", 5, EntryHash(texts[4])}); head != want {
		t.Errorf("head %+v, want %+v", head, want)
	}
	if got := get("/v1/streams/accounting/head", "stream:accounting", 200); !strings.Contains(got, `"number":0,"sha256":""`) {
		t.Error(got)
	}
	for _, path := range []string{"/v1/streams/warehouse", "/v1/streams/warehouse/head"} {
		get(path, "stream:accounting", 403)
	}
	get("/v1/streams/other", "stream:other", 404)
	get("/v1/streams/other/head", "stream:other", 404)
	for _, query := range []string{"after=-1", "after=x", "after=1e3", "after=18446744073709551616", "limit=0", "limit=-5"} {
		get("/v1/streams/warehouse?"+query, "stream:warehouse", 400)
	}
}

// TestMirrorHidesUnpublished: an entry that is signed and not stored is nobody's business yet.
func TestMirrorHidesUnpublished(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 2, "a", testStart)...)
	store := &faultyObjects{Objects: w.objects}
	store.set(func(key string, _ io.ReadSeeker) error {
		if strings.Contains(key, "/stream/") {
			return ErrUnavailable
		}
		return nil
	})
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects = store })
	if _, err := s.sealOne(t.Context(), w.spool.Tail()); err != nil {
		t.Fatal(err)
	}
	if err := s.publishOne(t.Context()); err == nil {
		t.Fatal("published into a dead store")
	}
	first, err := s.signed(1)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := NewStreams(w.state, "a", "warehouse").Entries("warehouse", 0, 10)
	if err != nil || len(texts) != 0 {
		t.Errorf("%d entries, %v", len(texts), err)
	}
	store.set(nil)
	flush(t, s)
	if got := w.check(t, "warehouse"); len(got.entries) != 1 {
		t.Errorf("%d entries", len(got.entries))
	}
	if again, err := s.signed(1); err != nil || again != first {
		t.Errorf("the entry was signed twice: %v", err)
	}
}

// TestOpenings: the openings of intents and those of others come in one order, each of its own leaf.
func TestOpenings(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 1)
	refuse := func() {
		if err := w.ledger.CountRefused(t.Context(), testStart, map[string]int{"shop page_view no_consent": 1}); err != nil {
			t.Fatal(err)
		}
	}
	s := w.shipper(t, "warehouse", nil)
	for i := range 3 {
		refuse()
		w.send(t, pages(devices, 2, fmt.Sprintf("o%d", i), testStart)...)
		flush(t, s)
	}
	refuse()
	last, kinds := int64(-1), ""
	all := evidence.Merge(w.ledger.Openings, Openings(w.state))
	err := all(func(index int64, o evidence.Opening) error {
		leaves, err := w.state.Leaves(index, index+1)
		if err != nil {
			return err
		}
		if index <= last || leaves[0] != o.Leaf() {
			t.Errorf("opening %d after %d, or not of its leaf", index, last)
		}
		last = index
		if strings.Contains(string(o.Core), `"kind":"intent"`) {
			kinds += "i"
		} else {
			kinds += "r"
		}
		return nil
	})
	if err != nil || kinds != "riririr" {
		t.Errorf("%q: %v", kinds, err)
	}
	n, enough := 0, errors.New("enough")
	if err := all(func(int64, evidence.Opening) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("%d calls, %v", n, err)
	}
}

// TestHolds compares the packed pairs with a plain set.
func TestHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		purposes := []string{"audience", "service", "p3"}
		var h holds
		model := map[subject.Slot]map[string]bool{}
		for range rapid.IntRange(0, 50).Draw(t, "pairs") {
			slot := subject.Slot(rapid.Uint32Range(0, 6).Draw(t, "slot"))
			h.pair(slot, 0)
			if slot != 0 && model[slot] == nil {
				model[slot] = map[string]bool{}
			}
			if rapid.Bool().Draw(t, "with a purpose") {
				p := rapid.SampledFrom(purposes).Draw(t, "purpose")
				h.pair(slot, h.purpose(p))
				if slot != 0 {
					model[slot][p] = true
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "compact") == 0 {
				h.compact()
			}
		}
		h.compact()
		for slot := subject.Slot(0); slot < 9; slot++ {
			for _, p := range append(purposes, "unknown") {
				if got := h.concerns(slot, p); got != model[slot][p] {
					t.Errorf("concerns(%d, %q) = %v", slot, p, got)
				}
			}
			if got := h.concerns(slot, ""); got != (model[slot] != nil) {
				t.Errorf("concerns(%d, all) = %v", slot, got)
			}
		}
		if len(h.slots()) != len(model) {
			t.Errorf("%d slots, want %d", len(h.slots()), len(model))
		}
	})
}

// oneRow answers every question with the same bytes.
type oneRow []byte

func (r oneRow) Get([]byte) ([]byte, error) { return r, nil }

// FuzzRows: whatever state holds, reading it is a value or an error.
func FuzzRows(f *testing.F) {
	f.Add(cursorRow{7, 3}.encode())
	f.Add(encodeNumber(3))
	f.Add([]byte(`{"v":1,"batch":"00112233445566778899aabbccddeeff","signed":"a.b.c"}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := readCursor(oneRow(b), "d"); err == nil && string(c.encode()) != string(b) {
			t.Error("a cursor has two spellings")
		}
		if n, err := readPublished(oneRow(b), "d"); err == nil && string(encodeNumber(n)) != string(b) {
			t.Error("a number has two spellings")
		}
		if row, err := readStreamRow(oneRow(b), "d", 1); err == nil && row.Format != rowFormat {
			t.Error("a row of another format was read")
		}
		if row, err := readBatchRow(oneRow(b), BatchID{}); err == nil && row.Format != rowFormat {
			t.Error("a row of another format was read")
		}
		if id, err := ParseBatchID(string(b)); err == nil && id.String() != string(b) {
			t.Error("a batch id has two spellings")
		}
	})
}

// TestFloorHour: also before 1970, as a clock that was never set has it.
func TestFloorHour(t *testing.T) {
	for ms, want := range map[int64]int64{0: 0, hourMillis - 1: 0, hourMillis: 1, -1: -1, -hourMillis: -1, -hourMillis - 1: -2} {
		if got := floorHour(ms); got != want {
			t.Errorf("floorHour(%d) = %d, want %d", ms, got, want)
		}
	}
}
