package s3test

import (
	"net/http"
	"strings"
)

// Request is one request that reached the proxy.
type Request struct {
	Method, Key string // Key is empty where the bucket is asked
	Version     string // the version id that is named
	Kind        string // one of the constants below
}

// The kinds of requests.
const (
	Get      = "get"      // of an object, HEAD as well
	Put      = "put"      // of a whole object
	Delete   = "delete"   // of a version, or without one, which adds a delete marker
	List     = "list"     // of current objects
	Versions = "versions" // a list of versions
	Uploads  = "uploads"  // a list of unfinished multipart uploads
	Upload   = "upload"   // a part of a multipart upload, its beginning or end
	Abort    = "abort"    // of a multipart upload
	Setting  = "setting"  // of the bucket: versioning, object lock, location, policy
	Lock     = "lock"     // an object's retention or legal hold
)

// maxRequests bounds the log. A test that makes more must Forget some: what is not logged would be no proof.
const maxRequests = 200_000

func requestOf(r *http.Request) Request {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	return Request{Method: r.Method, Key: key, Version: q.Get("versionId"), Kind: kindOf(r.Method, key, q.Has)}
}

func kindOf(method, key string, has func(string) bool) string {
	switch {
	case has("uploads") && key == "":
		return Uploads
	case has("uploadId") && method == http.MethodDelete:
		return Abort
	case has("uploads"), has("uploadId"):
		return Upload
	case has("retention"), has("legal-hold"):
		return Lock
	case has("versions"):
		return Versions
	case key == "" && (has("prefix") || has("list-type")):
		return List
	case key == "":
		return Setting
	case method == http.MethodPut:
		return Put
	case method == http.MethodDelete:
		return Delete
	}
	return Get
}

// Requests are those so far, in the order in which they came.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Forget empties the log.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

// log is called with the lock held.
func (p *Proxy) log(r *http.Request) {
	if len(p.requests) == maxRequests {
		p.t.Errorf("the proxy has logged %d requests and keeps no more: Forget those that are looked at", maxRequests)
		return
	}
	p.requests = append(p.requests, requestOf(r))
}
