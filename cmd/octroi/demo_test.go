package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// spoken is what a process says, while it says it.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// show is a run of the real demo.
type show struct {
	t    *testing.T
	cmd  *exec.Cmd
	said spoken
}

// stall is where a demo of the test listens.
type stall struct{ dir, public, private, shop string }

func newStall(t *testing.T) stall {
	t.Helper()
	at := stall{filepath.Join(t.TempDir(), "octroi-data"), listenAddress(t), listenAddress(t), listenAddress(t)}
	answers.add(at.public, at.private)
	return at
}

func startDemo(t *testing.T, at stall, more ...string) *show {
	t.Helper()
	s := &show{t: t, cmd: exec.Command(filepath.Join(binaries, "octroi"), append([]string{
		"demo", "--dir", at.dir, "--public", at.public, "--private", at.private, "--shop", at.shop, "--visitors", "30", "--table",
	}, more...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

func (s *show) await(pattern string) {
	s.t.Helper()
	for range 600 {
		if regexp.MustCompile(pattern).MatchString(s.said.String()) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("the demo never said %q:\n%s", pattern, s.said.String())
}

// interrupt is Ctrl-C.
func (s *show) interrupt() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
}

// end waits, and fails unless the demo ends with the code.
func (s *show) end(code int, says string) {
	s.t.Helper()
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		s.t.Fatalf("the demo does not end:\n%s", s.said.String())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(s.said.String(), says) {
		s.t.Fatalf("the demo ended with %d, want %d and %q:\n%s", got, code, says, s.said.String())
	}
}

// children are the processes of the demo whose command line holds word.
func (s *show) children(word string) (pids []int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file) // it may have ended
		var pid, parent int
		if fields := strings.Fields(string(b)); len(fields) > 3 {
			pid, parent = number(fields[0]), number(fields[3])
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if parent == s.cmd.Process.Pid && bytes.Contains(line, []byte(word)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func number(text string) (n int) {
	for _, r := range text {
		n = n*10 + int(r-'0')
	}
	return n
}

// The demo says what to open, shows what happens, stops at Ctrl-C in every phase with everything loaded, goes on with its state, and says so when one
// of its processes ends.
func TestDemo(t *testing.T) {
	at := newStall(t)
	s := startDemo(t, at)
	s.await(`Open, in this order:(?s:.*)http://` + at.shop + ` .*(?s:.*)/console`)
	s.await(`accepted +[1-9][0-9]* `)
	s.await(`refused, and why +[1-9][0-9]* .*no_consent`)
	s.interrupt()
	s.end(0, "stopped. everything is kept")
	rows := regexp.MustCompile(`\n(warehouse|accounting) +[1-9][0-9]* objects .*, ([1-9][0-9]*) rows loaded`).FindAllStringSubmatch(s.said.String(), -1)
	if len(rows) < 2 {
		t.Fatalf("Ctrl-C left rows behind:\n%s", s.said.String())
	}
	for _, holder := range []string{"gateway", "custodian", "warehouse", "dpo", "offline", "site", "objects", "loaded/warehouse", "loaded/accounting"} {
		if _, err := os.Stat(filepath.Join(at.dir, holder)); err != nil {
			t.Error(err)
		}
	}

	s = startDemo(t, at)
	for len(s.children("serve")) == 0 { // while the gateway starts
		time.Sleep(time.Millisecond)
	}
	s.interrupt()
	s.end(0, "stopped. everything is kept")
	if again := regexp.MustCompile(`\nwarehouse .*, ` + rows[len(rows)-2][2] + ` rows loaded`); !again.MatchString(s.said.String()) {
		t.Errorf("the second run does not have the first one's rows:\n%s", s.said.String())
	}

	for _, victim := range []string{"serve", "follow", "shop", "traffic"} {
		s = startDemo(t, at)
		s.await(`Ctrl-C stops everything`)
		pids := s.children(victim)
		if len(pids) == 0 {
			t.Fatalf("the demo has no process %s", victim)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.end(1, victim+" has ended: its last words are in ")
	}
}

// What is clicked in the shop comes out at the other end, and the panel sees it: with the shop, the gateway and the loaders as they run in the demo.
func TestDemoShop(t *testing.T) {
	at := newStall(t)
	s := startDemo(t, at, "--visitors", "0")
	s.await(`Nobody else is in the shop`)
	shop, gateway := "http://"+at.shop, "http://"+at.public
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	send := func(address, media, body string) (answer string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", shop)
		req.Header.Set("Content-Type", media)
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 400 {
			t.Fatalf("%s answered %s: %s", address, resp.Status, b)
		}
		return string(b)
	}
	const form, text = "application/x-www-form-urlencoded", "application/json"
	awaitShop(t, shop)

	// The tag's part: read the notice, agree, log in, say what happens.
	n := &traffic{url: gateway, key: "demo"}
	notice, ok := n.notice(t.Context(), browser, "en")
	if !ok {
		t.Fatal("no notice")
	}
	choice, err := json.Marshal(map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": notice.choice(func(string) bool { return true })})
	if err != nil {
		t.Fatal(err)
	}
	send(gateway+"/v1/consents", text, string(choice))
	page := send(shop+"/en/card", form, "number=2026-0001&code=1234")
	claim := regexp.MustCompile(`data-claim="([^"]+)"`).FindStringSubmatch(page)
	if claim == nil {
		t.Fatal("the page after a login has no claim")
	}
	if answer := send(gateway+"/v1/identify", text, `{"k":"demo","claim":"`+claim[1]+`"}`); !strings.Contains(answer, `"linked":true`) {
		t.Errorf("the gateway does not believe the shop: %s", answer)
	}
	if answer := send(gateway+"/v1/events", text, `{"k":"demo","batch":[{"id":"e1","type":"product_view","fields":{"product":"teapot","search_terms":"private"}}]}`); !strings.Contains(answer, `"accepted":1`) {
		t.Fatalf("not accepted: %s", answer)
	}
	// The shop's part.
	send(shop+"/en/basket", form, "product=teapot&pieces=1")
	page = send(shop+"/en/checkout", form, "name=Camille&email=camille@boutique.example&delivery=post")
	order := regexp.MustCompile(`&#34;id&#34;:&#34;([0-9a-f-]{36})&#34;`).FindStringSubmatch(page)
	if order == nil {
		t.Fatal("the page after an order does not tell the panel")
	}
	for body, want := range map[string]string{
		`{"id":"e1"}`: `"destination":"warehouse".*"object":"warehouse/events/.*"person":"[0-9a-f]{32}".*"product":"teapot"`, `{"order":"` + order[1] + `"}`: `"destination":"accounting".*"basis":"contract"`,
	} {
		answer := ""
		for range 100 {
			if answer = send(shop+"/panel/trace", text, body); regexp.MustCompile(want).MatchString(answer) {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if !regexp.MustCompile(want).MatchString(answer) || strings.Contains(answer, "private") || strings.Contains(answer, "camille") {
			t.Errorf("the panel sees %s", answer)
		}
	}
	s.interrupt()
	s.end(0, "stopped. everything is kept")
}

// awaitShop waits until the shop answers: the demo does not.
func awaitShop(t *testing.T, shop string) {
	t.Helper()
	for range 200 {
		if resp, err := http.Get(shop + "/en/"); err == nil {
			_ = resp.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the shop never answers")
}

// What stands in the demo's way is said before anything is started.
func TestDemoCannotStart(t *testing.T) {
	at := newStall(t)
	for _, taken := range []string{at.private, at.shop} {
		l, err := net.Listen("tcp", taken)
		if err != nil {
			t.Fatal(err)
		}
		startDemo(t, at).end(1, taken+" is in use")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	startDemo(t, at, "--octroi-load", "/nowhere/octroi-load").end(1, "make build")
	if _, err := os.Stat(at.dir); err == nil {
		t.Error("a demo that cannot start made its folder")
	}
	// An init that was cut off: keys, and no configuration.
	if err := CreateKeys(filepath.Join(at.dir, gatewayDir, "keys")); err != nil {
		t.Fatal(err)
	}
	startDemo(t, at).end(1, "remove "+at.dir)

	// An installation from before there was a shop.
	old := initPlan{dir: filepath.Join(t.TempDir(), "old"), class: "X25519", site: "shop", key: "demo", controller: "Test", destinations: demoDestinations, objects: "../objects", interval: "1h", jurisdiction: "FR"}
	if err := old.create(); err != nil {
		t.Fatal(err)
	}
	at.dir = old.dir
	startDemo(t, at).end(1, "earlier version")
}

// The shop shows what no visitor may see: it is for this machine only.
func TestShopIsForThisMachine(t *testing.T) {
	out, err := exec.Command(filepath.Join(binaries, "octroi"), "shop", "--listen", "0.0.0.0:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "loopback") {
		t.Errorf("%v: %s", err, out)
	}
}
