package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/export/s3test/freeport"
)

// server is a process under load.
type server struct {
	name, address string
	process       *exec.Cmd
	cookies       []string // of consenting visitors
}

func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// clockTick is the unit of CPU times in /proc (USER_HZ, 100 a second on every Linux).
const clockTick = 10 * time.Millisecond

// cpu is the processor time of the process so far: user and system of /proc/<pid>/stat, after the name in parentheses.
func (s *server) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0
		}
		ticks += time.Duration(n)
	}
	return ticks * clockTick
}

func start(name, address string, cmd *exec.Cmd) (*server, error) {
	cmd.Stderr = os.Stderr
	if name == "gateway" {
		cmd.Stderr = nil // its log is not what is measured here
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: name, address: address, process: cmd}
	for range 300 {
		if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("%s did not start", name)
}

func startBaseline(dir string) (*server, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "baseline", address)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return start("baseline", address, cmd)
}

// startGateway runs the real gateway with the built-in policy, a directory store that nothing is shipped to while it is measured
// (no batch is ever due), and connections visitors who have consented.
func startGateway(bin, dir string) (*server, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	private, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	octroi, data := filepath.Join(bin, "octroi"), filepath.Join(dir, "data")
	out, err := exec.Command(octroi, "init", "--dir", data, "--site-key", "demo", "--origin", "http://"+address, "--interval", "1h").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("init: %w: %s", err, out)
	}
	file := filepath.Join(data, "gateway", "octroi.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("127.0.0.1:8080", address, "127.0.0.1:8081", private).Replace(string(b))
	text = strings.Replace(text, "\nkeys:", "\n  consent_rate: 100000\nkeys:", 1)
	text = strings.Replace(text, "dir: spool\n", "dir: spool\n  max_bytes: 17179869184\n", 1)
	text = strings.ReplaceAll(text, "interval: 1h\n", "interval: 1h\n    max_rows: 1000000000\n    target_bytes: 1000000000000\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := start("gateway", address, exec.Command(octroi, "serve", "--config", file))
	if err != nil {
		return nil, err
	}
	for range connections {
		cookie, err := s.consent()
		if err != nil {
			s.stop()
			return nil, err
		}
		s.cookies = append(s.cookies, cookie)
	}
	return s, nil
}

// consent is a visitor who reads the notice and accepts; the answer is the cookie.
func (s *server) consent() (string, error) {
	resp, err := http.Get("http://" + s.address + "/v1/notice?k=demo&language=en")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var notice struct{ Snapshot string }
	if err := json.NewDecoder(resp.Body).Decode(&notice); err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": map[string]bool{"audience": true}})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+s.address+"/v1/consents", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", "http://"+s.address)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	for _, c := range answer.Cookies() {
		if c.HttpOnly {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("consent was answered %s without a cookie", answer.Status)
}
