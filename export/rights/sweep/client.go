package sweep

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
)

// ClientOptions say where the gateway's private listener is. The token comes by file only.
type ClientOptions struct {
	URL     string        // https://host[:port]; http:// for a loopback address
	Plain   bool          // http:// also for another address: a network that nobody else is on
	Token   string        // path of a file that holds an access token of scope custody; read again when it has changed
	CA      string        // path of a PEM file of certificate authorities, where the gateway's is not a public one
	Timeout time.Duration // of a request and its answer, beside the time that a package takes; default 30 s
}

// Client is the private API over HTTP. It follows no redirect, and reads no more of an answer than fits its bounds.
type Client struct {
	base    string
	http    *http.Client
	timeout time.Duration
	token   tokenFile
}

// The bounds of answers, in bytes.
const (
	maxWorkAnswer = 64 << 20
	maxAnswer     = 64 << 10
)

// slowest is how many bytes a second of a package are waited for.
const slowest = 64 << 10

// NewClient reads the token; it does not reach for the gateway.
func NewClient(o ClientOptions) (*Client, error) {
	base, err := baseURL(o)
	if err != nil {
		return nil, fmt.Errorf("opening the gateway's API: %w", err)
	}
	c := &Client{base: base, timeout: o.Timeout, token: tokenFile{path: o.Token}}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	if _, err := c.token.get(); err != nil {
		return nil, fmt.Errorf("opening the gateway's API: %w", err)
	}
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: min(c.timeout, 10*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(c.timeout, 10*time.Second),
		ResponseHeaderTimeout: c.timeout,
		IdleConnTimeout:       time.Minute,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		// No proxy of the environment: this is between two machines of one operator.
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("opening the gateway's API: reading certificate authorities: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("opening the gateway's API: %q holds no certificate in PEM form", o.CA)
		}
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// baseURL checks that the token will not cross a network in the clear, unless that was asked for.
func baseURL(o ClientOptions) (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", errors.New("the gateway's URL must be https://host[:port], without path and user")
	}
	address, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && address.IsLoopback()
	if u.Scheme == "http" && !loopback && !o.Plain {
		return "", errors.New("http:// is for a loopback address: give https://, or say that the network is trusted")
	}
	return u.Scheme + "://" + u.Host, nil
}

// tokenFile is an access token that may be renewed while the custodian runs.
type tokenFile struct {
	path string

	mu   sync.Mutex
	read time.Time // the file's time when it was read; guarded by mu
	text string    // guarded by mu
}

// An access token is a JWT, whose text can stand in a header as it is.
var tokenText = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

const maxToken = 8 << 10

func (f *tokenFile) get() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	about, err := os.Stat(f.path)
	if err != nil {
		return "", fmt.Errorf("%w: its file: %w", ErrToken, err)
	}
	if f.text != "" && about.ModTime().Equal(f.read) {
		return f.text, nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return "", fmt.Errorf("%w: its file: %w", ErrToken, err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) > maxToken || !tokenText.MatchString(token) {
		return "", fmt.Errorf("%w: %s does not hold one", ErrToken, f.path)
	}
	f.text, f.read = token, about.ModTime() // of before: a change in between is read next time
	return token, nil
}

// call is one request. Its errors: ErrAway, ErrToken, ErrRejected, ErrAnswer.
type call struct {
	method, path string
	header       http.Header
	body         io.Reader
	size         int64
	limit        int64 // of the answer
	patience     time.Duration
}

func (c *Client) do(ctx context.Context, r call, answer any) error {
	token, err := c.token.get()
	if err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, c.timeout+r.patience)
	defer cancel()
	request, err := http.NewRequestWithContext(inner, r.method, c.base+r.path, r.body)
	if err != nil {
		return fmt.Errorf("%w: making a request", ErrAnswer)
	}
	for name, values := range r.header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.ContentLength = r.size
	response, err := c.http.Do(request)
	if err != nil {
		return c.away(ctx, err)
	}
	defer response.Body.Close()
	if err := statusError(response.StatusCode); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, r.limit+1))
	switch {
	case err != nil:
		return c.away(ctx, err)
	case int64(len(text)) > r.limit:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrAnswer, r.limit)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%w: it is not the JSON that is expected", ErrAnswer) // the cause would quote it
	}
	return nil
}

