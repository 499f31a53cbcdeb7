package rights

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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

// Only the custodian may take its time: a stranger's body that does not come ends with the app's own timeout.
func TestStrangerHoldsNoConnection(t *testing.T) {
	t.Parallel()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, ReadTimeout: 100 * time.Millisecond})
	fail := func(c *fiber.Ctx, status int, code, _ string) error { return c.Status(status).SendString(code) }
	app.Use(BoundBodies(1000, fail))
	Routes(fiber.New(), app, newWorld(t).Requests, RouteOptions{
		Fail: fail, Actor: func(*fiber.Ctx, string) (string, error) { return "", fiber.ErrUnauthorized },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	request := "PUT /v1/custody/requests/x/package HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + strings.Repeat("x", 10_000)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "401") {
		t.Errorf("it waits for a stranger: %v %.40q", err, answer)
	}
}
