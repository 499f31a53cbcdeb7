package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/octroi/octroi/consent/state"
)

func (h *house) ask(path string) (status int, body string) {
	h.t.Helper()
	resp, err := h.private.Test(httptest.NewRequest(http.MethodGet, path, nil), 20_000)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// What an operator must see is a metric: a filling spool, a shrunken duplicate window, a destination that is not served. No label is of a person.
func TestMetrics(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	browser, _, device := h.visitor()
	h.accept(browser, map[string]any{"id": "canary-1", "type": "page_view"}, map[string]any{"id": "canary-2", "type": "page_view"})
	_, before := h.ask("/metrics")
	h.flush()
	_, after := h.ask("/metrics")
	for text, lines := range map[string][]string{
		before: {`octroi_unsealed_events{destination="warehouse"} 2`, `octroi_duplicate_window_events 2`, `octroi_duplicate_window_shrunk 0`},
		after: {
			`octroi_unsealed_events{destination="warehouse"} 0`, `octroi_sealed_rows_total{destination="warehouse"} 2`,
			`octroi_published_batches_total{destination="warehouse"} 1`, `octroi_outbox_objects{destination="accounting"} 0`,
			`octroi_shipping_fails{destination="warehouse"} 0`, `octroi_spool_refused_total 0`,
		},
	} {
		for _, line := range lines {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("no metric %s in\n%s", line, regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, ""))
			}
		}
	}
	for _, needle := range append(h.needles(device), []byte("canary")) {
		if strings.Contains(after, string(needle)) {
			t.Errorf("the metrics hold %q", needle)
		}
	}
}

// A gateway whose state takes no changes can record no withdrawal: it is not ready.
func TestNotReadyWithoutState(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	if status, body := h.ask("/readyz"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	err := h.state.Update(context.Background(), func(x *state.Txn) error {
		x.Set([]byte("x/test"), []byte{1})
		x.OnCommit(func() { panic("a view left behind") })
		return nil
	})
	if !errors.Is(err, state.ErrFailed) {
		t.Fatal(err)
	}
	if status, body := h.ask("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "state") {
		t.Errorf("ready without state: %d %s", status, body)
	}
}
