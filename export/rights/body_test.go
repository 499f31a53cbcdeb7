package rights

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

// An app that streams bodies: Body is bounded for every handler, and what a handler left of a body is never taken for a request.
func TestBoundBodies(t *testing.T) {
	t.Parallel()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: 64})
	app.Use(BoundBodies(1000, func(c *fiber.Ctx, status int, code, _ string) error { return c.Status(status).SendString(code) }))
	app.Post("/length", func(c *fiber.Ctx) error { return c.SendString(fmt.Sprint(len(c.Body()))) })
	app.Post("/v1/custody/unread", func(c *fiber.Ctx) error { return c.SendStatus(http.StatusNoContent) })
	app.Get("/secret", func(c *fiber.Ctx) error { return c.SendString("smuggled") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })

	for size, want := range map[int]string{0: "0", 900: "900", 1000: "1000", 1001: "size", 100_000: "size"} {
		response, err := http.Post("http://"+l.Addr().String()+"/length", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(size, err)
		}
		text, _ := bufio.NewReader(response.Body).ReadString('\n')
		_ = response.Body.Close()
		if text != want {
			t.Errorf("%d bytes: %q, want %q", size, text, want)
		}
	}
	for _, path := range []string{"/length", "/v1/custody/unread"} {
		for _, before := range []int{0, 2000, 70_000} {
			if answer := smuggle(t, l.Addr().String(), path, before); strings.Contains(answer, "smuggled") {
				t.Errorf("%s: a request inside of a body, after %d bytes, was answered", path, before)
			}
		}
	}
}

// smuggle sends one request whose body holds another, and reads all that is answered.
func smuggle(t *testing.T, address, path string, before int) (answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := strings.Repeat("x", before) + "GET /secret HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	go func() {
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		if c, ok := conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
	}()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		answer += lines.Text() + "\n"
	}
	return answer
}
