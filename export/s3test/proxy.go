package s3test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is what the proxy does to one request. The zero Fault passes it on unchanged.
type Fault struct {
	Delay  time.Duration // wait before anything else
	Status int           // answer this, without passing the request on
	Code   string        // the S3 error code in that answer
	// CutBefore closes the connection without passing the request on; CutAfter passes it on, then closes without an answer: the
	// client cannot know that it was done.
	CutBefore, CutAfter bool
	// Then is called when the server has answered, before anything of it is passed back.
	Then func()
	// LoseAfter passes the request on and answers Status in place of the true answer.
	LoseAfter bool
	// Truncate sends so many bytes of the answer's body, then closes; 0: all. Stall waits there, with the connection open.
	Truncate int64
	Stall    time.Duration
	// Flip changes one byte of the answer's body, at this offset, when Corrupt is set.
	Corrupt bool
	Flip    int64
}

// Proxy stands before an S3 server, logs the requests and makes faults. Its methods may be called at any time.
type Proxy struct {
	Endpoint string

	t        TB
	target   string
	client   *http.Client
	mu       sync.Mutex
	hook     func(*http.Request) Fault // guarded by mu
	requests []Request                 // guarded by mu
}

// StartProxy runs another proxy until the test ends: before target, which may be any HTTP server, for one program alone.
func StartProxy(t TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Endpoint: "http://" + l.Addr().String(), t: t, target: target, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	server := &http.Server{Handler: p}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return p
}

// Hook sets what decides about each request from now on; nil: no faults.
func (p *Proxy) Hook(hook func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Once makes one fault, of the next request of the method whose path holds part, and none afterwards.
func (p *Proxy) Once(method, part string, f Fault) {
	done := false
	p.Hook(func(r *http.Request) Fault { // hooks run one at a time
		if done || r.Method != method || !strings.Contains(r.URL.Path, part) {
			return Fault{}
		}
		done = true
		return f
	})
}

func (p *Proxy) fault(r *http.Request) (f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log(r)
	if p.hook != nil {
		f = p.hook(r)
	}
	return f
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.fault(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	select {
	case <-time.After(f.Delay):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	if f.CutBefore {
		panic(http.ErrAbortHandler)
	}
	if f.Status != 0 && !f.LoseAfter {
		f.refuse(w)
		return
	}
	answer, err := p.pass(r, body)
	if f.Then != nil {
		f.Then()
	}
	if err != nil || f.CutAfter {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	if f.LoseAfter {
		f.refuse(w)
		return
	}
	f.relay(w, r, answer)
}

func (f Fault) refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.Status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>a message with SECRET in it</Message></Error>`, f.Code)
}

// pass sends the request on as it came; the signature covers the Host header, so that stays too.
func (p *Proxy) pass(r *http.Request, body []byte) (*http.Response, error) {
	on, err := http.NewRequestWithContext(r.Context(), r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	on.Header, on.Host = r.Header.Clone(), r.Host
	return p.client.Do(on)
}

func (f Fault) relay(w http.ResponseWriter, r *http.Request, answer *http.Response) {
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(answer.StatusCode)
		return
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if f.Corrupt && f.Flip < int64(len(body)) {
		body[f.Flip] ^= 0x01
	}
	w.WriteHeader(answer.StatusCode)
	if f.Truncate == 0 && f.Stall == 0 {
		w.Write(body)
		return
	}
	w.Write(body[:min(f.Truncate, int64(len(body)))])
	w.(http.Flusher).Flush()
	select {
	case <-time.After(f.Stall):
	case <-r.Context().Done():
	}
	panic(http.ErrAbortHandler)
}
