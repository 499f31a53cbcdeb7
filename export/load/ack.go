package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The errors of acknowledgements.
var (
	ErrAckAddress = errors.New("address of acknowledgements is not usable")
	ErrAckRefused = errors.New("gateway refused the acknowledgement")
	ErrAckFailed  = errors.New("gateway was not reached with the acknowledgement")
)

// AckerOptions configure an Acker.
type AckerOptions struct {
	URL         string // of the gateway's private API: https, or http on the loopback
	CA          string // PEM file of its certificate authorities, where they are not public
	TokenFile   string // holds an access token of scope stream:<destination>; read before each request, so that it may be renewed
	Destination string
	Loader      string        // this loader's name among those of the destination: see LoaderName
	Backoff     time.Duration // after a failure; doubles up to 5 min; default 1 s
	Log         *slog.Logger  // default: nothing
}

// Acker tells the gateway how far entries are applied and durable (rights.md D12): POST <URL>/v1/streams/<destination>/ack. It runs beside a
// Loader and never makes it wait; of several positions of one node the last counts. Its methods are safe for concurrent use.
type Acker struct {
	o       AckerOptions
	address string
	client  *http.Client
	wake    chan struct{} // of capacity 1

	mu  sync.Mutex
	due map[string]ack // by node: what is not yet told; guarded by mu
}

// ack is the body of a request.
type ack struct {
	Loader string `json:"loader"`
	Node   string `json:"node"`
	Number uint64 `json:"number"`
	SHA256 string `json:"sha256"`
}

// ackTimeout ends a request that hangs.
const ackTimeout = 15 * time.Second

// LoaderName is what a loader may be called.
var LoaderName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// NewAcker checks the options: ErrAckAddress.
func NewAcker(o AckerOptions) (*Acker, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%w: expected https://host[:port] of the gateway's private API", ErrAckAddress)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("%w: it must be https, or http on this machine (127.0.0.1): it carries a token", ErrAckAddress)
	case !LoaderName.MatchString(o.Loader):
		return nil, fmt.Errorf("%w: the loader's name %q: letters, digits, '_' and '-' only, at most 63", ErrAckAddress, o.Loader)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.CA != "" {
		pool, err := readAuthorities(o.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if o.Backoff == 0 {
		o.Backoff = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Acker{
		o: o, address: strings.TrimSuffix(o.URL, "/") + "/v1/streams/" + url.PathEscape(o.Destination) + "/ack",
		// A redirect would take the token to where nobody named.
		client: &http.Client{Transport: transport, Timeout: ackTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		wake:   make(chan struct{}, 1), due: map[string]ack{},
	}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func readAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: %s holds no PEM certificate", ErrAckAddress, path)
	}
	return pool, nil
}

// Applied is for Options.Applied.
func (a *Acker) Applied(node string, number uint64, sha256 string) {
	a.mu.Lock()
	a.due[node] = ack{Loader: a.o.Loader, Node: node, Number: number, SHA256: sha256}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run acknowledges what is applied until ctx ends. Failures are warnings, and tried again.
func (a *Acker) Run(ctx context.Context) {
	for {
		select {
		case <-a.wake:
			a.Flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Flush acknowledges what is applied, again and again until it is done or ctx ends; it says whether all is acknowledged.
func (a *Acker) Flush(ctx context.Context) bool {
	for wait := a.o.Backoff; ; wait = min(2*wait, 5*time.Minute) {
		err := a.send(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		// An entry is in the store a moment before the gateway knows that it is published.
		if wait > a.o.Backoff || !errors.Is(err, ackRefusal{http.StatusConflict}) {
			a.o.Log.Warn("the gateway does not know how far this loader is", "error", err, "next", ackStep(err), "wait", wait)
		}
		if sleep(ctx, wait) != nil {
			return false
		}
	}
}

// send makes one request for each node that has something due, and returns the last failure.
func (a *Acker) send(ctx context.Context) (err error) {
	a.mu.Lock()
	nodes := slices.Sorted(maps.Keys(a.due))
	a.mu.Unlock()
	for _, node := range nodes {
		a.mu.Lock()
		due := a.due[node]
		a.mu.Unlock()
		if failed := a.post(ctx, due); failed != nil {
			err = fmt.Errorf("acknowledging entry %d of node %q: %w", due.Number, node, failed)
			continue
		}
		a.mu.Lock()
		if a.due[node] == due { // else it has moved on meanwhile
			delete(a.due, node)
		}
		a.mu.Unlock()
	}
	return err
}

func (a *Acker) post(ctx context.Context, due ack) error {
	token, err := os.ReadFile(a.o.TokenFile)
	if err != nil {
		return fmt.Errorf("reading token: %w", err)
	}
	body, err := json.Marshal(due)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answer, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAckFailed, err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	switch {
	case answer.StatusCode/100 == 2:
		return nil
	case answer.StatusCode/100 == 5, answer.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: it answered %d", ErrAckFailed, answer.StatusCode)
	}
	return ackRefusal{answer.StatusCode}
}

// ackRefusal is an answer that another try does not change by itself.
type ackRefusal struct{ status int }

func (r ackRefusal) Error() string { return fmt.Sprintf("%v: it answered %d", ErrAckRefused, r.status) }
func (r ackRefusal) Unwrap() error { return ErrAckRefused }

// ackStep is what to do about a failed acknowledgement.
func ackStep(err error) string {
	var refusal ackRefusal
	switch {
	case !errors.As(err, &refusal):
		return "none if it passes; else check --ack-url, --ack-token-file and the gateway's private API. Loading goes on"
	case refusal.status == http.StatusUnauthorized, refusal.status == http.StatusForbidden:
		return "have the gateway's operator make a token of scope stream:<destination> (octroi token), and put it into the token file. Loading goes on"
	case refusal.status == http.StatusUnprocessableEntity:
		return "give --loader a name that this destination has used: the gateway keeps 64. Loading goes on"
	case refusal.status == http.StatusNotFound, refusal.status/100 == 3:
		return "check --ack-url and --destination: https://host:port of the gateway's private API, without a path. Loading goes on"
	}
	return "tell the gateway's operator: its stream is another than the one that was loaded. Loading goes on"
}