// away names what kept an answer from coming, without the URL and what is in it.
func (c *Client) away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

func statusError(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%w: it answered %d: renew the token (octroi token, scope custody)", ErrToken, status)
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return fmt.Errorf("%w: it answered %d", ErrAway, status)
	case status >= 400:
		return fmt.Errorf("%w: it answered %d", ErrRejected, status)
	}
	return fmt.Errorf("%w: it answered %d", ErrAnswer, status) // a redirect: the URL is not the gateway's
}

// post sends JSON.
func (c *Client) post(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%w: making a request", ErrAnswer)
	}
	return c.do(ctx, call{
		method: http.MethodPost, path: path, header: http.Header{"Content-Type": {"application/json"}},
		body: bytes.NewReader(text), size: int64(len(text)), limit: maxAnswer,
	}, answer)
}

func batchPath(batch, what string) string {
	return "/v1/custody/batches/" + url.PathEscape(batch) + "/" + what
}

func requestPath(request, what string) string {
	return "/v1/custody/requests/" + url.PathEscape(request) + "/" + what
}

// Work is GET /v1/custody/work.
func (c *Client) Work(ctx context.Context) (work proof.Work, err error) {
	if err := c.do(ctx, call{method: http.MethodGet, path: "/v1/custody/work", limit: maxWorkAnswer}, &work); err != nil {
		return proof.Work{}, fmt.Errorf("asking for work: %w", err)
	}
	return work, nil
}

// Claim is POST /v1/custody/batches/{id}/claim.
func (c *Client) Claim(ctx context.Context, batch, custodian string) (claim Claim, err error) {
	body := struct {
		Custodian string `json:"custodian"`
	}{custodian}
	err = c.post(ctx, batchPath(batch, "claim"), body, &claim)
	if errors.Is(err, ErrRejected) {
		err = ErrClaimed
	}
	return claim, err
}

// Rewritten is POST /v1/custody/batches/{id}/rewritten.
func (c *Client) Rewritten(ctx context.Context, batch, report string) error {
	return c.post(ctx, batchPath(batch, "rewritten"), reported{report}, nil)
}

// Purged is POST /v1/custody/batches/{id}/purged.
func (c *Client) Purged(ctx context.Context, batch, report string) error {
	return c.post(ctx, batchPath(batch, "purged"), reported{report}, nil)
}

// reported is a signed report on its way.
type reported struct {
	Report string `json:"report"`
}

// Failed is POST /v1/custody/batches/{id}/failed.
func (c *Client) Failed(ctx context.Context, batch string, why Reason) error {
	return c.post(ctx, batchPath(batch, "failed"), why.bounded(), nil)
}

// Refused is POST /v1/custody/requests/{id}/refused.
func (c *Client) Refused(ctx context.Context, request string, why Reason) error {
	return c.post(ctx, requestPath(request, "refused"), why.bounded(), nil)
}

// bounded is what the gateway takes: a detail of at most 200 bytes, without control characters.
func (r Reason) bounded() Reason {
	r.Detail = strings.ToValidUTF8(r.Detail[:min(len(r.Detail), 200)], "")
	r.Detail = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, r.Detail)
	return r
}

// Package is PUT /v1/custody/requests/{id}/package, with the report in a header.
func (c *Client) Package(ctx context.Context, request, report string, body io.ReadSeeker, size int64) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: reading the package", ErrRejected)
	}
	return c.do(ctx, call{
		method: http.MethodPut, path: requestPath(request, "package"), body: io.LimitReader(body, size), size: size, limit: maxAnswer,
		header:   http.Header{"Content-Type": {"application/octet-stream"}, "X-Octroi-Report": {report}},
		patience: time.Duration(size/slowest) * time.Second,
	}, nil)
}

// Certificate is POST /v1/custody/requests/{id}/certificate.
func (c *Client) Certificate(ctx context.Context, request, certificate string) error {
	body := struct {
		Certificate string `json:"certificate"`
	}{certificate}
	return c.post(ctx, requestPath(request, "certificate"), body, nil)
}
