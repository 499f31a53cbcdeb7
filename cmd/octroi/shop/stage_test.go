package shop

import (
	"context"
	"encoding/json"
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
)

const (
	aBatch = "0123456789abcdef0123456789abcdef"
	aRow   = "ffffffffffffffffffffffffffffffff"
)

// gatewayDouble answers as the private listener does, and keeps what it was asked.
func gatewayDouble(t *testing.T, asked *[]string) *Backstage {
	t.Helper()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = append(*asked, r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		if strings.Contains(string(body), "stranger") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"destinations":[{"name":"warehouse","event_id":"%s","batches":[{"id":"%s","key":"warehouse/events/x.age"}]},{"name":"accounting","event_id":"00","batches":[]}]}`, aRow, aBatch)
	}))
	t.Cleanup(gateway.Close)
	return &Backstage{Private: gateway.URL, Token: "secret", Cookies: []string{"octroi-dev"}, Loaded: t.TempDir()}
}

// load writes what a loader would have loaded of the batch.
func (b *Backstage) load(t *testing.T, rows ...string) {
	t.Helper()
	dir := filepath.Join(b.Loaded, "warehouse", "events", "dt=2026-11-22", "hour=12")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "staged"), []byte(strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "staged"), filepath.Join(dir, aBatch+".ndjson")); err != nil {
		t.Fatal(err)
	}
}

// ask posts as the panel does.
func (b *browser) ask(path, body string, want int) (answer struct {
	State string
	Rows  []found
},
) {
	b.t.Helper()
	req := b.request(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	text, _ := b.do(req, want)
	if want == http.StatusOK {
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			b.t.Fatal(err)
		}
	}
	return answer
}

// The panel finds the row of an event when it is loaded, and sees it leave; the browser never says whose event it is.
func TestPanel(t *testing.T) {
	var asked []string
	stage := gatewayDouble(t, &asked)
	x := openTown(t, stage)
	b := x.browser()
	if got := b.ask("/panel/trace", `{"id":"e1"}`, http.StatusOK); got.State != "unknown" || len(asked) != 0 {
		t.Errorf("%+v of nobody, asked %q", got, asked)
	}
	cookie := func(value string) {
		req := b.request(http.MethodGet, "/", nil)
		b.client.Jar.SetCookies(req.URL, []*http.Cookie{{Name: "octroi-dev", Value: value, Path: "/"}})
	}
	cookie("credential")
	if got := b.ask("/panel/trace", `{"id":"e1"}`, http.StatusOK); got.State != "waiting" {
		t.Errorf("%+v before anything is loaded", got)
	}
	if want := `/v1/trace Bearer secret {"device":"credential","id":"e1","site":"shop"}`; asked[0] != want {
		t.Errorf("asked %s, want %s", asked[0], want)
	}
	stage.load(t, `{"event_id":"`+aRow+`","type":"page_view"}`, `{"event_id":"aa"}`)
	got := b.ask("/panel/trace", `{"id":"e1"}`, http.StatusOK)
	if got.State != "loaded" || len(got.Rows) != 1 || got.Rows[0].Object != "warehouse/events/x.age" || !strings.Contains(string(got.Rows[0].Row), "page_view") {
		t.Fatalf("%+v", got)
	}
	still := `{"rows":[{"destination":"warehouse","batch":"` + aBatch + `","event_id":"` + aRow + `"}]}`
	if got := b.ask("/panel/rows", still, http.StatusOK); len(got.Rows) != 1 || got.Rows[0].Row == nil {
		t.Errorf("%+v of a row that is there", got)
	}
	stage.load(t, `{"event_id":"aa"}`)
	if got := b.ask("/panel/rows", still, http.StatusOK); len(got.Rows) != 1 || got.Rows[0].Row != nil {
		t.Errorf("%+v of a row that has left", got)
	}
	cookie("stranger")
	if got := b.ask("/panel/trace", `{"id":"e1"}`, http.StatusOK); got.State != "unknown" {
		t.Errorf("%+v of somebody erased", got)
	}
}

// An order is traced for who placed it, by what the shop told of it.
func TestPanelOrder(t *testing.T) {
	var asked []string
	stage := gatewayDouble(t, &asked)
	x := openTown(t, stage)
	b := x.browser()
	b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "1")
	b.post("/en/checkout", http.StatusOK, "name", "A", "email", "a@b.example", "delivery", "post")
	body := `{"order":"` + x.orders[0].ID + `"}`
	if got := x.browser().ask("/panel/trace", body, http.StatusOK); got.State != "unknown" || len(asked) != 0 {
		t.Errorf("another's order: %+v", got)
	}
	stage.load(t, `{"event_id":"`+aRow+`"}`)
	if got := b.ask("/panel/trace", body, http.StatusOK); got.State != "loaded" || !strings.Contains(asked[0], `"subject":{"email":"a@b.example"}`) || strings.Contains(asked[0], "device") {
		t.Errorf("%+v, asked %q", got, asked)
	}
}

// What the panel is asked is bounded, and no name in it is a path.
func TestPanelBounds(t *testing.T) {
	var asked []string
	stage := gatewayDouble(t, &asked)
	secret := filepath.Join(stage.Loaded, "secret")
	if err := os.MkdirAll(filepath.Join(secret, "events", "dt=x", "hour=x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stage.Loaded, aBatch+".ndjson"), []byte(`{"event_id":"`+aRow+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	x := openTown(t, stage)
	b := x.browser()
	for _, place := range [][2]string{{"../..", aBatch}, {"warehouse", "../../../../" + aBatch}, {"*", aBatch}, {"warehouse", "*"}, {"", ""}, {"warehouse/..", aBatch}} {
		text, err := json.Marshal(map[string]any{"rows": []map[string]string{{"destination": place[0], "batch": place[1], "event_id": aRow}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := b.ask("/panel/rows", string(text), http.StatusOK); got.Rows[0].Row != nil {
			t.Errorf("%q is a path", place)
		}
	}
	one := `{"destination":"warehouse","batch":"x","event_id":"y"}`
	b.ask("/panel/rows", `{"rows":[`+strings.TrimSuffix(strings.Repeat(one+",", maxRows+1), ",")+`]}`, http.StatusRequestEntityTooLarge)
	b.ask("/panel/rows", `{"rows":["`+strings.Repeat("x", 2*maxBody)+`"]}`, http.StatusBadRequest)
	b.ask("/panel/trace", `{`, http.StatusBadRequest)
	req := b.request(http.MethodPost, "/panel/trace", strings.NewReader(`{"id":"1"}`))
	b.do(req, http.StatusUnsupportedMediaType)
	y := openTown(t, nil).browser()
	y.ask("/panel/trace", `{"id":"1"}`, http.StatusNotFound)
	if strings.Contains(y.get("/en/", http.StatusOK), "panel.js") {
		t.Error("a shop without a showman has a panel")
	}
	stage.files = map[string]loadedFile{}
	for i := range 2 * maxFiles {
		stage.files[fmt.Sprint(i)] = loadedFile{}
	}
	stage.load(t, `{"event_id":"`+aRow+`"}`)
	if stage.row("warehouse", aBatch, aRow) == nil || len(stage.files) > maxFiles {
		t.Errorf("%d files are kept", len(stage.files))
	}
}

// The back-end tells of an order until the gateway has answered, and once.
func TestTill(t *testing.T) {
	answers := []int{http.StatusServiceUnavailable, http.StatusAccepted}
	var bodies []string
	done := make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Header.Get("Authorization")+" "+string(body))
		w.WriteHeader(answers[len(bodies)-1])
		fmt.Fprint(w, `{"accepted":1,"refused":[]}`)
		if len(bodies) == len(answers) {
			close(done)
		}
	}))
	defer gateway.Close()
	till := (&Till{URL: gateway.URL, Site: "shop", Token: "secret", Log: slog.New(slog.DiscardHandler), Pause: time.Millisecond}).Open()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	ended := make(chan error)
	go func() { ended <- till.Run(ctx) }()
	o := Order{ID: "o1", Number: "B-1", Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Subject: map[string]string{"loyalty": "1"}, Lines: []line{{"cup", 2}}, Pieces: 2, Cents: 2800, Delivery: "post"}
	till.Placed(o)
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("the order was not told again")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	want := `Bearer secret {"channel":"web","fields":{"delivery":"post","order":"B-1","product":"cup","quantity":2,"value":{"amount":"28.00","currency":"EUR"}},` +
		`"id":"o1","site":"shop","subject":{"loyalty":"1"},"time":"2026-11-22T12:00:00Z","type":"purchase"}`
	if len(bodies) != 2 || bodies[0] != want || bodies[1] != want {
		t.Errorf("told %q, want %s", bodies, want)
	}
	for range maxWaiting + 1 { // nobody runs it: a customer does not wait
		till.Placed(o)
	}
	if len(till.orders) != maxWaiting {
		t.Errorf("%d wait", len(till.orders))
	}
}
