package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// The simulated shop is a client like any other: it speaks to the public listener over HTTP, keeps cookies like a browser, and holds a
// back-end token for its tills. It is what `octroi demo` shows.
type shop struct {
	url, key string
	token    string // of the tills; empty: web visitors only
	pace     time.Duration
	sent     atomic.Uint64
	visitors atomic.Uint64
}

func newShopCommand() *cobra.Command {
	s := new(shop)
	var tokenFile string
	var rate float64
	cmd := &cobra.Command{
		Use:   "shop",
		Short: "simulate a shop: visitors who accept, refuse, change their mind, and tills",
		Long: `Sends what a small shop would send: visitors who see the notice and accept, refuse or leave
it; page views, searches, baskets and purchases; withdrawals; requests for access and erasure; tills with
loyalty cards; and now and then something wrong, so that refusals can be seen. It prints one line of JSON a second.`,
		Example: "  octroi shop --url http://127.0.0.1:8080 --key demo --visitors 2",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rate <= 0 || rate > 1000 {
				return usageError{fmt.Errorf("--visitors must be above 0 and at most 1000")}
			}
			s.pace = time.Duration(float64(time.Second) / rate)
			if tokenFile != "" {
				b, err := os.ReadFile(tokenFile)
				if err != nil {
					return fmt.Errorf("reading token: %w", err)
				}
				s.token = strings.TrimSpace(string(b))
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.url, "url", "http://127.0.0.1:8080", "the gateway's public listener")
	f.StringVar(&s.key, "key", "demo", "site key")
	f.StringVar(&tokenFile, "token-file", "", "file with a back-end token (events:write, declaring service)")
	f.Float64Var(&rate, "visitors", 2, "new visitors a second")
	return cmd
}

func (s *shop) run(ctx context.Context, out io.Writer) error {
	var crowd sync.WaitGroup
	defer crowd.Wait()
	arrivals, report := time.NewTicker(s.pace), time.NewTicker(time.Second)
	defer arrivals.Stop()
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			fmt.Fprintf(out, "{\"sent\":%d,\"visitors\":%d}\n", s.sent.Load(), s.visitors.Load())
		case <-arrivals.C:
			s.visitors.Add(1)
			crowd.Go(func() { s.visit(ctx) })
			if s.token != "" && rand.IntN(2) == 0 {
				crowd.Go(func() { s.till(ctx) })
			}
		}
	}
}

// visit is one visitor's story.
func (s *shop) visit(ctx context.Context) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	switch p := rand.Float64(); {
	case p < 0.6:
		s.choose(ctx, browser, true)
	case p < 0.85:
		s.choose(ctx, browser, false)
	}
	s.browse(ctx, browser)
	if rand.Float64() < 0.15 {
		s.post(ctx, browser, "/v1/consents/withdraw", map[string]any{"k": s.key})
		s.browse(ctx, browser) // refused from now on
	}
	switch p := rand.Float64(); {
	case p < 0.04:
		s.post(ctx, browser, "/v1/me/requests?k="+s.key, map[string]any{"right": "access"})
	case p < 0.08:
		s.post(ctx, browser, "/v1/me/requests?k="+s.key, map[string]any{"right": "erasure"})
		s.browse(ctx, browser) // refused: the cookie is gone, and so is who it was
	}
}

// choose reads the notice and answers it.
func (s *shop) choose(ctx context.Context, browser *http.Client, accept bool) {
	language := []string{"fr", "en"}[rand.IntN(2)]
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/notice?k="+s.key+"&language="+language, nil)
	if err != nil {
		return
	}
	resp, err := browser.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var notice struct {
		Snapshot string `json:"snapshot"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&notice) != nil {
		return
	}
	s.post(ctx, browser, "/v1/consents", map[string]any{
		"k": s.key, "snapshot": notice.Snapshot, "purposes": map[string]bool{"audience": accept}, "method": "banner", "language": language,
	})
}

func (s *shop) browse(ctx context.Context, browser *http.Client) {
	campaign := []string{"", "spring", "newsletter"}[rand.IntN(3)]
	product := fmt.Sprintf("https://shop.example/p/%d?gclid=%s", rand.IntN(40), uuid.NewString())
	steps := []event{
		{"type": "page_view", "fields": map[string]any{"url": "https://shop.example/", "campaign": campaign}},
		{"type": "product_view", "fields": map[string]any{"url": product}},
		{"type": "cart_add", "fields": map[string]any{"url": product}},
		{"type": "checkout_start", "fields": map[string]any{"url": "https://shop.example/checkout"}},
		{"type": "purchase", "fields": map[string]any{"value": amount()}},
	}
	for _, e := range steps[:1+rand.IntN(len(steps))] {
		s.send(ctx, browser, e)
		if rand.IntN(50) == 0 {
			s.send(ctx, browser, event{"type": "mind_reading"})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(200+rand.IntN(800)) * time.Millisecond):
		}
	}
}

// till is a purchase in the shop, for one of a thousand loyalty cards.
func (s *shop) till(ctx context.Context) {
	s.send(ctx, http.DefaultClient, event{
		"type": "store_purchase", "channel": "store", "subject": map[string]string{"loyalty": fmt.Sprintf("card-%04d", rand.IntN(1000))},
		"fields": map[string]any{"value": amount()},
	})
}

// event is one event of the native wire format.
type event map[string]any

func amount() map[string]string {
	return map[string]string{"amount": fmt.Sprintf("%d.%02d", 5+rand.IntN(120), rand.IntN(100)), "currency": "EUR"}
}

func (s *shop) send(ctx context.Context, client *http.Client, e event) {
	e["id"], e["time"] = uuid.NewString(), time.Now().UTC().Format(time.RFC3339Nano)
	s.sent.Add(1)
	s.post(ctx, client, "/v1/events?k="+s.key, e)
}

func (s *shop) post(ctx context.Context, client *http.Client, path string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(b))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if client.Jar == nil {
		req.Header.Set("Authorization", "Bearer "+s.token)
	} else {
		req.Header.Set("Origin", s.url)
	}
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
}
