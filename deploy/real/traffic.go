package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// sale is one row of the file, dated anew.
type sale struct {
	line     int
	customer int
	card     string
	time     time.Time
	amount   string
}

// customer is a loyalty card, when its first purchase was, and whether it consents.
type customer struct {
	card     string
	first    time.Time
	consents bool
}

// read reads the file and shifts its dates so that the last purchase was yesterday.
func (r *run) read() error {
	f, err := os.Open(r.data)
	if err != nil {
		return err
	}
	defer f.Close()
	var last time.Time
	for lines, n := bufio.NewScanner(f), 0; lines.Scan(); n++ {
		col := strings.Fields(lines.Text())
		id, err := strconv.Atoi(col[0])
		if err != nil {
			continue // the head of the file
		}
		date, err := time.Parse("20060102", col[1])
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		if date.After(last) {
			last = date
		}
		r.sales = append(r.sales, sale{n + 1, id, "cdnow-" + col[0], date, col[3]})
	}
	yesterday := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	r.shift = int(yesterday.Sub(last).Hours() / 24)
	index := map[int]int{}
	for i := range r.sales {
		s := &r.sales[i]
		s.time = s.time.AddDate(0, 0, r.shift)
		at, known := index[s.customer]
		if !known {
			at = len(r.customers)
			index[s.customer] = at
			r.customers = append(r.customers, customer{s.card, s.time, s.customer%3 != 0})
		}
		if s.time.Before(r.customers[at].first) {
			r.customers[at].first = s.time
		}
	}
	fmt.Printf("read %d purchases of %d customers, shifted by %d days\n", len(r.sales), len(r.customers), r.shift)
	if len(r.sales) == 0 {
		return errors.New("the file holds no purchase")
	}
	return nil
}

// send imports every customer's choice, then sends every purchase, with retries.
func (r *run) send(ctx context.Context) error {
	importer, err := r.token(ctx, "consent:write,consent:import", "")
	if err != nil {
		return err
	}
	till, err := r.token(ctx, "events:write", "service")
	if err != nil {
		return err
	}
	notice, err := r.notice(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	group, work := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for _, c := range r.customers {
		group.Go(func() error { return r.importChoice(work, importer, c, notice) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Printf("imported %d choices in %s\n", len(r.customers), time.Since(start).Round(time.Second))
	start = time.Now()
	var retries atomic.Int64
	group, work = errgroup.WithContext(ctx)
	group.SetLimit(8)
	const batch = 100
	for from := 0; from < len(r.sales); from += batch {
		group.Go(func() error { return r.sendSales(work, till, r.sales[from:min(from+batch, len(r.sales))], &retries) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Printf("sent %d purchases in %s, %d batches sent again\n", len(r.sales), time.Since(start).Round(time.Second), retries.Load())
	return nil
}

func (r *run) token(ctx context.Context, scope, declare string) (string, error) {
	args := []string{"token", "--config", r.path("gateway", "octroi.yaml"), "--name", "real-run", "--scope", scope}
	if declare != "" {
		args = append(args, "--declare", declare)
	}
	return r.output(ctx, filepath.Join(r.bin, "octroi"), args...)
}

// notice is the published notice that the choices refer to.
func (r *run) notice(ctx context.Context) (json.RawMessage, error) {
	body, err := r.call(ctx, http.MethodGet, r.public+"/v1/notice?k=cdnow&language=en", "", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	var served struct {
		Notice json.RawMessage `json:"notice"`
	}
	return served.Notice, json.Unmarshal(body, &served)
}

func (r *run) importChoice(ctx context.Context, token string, c customer, notice json.RawMessage) error {
	_, err := r.call(ctx, http.MethodPost, r.public+"/v1/consents?k=cdnow", token, choice(c, notice), http.StatusCreated)
	return err
}

func choice(c customer, notice json.RawMessage) map[string]any {
	return map[string]any{
		"subject": map[string]string{"loyalty": c.card}, "purposes": map[string]bool{"audience": c.consents}, "notice": notice,
		"method": "import", "given_at": c.first.AddDate(0, 0, -1).Format(time.RFC3339), "source": "cdnow",
	}
}

// purchase is a sale as the till sends it.
func purchase(s sale, id string) map[string]any {
	return map[string]any{
		"id": fmt.Sprintf("cdnow-%s-%d", id, s.line), "type": "store_purchase", "channel": "store", "time": s.time.Format(time.RFC3339),
		"subject": map[string]string{"loyalty": s.card}, "fields": map[string]any{"value": map[string]string{"amount": s.amount, "currency": "USD"}},
	}
}

// sendSales sends one batch until it is answered. Every event must be accepted, or be a duplicate of one accepted before the gateway died.
func (r *run) sendSales(ctx context.Context, token string, sales []sale, retries *atomic.Int64) error {
	events := make([]map[string]any, len(sales))
	for i, s := range sales {
		events[i] = purchase(s, "line")
	}
	body, err := r.retry(ctx, http.MethodPost, r.public+"/v1/events?k=cdnow", token, map[string]any{"batch": events}, http.StatusAccepted, retries)
	if err != nil {
		return err
	}
	var answer struct {
		Accepted int
		Refused  []struct{ Reason, Purpose string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	for _, x := range answer.Refused {
		if x.Reason != "duplicate" {
			return fmt.Errorf("a purchase was refused: %s %s", x.Reason, x.Purpose)
		}
	}
	if answer.Accepted+len(answer.Refused) != len(sales) {
		return fmt.Errorf("%d of %d purchases were answered", answer.Accepted+len(answer.Refused), len(sales))
	}
	return nil
}

func (r *run) call(ctx context.Context, method, address, token string, body any, want int) ([]byte, error) {
	return r.retry(ctx, method, address, token, body, want, new(atomic.Int64))
}

// retry repeats a call while the gateway is away (killed) or says 503.
func (r *run) retry(ctx context.Context, method, address, token string, body any, want int, retries *atomic.Int64) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	for range 3000 {
		status, answer, err := r.once(ctx, method, address, token, text)
		if err == nil && status == want {
			return answer, nil
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return nil, fmt.Errorf("%s %s answered %d: %s", method, address, status, answer)
		}
		retries.Add(1)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("%s %s: the gateway did not answer", method, address)
}

func (r *run) once(ctx context.Context, method, address, token string, text []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, answer, err
}
