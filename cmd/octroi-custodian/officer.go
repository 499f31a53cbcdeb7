package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// The errors of the officer's calls, beside sweep's ErrAway and ErrAnswer.
var (
	errToken   = errors.New("gateway refuses the token")
	errRefused = errors.New("gateway refuses it")
)

// officer is the private API as the data protection officer uses it to approve (scope rights:manage). It follows no redirect.
type officer struct {
	base  string
	token string
	http  *http.Client
}

// officerFlags say where the gateway is, and with which token.
type officerFlags struct {
	url, token, ca string
	plain          bool
}

// The bounds of the gateway's answers, in bytes, and of the wait for one.
const (
	maxAnswer      = 512 << 10
	officerTimeout = 30 * time.Second
	maxToken       = 8192
)

func (f *officerFlags) open() (*officer, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%w: --url must be https://host[:port], without path and user", errConfig)
	}
	address, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !address.IsLoopback()) && !f.plain {
		return nil, fmt.Errorf("%w: http:// is for a loopback address: the token must not cross a network in the clear; give https://, or --plain where the network is trusted", errConfig)
	}
	text, err := os.ReadFile(f.token)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the token: %w", errConfig, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: %s does not hold a token", errConfig, f.token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}} // no proxy of the environment
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("%w: reading certificate authorities: %w", errConfig, err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificate in PEM form", errConfig, f.ca)
		}
	}
	return &officer{
		base: u.Scheme + "://" + u.Host, token: token,
		http: &http.Client{
			Transport: transport, Timeout: officerTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// job is GET /v1/rights/requests/{id}/job, checked: what would be signed is what is shown, whatever the gateway sent.
func (o *officer) job(ctx context.Context, request string) (*proof.Job, error) {
	text, err := o.do(ctx, http.MethodGet, requestPath(request, "job"), nil)
	if err != nil {
		return nil, err
	}
	j := new(proof.Job)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(j); err != nil {
		return nil, fmt.Errorf("%w: not the job of a request", sweep.ErrAnswer)
	}
	if err := j.Check(); err != nil {
		return nil, err
	}
	if j.Request != request {
		return nil, fmt.Errorf("%w: the job of another request", sweep.ErrAnswer)
	}
	return j, nil
}

// standing is where a request stands, as the gateway says: no part of what is signed.
type standing struct {
	State    string    `json:"state"`
	Due      time.Time `json:"due"`
	DaysLeft int       `json:"days_left"`
	Batches  int       `json:"batches"` // that are known to hold rows
}

// standing is GET /v1/rights/requests/{id}; nil where the token lacks rights:read.
func (o *officer) standing(ctx context.Context, request string) (*standing, error) {
	text, err := o.do(ctx, http.MethodGet, strings.TrimSuffix(requestPath(request, ""), "/"), nil)
	if errors.Is(err, errToken) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(standing)
	if json.Unmarshal(text, s) != nil || !stateName.MatchString(s.State) {
		return nil, fmt.Errorf("%w: not a request", sweep.ErrAnswer)
	}
	return s, nil
}

var stateName = regexp.MustCompile(`^[a-z_]{1,40}$`)

// approve is POST /v1/rights/requests/{id}/approve.
func (o *officer) approve(ctx context.Context, request, approval string) error {
	return o.post(ctx, requestPath(request, "approve"), map[string]string{"approval": approval})
}

// schedule is POST /v1/rights/schedule: the retention that is in force from now on.
func (o *officer) schedule(ctx context.Context, approval string) error {
	return o.post(ctx, "/v1/rights/schedule", map[string]string{"schedule": approval})
}

func requestPath(request, what string) string {
	return "/v1/rights/requests/" + url.PathEscape(request) + "/" + what
}

func (o *officer) post(ctx context.Context, path string, member map[string]string) error {
	body, err := json.Marshal(member)
	if err != nil {
		return err
	}
	_, err = o.do(ctx, http.MethodPost, path, body)
	return err
}

func (o *officer) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+o.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := o.http.Do(request)
	if err != nil {
		return nil, away(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, away(ctx, err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", sweep.ErrAnswer, maxAnswer)
	}
	return text, statusError(response.StatusCode, text)
}

// away names what kept an answer from coming, without the URL.
func away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%w: %w", sweep.ErrAway, err)
}

// statusError says what the gateway refused: the detail of its problem document (RFC 9457).
func statusError(status int, text []byte) error {
	var p struct{ Code, Detail string }
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		p.Code = http.StatusText(status)
	}
	why := strings.TrimSuffix(fmt.Sprintf("%d %.64q: %.300q", status, p.Code, p.Detail), `: ""`)
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%w: %s: make one with octroi token --scope rights:manage", errToken, why)
	case status >= 500, status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", sweep.ErrAway, why)
	case status >= 400:
		return fmt.Errorf("%w: %s", errRefused, why)
	case status >= 300:
		return fmt.Errorf("%w: %s: the URL is not the gateway's", sweep.ErrAnswer, why)
	}
	return nil
}
