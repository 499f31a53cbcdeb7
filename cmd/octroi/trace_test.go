package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/pseudonymize"
)

// askPrivately posts to the private listener.
func (h *house) askPrivately(path string, header http.Header, want int, body any) []byte {
	h.t.Helper()
	b, ok := body.(string)
	if !ok {
		made, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		b = string(made)
	}
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(b))
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.private.Test(req, 20_000)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		h.t.Fatalf("%s answered %d, want %d: %s (%v)", path, resp.StatusCode, want, answer, err)
	}
	return answer
}

// shipped are the rows of a batch's object as the destination opens it.
func (h *house) shipped(destination, key string) (rows []pseudonymize.Row) {
	h.t.Helper()
	object, err := os.ReadFile(filepath.Join(h.dir, "objects", key))
	if err != nil {
		h.t.Fatal(err)
	}
	return (&estate{site: &site{t: h.t, dir: h.dir}}).open(filepath.Join(warehouseDir, destination, "identity.txt"), object)
}

// What a site knows of an event leads to its row at each destination, and to no other row.
func TestTrace(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	admin := h.bearer(collector.TokenClaims{Scopes: []string{collector.ScopeAdmin}})
	browser, credential, device := h.visitor()
	other, _, _ := h.visitor()
	h.accept(browser, map[string]any{"id": "mine", "type": "page_view", "fields": map[string]any{"campaign": "spring"}})
	h.accept(other, map[string]any{"id": "theirs", "type": "page_view", "fields": map[string]any{"campaign": "autumn"}})
	card := map[string]string{"loyalty": "card-1"}
	h.accept(h.bearer(collector.TokenClaims{Scopes: []string{"events:write"}, Declare: []string{"service"}}), map[string]any{"id": "sold", "type": "store_purchase", "subject": card})

	trace := func(body map[string]any) (out Traced) {
		t.Helper()
		answer := h.askPrivately("/v1/trace", admin, http.StatusOK, body)
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	mine := map[string]any{"device": credential.Text(), "site": "shop", "id": "mine"}
	for _, d := range trace(mine).Destinations {
		if len(d.Batches) != 0 {
			t.Errorf("%s: batches before anything was sealed: %v", d.Name, d.Batches)
		}
	}
	h.flush()

	found := func(out Traced) (campaigns []string) {
		t.Helper()
		if len(out.Destinations) != 2 {
			t.Fatalf("%d destinations", len(out.Destinations))
		}
		for _, d := range out.Destinations {
			for _, b := range d.Batches {
				for _, row := range h.shipped(d.Name, b.Key) {
					if fmt.Sprintf("%x", row.EventID) == d.EventID {
						campaigns = append(campaigns, d.Name+" "+row.Type+" "+row.Campaign)
					}
				}
			}
		}
		return campaigns
	}
	if got := found(trace(mine)); !slices.Equal(got, []string{"warehouse page_view spring"}) {
		t.Errorf("found %q", got)
	}
	if got := found(trace(map[string]any{"subject": card, "site": "shop", "id": "sold"})); !slices.Equal(got, []string{"accounting store_purchase "}) {
		t.Errorf("found %q", got)
	}
	// Another's event, another site, another id: the answer leads to no row.
	for _, id := range []string{"theirs", "sold", "mine2"} {
		if got := found(trace(map[string]any{"device": credential.Text(), "site": "shop", "id": id})); len(got) > 0 {
			t.Errorf("%s: found %q", id, got)
		}
	}
	h.askPrivately("/v1/trace", admin, http.StatusBadRequest, map[string]any{"device": credential.Text(), "site": "elsewhere", "id": "mine"})

	// Once the device's key is destroyed the question has no answer.
	if _, err := h.ledger.Sever(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	h.askPrivately("/v1/trace", admin, http.StatusNotFound, mine)

	log, err := os.ReadFile(h.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log, []byte("an event was traced")) || bytes.Contains(log, []byte(credential.Text())) || bytes.Contains(log, []byte("card-1")) {
		t.Errorf("the log says too little or too much")
	}
}

// Only who may read the gateway's figures may trace, and a question names whose event it is; no answer repeats the question.
func TestTraceRefuses(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	admin := h.bearer(collector.TokenClaims{Scopes: []string{collector.ScopeAdmin}})
	browser, credential, _ := h.visitor()
	whole := map[string]any{"device": credential.Text(), "site": "shop", "id": "1"}
	for _, scope := range []string{"events:write", "rights:read", "rights:manage", "custody", "stream:warehouse"} {
		h.askPrivately("/v1/trace", h.bearer(collector.TokenClaims{Scopes: []string{scope}}), http.StatusForbidden, whole)
	}
	h.askPrivately("/v1/trace", http.Header{}, http.StatusUnauthorized, whole)
	h.askPrivately("/v1/trace", browser, http.StatusUnauthorized, whole)
	h.post("/v1/trace", admin, http.StatusNotFound, whole) // the public listener has no such thing

	stranger := strings.Repeat("A", len(credential.Text()))
	for _, who := range []map[string]any{{"device": stranger}, {"device": "canary-of-nobody"}, {"subject": map[string]string{"loyalty": "canary"}}} {
		who["site"], who["id"] = "shop", "1"
		if answer := h.askPrivately("/v1/trace", admin, http.StatusNotFound, who); bytes.Contains(answer, []byte("canary")) {
			t.Errorf("the answer repeats the question: %s", answer)
		}
	}
	for _, body := range []string{
		``, `[]`, `{`, `{"device":"x","site":"shop"}`, `{"device":"x","id":"1"}`, `{"site":"shop","id":"1"}`, `{"device":"x","device":"y","site":"shop","id":"1"}`,
		`{"device":"x","subject":{"loyalty":"1"},"site":"shop","id":"1"}`, `{"device":"x","site":"shop","id":"1","canary":1}`, `{"device":7,"site":"shop","id":"1"}`,
		`{"device":"` + strings.Repeat("x", 4000) + `","site":"shop","id":"1"}`, `{"device":"x","site":"shop","id":"` + strings.Repeat("1", 4000) + `"}`,
		`{"subject":{"cookie":"canary"},"site":"shop","id":"1"}`, `{"subject":{"email":"canary"},"site":"shop","id":"1"}`,
	} {
		if answer := h.askPrivately("/v1/trace", admin, http.StatusBadRequest, body); bytes.Contains(answer, []byte("canary")) {
			t.Errorf("the answer repeats the question: %s", answer)
		}
	}
}
