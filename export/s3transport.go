package export

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

func parseEndpoint(text string) (host string, secure bool, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", false, fmt.Errorf("%w: the endpoint must be https://host[:port] (or http://…), without a path", ErrRefused)
	}
	if u.User != nil {
		return "", false, fmt.Errorf("%w: the endpoint holds a user name: credentials go into their file", ErrRefused)
	}
	return u.Host, u.Scheme == "https", nil
}

func s3Transport(o S3Options) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(o.Timeout, 10*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(o.Timeout, 10*time.Second),
		ResponseHeaderTimeout: o.Timeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // objects are opaque bytes
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("%w: reading certificate authorities: %w", ErrRefused, err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %q holds no certificate in PEM form", ErrRefused, o.CA)
		}
	}
	return t, nil
}

// patient ends an answer of which nothing comes for the timeout: a listing as well as an object.
type patient struct {
	next    http.RoundTripper
	timeout time.Duration
}

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	answer, err := p.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	b := &answerBody{body: answer.Body, cancel: cancel, timeout: p.timeout}
	b.timer = time.AfterFunc(p.timeout, func() { b.stalled.Store(true); cancel() })
	b.timer.Stop() // it runs while a Read waits, not while the reader is busy
	answer.Body = b
	return answer, nil
}

// answerBody is ErrUnavailable from Read after the timeout.
type answerBody struct {
	body    io.ReadCloser
	cancel  context.CancelFunc
	timer   *time.Timer
	stalled atomic.Bool
	timeout time.Duration
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.timeout)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && b.stalled.Load() {
		return n, fmt.Errorf("%w: nothing came for %v", ErrUnavailable, b.timeout)
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.timer.Stop()
	b.cancel()
	return b.body.Close()
}

// transfer is an object that is being read: an end before its length is no end.
type transfer struct {
	body   io.ReadCloser
	left   int64 // bytes that are still to come
	caller context.Context
}

func (t *transfer) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	t.left -= int64(n)
	switch {
	case err == nil, errors.Is(err, io.EOF) && t.left == 0:
		return n, err
	case t.caller.Err() != nil:
		return n, t.caller.Err()
	case errors.Is(err, ErrUnavailable):
		return n, fmt.Errorf("getting object: %w", err)
	}
	return n, fmt.Errorf("getting object: %w: the transfer broke off %d bytes before its end", ErrUnavailable, t.left)
}

func (t *transfer) Close() error { return t.body.Close() }
