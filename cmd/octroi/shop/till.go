package shop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Till tells the gateway of orders as the shop's back-end: by its token, which may declare the purpose of the sale. It does what a back-end owes
// what it has sold: it tries again until the gateway has answered.
type Till struct {
	URL    string // of the gateway's public listener
	Site   string // name of the site
	Token  string
	Log    *slog.Logger
	Pause  time.Duration // before an order is told again; default 2 s
	orders chan Order
}

// The bounds of the till.
const (
	maxWaiting  = 256 // orders
	tillTimeout = 10 * time.Second
	tillPause   = 2 * time.Second
)

// Open makes the till ready to take orders.
func (t *Till) Open() *Till {
	t.orders, t.Pause = make(chan Order, maxWaiting), cmp.Or(t.Pause, tillPause)
	return t
}

// Placed takes an order, which Run sends. A demo keeps its orders nowhere else: one too many is counted lost in the log.
func (t *Till) Placed(o Order) {
	select {
	case t.orders <- o:
	default:
		t.Log.Error("an order could not be told: too many wait")
	}
}

// Run sends orders until ctx ends.
func (t *Till) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-t.orders:
			for t.send(ctx, o) != nil {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(t.Pause):
				}
			}
		}
	}
}

// event is the order as the gateway's native format has it. Its id is the order's, so that a second try is no second purchase.
func (t *Till) event(o Order) map[string]any {
	return map[string]any{
		"id": o.ID, "type": "purchase", "site": t.Site, "channel": "web", "time": o.Time.Format(time.RFC3339Nano), "subject": o.Subject, "fields": o.fields(),
	}
}

// send fails where trying again may help.
func (t *Till) send(ctx context.Context, o Order) error {
	body, err := json.Marshal(t.event(o))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tillTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+t.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return fmt.Errorf("the gateway answered %d", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusAccepted || !bytes.Contains(answer, []byte(`"accepted":1`)) {
		t.Log.Error("the gateway does not take an order", "status", resp.StatusCode) // for good: the same again would be answered alike
	}
	return nil
}
