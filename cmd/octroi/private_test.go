package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
)

// Bodies of the private listener are streamed, for the sake of one route. Every other bounds them, and no unread rest of one is taken for the next
// request of the connection (request smuggling, CWE-444).
func TestPrivateBodiesAreBounded(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = h.private.Listener(l) }()
	defer h.private.Shutdown()
	bearer := h.bearer(collector.TokenClaims{Scopes: []string{"stream:warehouse", "rights:read"}}).Get("Authorization")
	for _, path := range []string{"/v1/streams/warehouse/ack", "/v1/consents/history", "/v1/nowhere", "/v1/status"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		hidden := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
		body := strings.Repeat(" ", 2*maxPrivateBody) + hidden
		go fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, bearer, len(body), body)
		answers := bufio.NewReader(conn)
		first, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_, _ = io.Copy(io.Discard, first.Body)
		if first.StatusCode < 400 || first.StatusCode >= 500 {
			t.Errorf("%s answered %s to a body of %d bytes", path, first.Status, len(body))
		}
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if second, err := http.ReadResponse(answers, nil); err == nil {
			t.Errorf("%s: what is inside of a body was answered: %s", path, second.Status)
		}
		_ = conn.Close()
	}
}
