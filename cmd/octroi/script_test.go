package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/export/s3test/freeport"
	"github.com/rogpeppe/go-internal/testscript"
)

// binaries is where the real programs stand: built here once, or named by the Makefile.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if answers, err = newDescribed(http.DefaultTransport); err != nil {
		panic(fmt.Sprintf("reading the API descriptions: %v", err))
	}
	http.DefaultTransport = answers
	if binaries = os.Getenv("OCTROI_BIN"); binaries != "" {
		return runAll(m)
	}
	dir, err := os.MkdirTemp("", "octroi-bin-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	out, err := exec.Command("go", "build", "-o", dir, "github.com/octroi/octroi/cmd/octroi", "github.com/octroi/octroi/cmd/octroi-load",
		"github.com/octroi/octroi/cmd/octroi-custodian").CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("building the programs: %v\n%s", err, out))
	}
	binaries = dir
	return runAll(m)
}

// runAll runs the tests. An answer that OpenAPI does not describe fails the run, also where a test took it for a gateway that is down.
func runAll(m *testing.M) int {
	code := m.Run()
	for _, wrong := range answers.report() {
		fmt.Fprintln(os.Stderr, wrong)
		code = max(code, 1)
	}
	return code
}

// TestScripts runs testdata/script against the real programs over HTTP. The scripts are written for a DPO to read.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
			jar, err := cookiejar.New(nil)
			if err != nil {
				return err
			}
			e.Values[worldKey{}] = &world{jar: jar}
			e.Setenv("YESTERDAY", time.Now().Add(-24*time.Hour).UTC().Format(time.RFC3339))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"install": installCommand, "gateway": gatewayCommand, "http": httpCommand, "forget-cookies": forgetCookies, "keep": keepCommand,
			"await": awaitCommand, "edit": editCommand, "nowhere": nowhereCommand, "flip": flipCommand, "until": untilCommand,
		},
	})
}

type worldKey struct{}

// world is what a script's commands share.
type world struct {
	jar             http.CookieJar
	public, private string
	process         *exec.Cmd
	last            []byte // body of the last answer
}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func freeAddress(ts *testscript.TestScript) string {
	address, err := freeport.Address()
	ts.Check(err)
	return address
}

// install creates an installation in data/, on free ports, with the site key demo.
func installCommand(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	w.public, w.private = freeAddress(ts), freeAddress(ts)
	ts.Check(ts.Exec("octroi", append([]string{
		"init", "--dir", ts.MkAbs("data"), "--site", "shop", "--site-key", "demo", "--origin", "http://" + w.public, "--interval", "300ms",
	}, args...)...))
	edit(ts, "data/gateway/octroi.yaml", "127.0.0.1:8080", w.public)
	edit(ts, "data/gateway/octroi.yaml", "127.0.0.1:8081", w.private)
	ts.Setenv("PUBLIC", "http://"+w.public)
	ts.Setenv("PRIVATE", "http://"+w.private)
}

// edit FILE OLD NEW replaces text in a file; it must be there.
func editCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	edit(ts, args[0], args[1], args[2])
}

func edit(ts *testscript.TestScript, file, before, after string) {
	b, err := os.ReadFile(ts.MkAbs(file))
	ts.Check(err)
	if !bytes.Contains(b, []byte(before)) {
		ts.Fatalf("%s does not hold %q", file, before)
	}
	ts.Check(os.WriteFile(ts.MkAbs(file), bytes.ReplaceAll(b, []byte(before), []byte(after)), 0o600))
}

