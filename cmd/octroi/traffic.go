package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// traffic is what a small shop would send, from clients like any other: they speak to the public listener over HTTP, keep cookies like a browser, and
// hold what a site's back-end holds. The demo shows it beside the visitor who clicks.
type traffic struct {
	url, key   string
	site, node string
	token      string        // of the tills; empty: web visitors only
	login      crypto.Signer // of the site; nil: nobody logs in
	pace       time.Duration
	history    int // cards whose last days are imported first
	sent       atomic.Uint64
	visitors   atomic.Uint64
}

func newTrafficCommand() *cobra.Command {
	s := new(traffic)
	var tokenFile, loginKey string
	var rate float64
	cmd := &cobra.Command{
		Use:   "traffic",
		Short: "simulate a shop's visitors, customers and tills",
		Long: `Sends what a small shop would send: visitors who come by a search, an advertisement, a message or by themselves, see the notice and
accept, choose, refuse or leave it; page views, searches, baskets and purchases; logins; withdrawals; requests for access and
erasure; cards that are shown at the till, calls, deliveries and surveys; and now and then something wrong, so that refusals can be
seen. It prints one line of JSON a second.`,
		Example: "  octroi traffic --url http://127.0.0.1:8080 --key demo --visitors 2",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if rate <= 0 || rate > 1000 {
				return usageError{errors.New("--visitors must be above 0 and at most 1000")}
			}
			s.pace = time.Duration(float64(time.Second) / rate)
			if tokenFile != "" {
				if s.token, err = readToken(tokenFile); err != nil {
					return err
				}
			}
			if loginKey != "" {
				if s.login, err = readLoginKey(loginKey); err != nil {
					return fmt.Errorf("reading login key: %w", err)
				}
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.url, "url", "http://127.0.0.1:8080", "the gateway's public listener")
	f.StringVar(&s.key, "key", "demo", "site key")
	f.StringVar(&s.site, "site", "shop", "name of the site")
	f.StringVar(&s.node, "node", "n1", "name of the gateway, for which logins are signed")
	f.StringVar(&tokenFile, "token-file", "", "file with a back-end token (events:write, consent:write, consent:import, declaring service)")
	f.StringVar(&loginKey, "login-key", "", "file with the site's login key (PEM)")
	f.Float64Var(&rate, "visitors", 2, "new visitors a second")
	f.IntVar(&s.history, "history", 0, "customers whose last six days are imported first")
	return cmd
}

func (s *traffic) run(ctx context.Context, out io.Writer) error {
	var crowd sync.WaitGroup
	defer crowd.Wait()
	if s.history > 0 && s.token != "" {
		crowd.Go(func() { s.remember(ctx) })
	}
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
				crowd.Go(func() { s.customer(ctx) })
			}
		}
	}
}

// event is one event of the native wire format.
type event map[string]any

func amount() map[string]string {
	return map[string]string{"amount": fmt.Sprintf("%d.%02d", 5+rand.IntN(120), rand.IntN(100)), "currency": "EUR"}
}

// any of a list.
func anyOf[T any](list ...T) T { return list[rand.IntN(len(list))] }

// chance is true in so many of a hundred cases.
func chance(percent int) bool { return rand.IntN(100) < percent }

// pause waits for as long as somebody looks at a page; false where the show is over.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(200+rand.IntN(800)) * time.Millisecond):
		return true
	}
}

// notice reads what a person is shown.
func (s *traffic) notice(ctx context.Context, client *http.Client, language string) (n shownNotice, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/notice?k="+s.key+"&language="+language, nil)
	if err != nil {
		return n, false
	}
	resp, err := client.Do(req)
	if err != nil {
		return n, false
	}
	defer resp.Body.Close()
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&n)
	return n, err == nil && resp.StatusCode == http.StatusOK
}

// shownNotice is what a choice hands back of a notice.
type shownNotice struct {
	Snapshot string          `json:"snapshot"`
	Notice   json.RawMessage `json:"notice"`
	Purposes []struct {
		ID string `json:"id"`
	} `json:"purposes"`
}

// choice is an answer for each purpose of the notice.
func (n *shownNotice) choice(yes func(purpose string) bool) map[string]bool {
	out := map[string]bool{}
	for _, p := range n.Purposes {
		out[p.ID] = yes(p.ID)
	}
	return out
}

// send fills in what every event has. A client without cookies is a back-end.
func (s *traffic) send(ctx context.Context, client *http.Client, e event) {
	e["id"] = uuid.NewString()
	if e["time"] == nil {
		e["time"] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	s.sent.Add(1)
	s.post(ctx, client, "/v1/events?k="+s.key, e)
}

// post answers whether the gateway took it.
func (s *traffic) post(ctx context.Context, client *http.Client, path string, body any) bool {
	b, err := json.Marshal(body)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(b))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	if client.Jar == nil {
		req.Header.Set("Authorization", "Bearer "+s.token)
	} else {
		req.Header.Set("Origin", s.url)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	return resp.StatusCode < 300
}