// gateway start|stop|kill runs the real gateway: stop asks it to end and ship, kill is kill -9.
func gatewayCommand(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	switch args[0] {
	case "start":
		log, err := os.OpenFile(ts.MkAbs("gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		ts.Check(err)
		w.process = exec.Command(filepath.Join(binaries, "octroi"), "serve", "--config", ts.MkAbs("data/gateway/octroi.yaml"))
		w.process.Stderr, w.process.Stdout = log, log
		ts.Check(w.process.Start())
		process := w.process
		ts.Defer(func() { _ = process.Process.Kill(); _, _ = process.Process.Wait() })
		answers.add(w.public, w.private)
		awaitReady(ts, w, neg)
	case "stop", "kill":
		signal := syscall.SIGTERM
		if args[0] == "kill" {
			signal = syscall.SIGKILL
		}
		ts.Check(w.process.Process.Signal(signal))
		if err := w.process.Wait(); err != nil && args[0] == "stop" {
			ts.Fatalf("gateway did not stop cleanly: %v", err)
		}
	default:
		ts.Fatalf("usage: gateway start|stop|kill")
	}
}

// awaitReady waits for a gateway that is to start, or (neg) for one that must refuse to.
func awaitReady(ts *testscript.TestScript, w *world, neg bool) {
	for range 400 {
		resp, err := http.Get("http://" + w.private + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK && !neg {
				return
			}
			if neg {
				ts.Fatalf("the gateway started and should have refused to")
			}
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(w.process.Process.Pid, &status, syscall.WNOHANG, nil); pid == w.process.Process.Pid {
			if neg {
				return
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b, _ := os.ReadFile(ts.MkAbs("gateway.log"))
	ts.Fatalf("the gateway is not as expected; its log:\n%s", b)
}

// http STATUS METHOD URL [BODY] sends a request with the script's cookies and checks the status; the answer's body is stdout.
// Flags before STATUS: -token FILE, -header 'Name: value', -plain (no Origin header).
func httpCommand(ts *testscript.TestScript, neg bool, args []string) {
	w, header, plain := of(ts), http.Header{}, false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-plain":
			plain, args = true, args[1:]
			continue
		case "-token":
			header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[1])))
		case "-header":
			name, value, _ := strings.Cut(args[1], ": ")
			header.Add(name, value)
		default:
			ts.Fatalf("unknown flag %s", args[0])
		}
		args = args[2:]
	}
	if len(args) < 3 || neg {
		ts.Fatalf("usage: http [flags] STATUS METHOD URL [BODY]")
	}
	var body io.Reader
	if len(args) == 4 {
		text := args[3]
		if file, ok := strings.CutPrefix(text, "@"); ok {
			text = ts.ReadFile(file)
		}
		body = strings.NewReader(text)
	}
	req, err := http.NewRequest(args[1], args[2], body)
	ts.Check(err)
	req.Header = header
	if !plain && header.Get("Origin") == "" && args[1] == http.MethodPost && header.Get("Authorization") == "" {
		req.Header.Set("Origin", "http://"+w.public)
	}
	if req.Header.Get("Content-Type") == "" && body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Jar: w.jar, Timeout: 20 * time.Second}).Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	w.last, err = io.ReadAll(resp.Body)
	ts.Check(err)
	for name, values := range resp.Header {
		fmt.Fprintf(ts.Stderr(), "%s: %s\n", name, strings.Join(values, "; "))
	}
	_, err = ts.Stdout().Write(append(w.last, '\n'))
	ts.Check(err)
	if want, _ := strconv.Atoi(args[0]); resp.StatusCode != want {
		ts.Fatalf("%s %s answered %d, want %d: %s", args[1], args[2], resp.StatusCode, want, w.last)
	}
}

// keep NAME JSON.KEY puts a member of the last answer into an environment variable.
func keepCommand(ts *testscript.TestScript, _ bool, args []string) {
	var v any
	ts.Check(json.Unmarshal(of(ts).last, &v))
	for key := range strings.SplitSeq(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			v = x[i]
		}
	}
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		ts.Check(err)
		text = string(b)
	}
	ts.Setenv(args[0], text)
}

// forget-cookies is a new browser.
func forgetCookies(ts *testscript.TestScript, _ bool, _ []string) {
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	of(ts).jar = jar
}

// await COMMAND… repeats a command until it succeeds, for at most 20 seconds.
func awaitCommand(ts *testscript.TestScript, _ bool, args []string) {
	var err error
	for range 100 {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	ts.Fatalf("never came true: %v: %v", args, err)
}

// until PATTERN TOKEN-FILE URL asks again and again until the answer matches, for at most a minute.
func untilCommand(ts *testscript.TestScript, _ bool, args []string) {
	pattern, answer := regexp.MustCompile(args[0]), ""
	for range 300 {
		req, err := http.NewRequest(http.MethodGet, args[2], nil)
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[1])))
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		b, err := io.ReadAll(resp.Body)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if answer = string(b); pattern.MatchString(answer) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	ts.Fatalf("%s never answered %s: %s", args[2], args[0], answer)
}

// nowhere PATTERN DIR… fails when a file below one of the folders holds what matches. It fails too when it has looked at no file.
func nowhereCommand(ts *testscript.TestScript, _ bool, args []string) {
	pattern, looked := regexp.MustCompile(args[0]), 0
	for _, dir := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			looked++
			if pattern.Match(b) || pattern.MatchString(path) {
				return fmt.Errorf("%s holds %s", path, args[0])
			}
			return nil
		}))
	}
	if looked == 0 {
		ts.Fatalf("nowhere looked at no file")
	}
}

// flip FILE OFFSET changes one bit of a file; a negative offset counts from its end.
func flipCommand(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	if found, _ := filepath.Glob(path); len(found) > 0 {
		path = found[0]
	}
	b, err := os.ReadFile(path)
	ts.Check(err)
	i, err := strconv.Atoi(args[1])
	ts.Check(err)
	if i < 0 {
		i += len(b)
	}
	b[i] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}
