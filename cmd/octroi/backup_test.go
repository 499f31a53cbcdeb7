package main

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// backupServer serves the gateway's backups over HTTP; it answers its address and a token's file.
func (h *house) backupServer(scopes ...string) (url, tokenFile string) {
	h.t.Helper()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ErrorHandler: h.edge.Problem})
	h.backupRoutes(app)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Listener(l) }()
	h.t.Cleanup(func() {
		if err := errors.Join(app.ShutdownWithTimeout(10*time.Second), <-done); err != nil {
			h.t.Error(err)
		}
	})
	tokenFile = filepath.Join(h.t.TempDir(), "token")
	bearer := h.bearer(collector.TokenClaims{Subject: "backup", Scopes: scopes}).Get("Authorization")
	if err := os.WriteFile(tokenFile, []byte(strings.TrimPrefix(bearer, "Bearer ")+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return "http://" + l.Addr().String() + "/v1/backup/", tokenFile
}

// backups takes both parts into two folders.
func (h *house) backups() (stateFile, slotFile string) {
	h.t.Helper()
	url, token := h.backupServer(collector.ScopeBackup)
	for part, file := range map[string]*string{partState: &stateFile, partSlots: &slotFile} {
		var size int64
		var err error
		if *file, size, err = fetchBackup(h.t.Context(), url+part, token, h.t.TempDir()); err != nil {
			h.t.Fatal(err)
		}
		info, err := os.Stat(*file)
		if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 || !backupName.MatchString(info.Name()) {
			h.t.Errorf("%v: %d bytes (%v)", info, size, err)
		}
	}
	return stateFile, slotFile
}

// lost takes a gateway's state and slots away, as a disk does, and answers the restore that is to follow.
func (h *house) lost() *restore {
	h.t.Helper()
	h.shut()
	for _, path := range []string{h.config.path(h.config.State), h.config.path(h.config.Slots)} {
		if err := os.RemoveAll(path); err != nil {
			h.t.Fatal(err)
		}
	}
	r, err := prepareRestore(filepath.Join(h.dir, gatewayDir, "octroi.yaml"), filepath.Join(h.dir, offlineDir, "identity.txt"))
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// places lists what stands where a restore writes; the state's folder may be there, empty.
func (r *restore) places() (there []string) {
	for _, pattern := range []string{r.state + "/*", r.state + ".*", r.slots + "*", filepath.Dir(r.slots) + "/.octroi*"} {
		found, _ := filepath.Glob(pattern)
		there = append(there, found...)
	}
	return there
}

// TestBackupAndRestore: whoever was known is known again, and the evidence log is the same; nothing of a person stands in a backup file.
func TestBackupAndRestore(t *testing.T) {
	h := openHouse(t, t.TempDir())
	browser, credential, device := h.visitor()
	h.accept(browser, map[string]any{"id": "canary-1", "type": "page_view"})
	h.flush()
	stateFile, slotFile := h.backups()
	size, root, err := h.state.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{stateFile, slotFile} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, needle := range h.needles(device) {
			if strings.Contains(string(content), string(needle)) {
				t.Errorf("%s holds %q in the clear", file, needle)
			}
		}
	}
	slot := device.Slot()
	r := h.lost()
	found, err := r.run(stateFile, slotFile)
	if err != nil {
		t.Fatal(err)
	}
	if found.leaves != size || found.subjects == 0 {
		t.Errorf("%+v, want %d entries", found, size)
	}
	if marked, err := r.config.isRestored(); err != nil || !marked {
		t.Errorf("serve is not told (%v)", err)
	}
	again := openHouse(t, h.dir)
	defer again.shut()
	if _, root2, err := again.state.Tree(); err != nil || root2 != root {
		t.Errorf("another log (%v)", err)
	}
	if s, err := again.subjects.Device(credential); err != nil || s.Slot() != slot {
		t.Errorf("the device is not known again: %v", err)
	}
	if standing, err := again.ledger.Current(device); err != nil || len(standing) == 0 {
		t.Errorf("its consent is not known again: %v", err)
	}
	if marked, err := again.config.isRestored(); err != nil || marked {
		t.Errorf("the gateway is open, and not up to the store (%v)", err)
	}
}

// TestRestoreRefuses: what is not whole, not ours or in the wrong place is refused, and nothing is left.
func TestRestoreRefuses(t *testing.T) {
	h := openHouse(t, t.TempDir())
	h.visitor()
	stateFile, slotFile := h.backups()
	r := h.lost()
	spoil := func(file string, how func([]byte) []byte) string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		spoilt := filepath.Join(t.TempDir(), "spoilt")
		if err := os.WriteFile(spoilt, how(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return spoilt
	}
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	flip := func(b []byte) []byte { b[len(b)-40] ^= 1; return b }
	stranger, _, err := export.NewIdentity(export.ClassX25519)
	if err != nil {
		t.Fatal(err)
	}
	strangers, err := export.ParseIdentities([]byte(stranger))
	if err != nil {
		t.Fatal(err)
	}
	ours := *r
	for name, x := range map[string]struct {
		change       func(*restore)
		state, slots string
		want         error
	}{
		"state cut off":     {nil, spoil(stateFile, cut), slotFile, export.ErrSeal},
		"state changed":     {nil, spoil(stateFile, flip), slotFile, export.ErrSeal},
		"slots cut off":     {nil, stateFile, spoil(slotFile, cut), export.ErrSeal},
		"slots changed":     {nil, stateFile, spoil(slotFile, flip), export.ErrSeal},
		"swapped":           {nil, slotFile, stateFile, state.ErrBackup},
		"slots twice":       {nil, slotFile, slotFile, state.ErrBackup},
		"state twice":       {nil, stateFile, stateFile, subject.ErrDamaged},
		"no such file":      {nil, stateFile + "x", slotFile, os.ErrNotExist},
		"another identity":  {func(r *restore) { r.ids = strangers }, stateFile, slotFile, export.ErrIdentity},
		"another state key": {func(r *restore) { r.keys.State = make([]byte, 32) }, stateFile, slotFile, state.ErrKey},
		"another lookup":    {func(r *restore) { r.keys.Lookup = make([]byte, 32) }, stateFile, slotFile, subject.ErrLookupKey},
	} {
		attempt, keys := ours, *ours.keys
		attempt.keys = &keys
		if x.change != nil {
			x.change(&attempt)
		}
		if _, err := attempt.run(x.state, x.slots); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if left := attempt.places(); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}

	// Slots that nobody restored are not replaced; those of a restore that was killed are.
	if err := writeNew(r.slots, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(stateFile, slotFile); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("over another slot file: %v", err)
	}
	if b, err := os.ReadFile(r.slots); err != nil || string(b) != "kept" {
		t.Errorf("the slot file was changed (%v)", err)
	}
	if err := r.writeMark(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(stateFile, slotFile); err != nil {
		t.Errorf("after a restore that was killed: %v", err)
	}
	if _, err := r.run(stateFile, slotFile); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over a state: %v", err)
	}
	openHouse(t, h.dir).shut() // it was left as it was
}

// TestOlderSlots: slots that were copied before the state do not open with it where a subject came between, and nothing is left.
func TestOlderSlots(t *testing.T) {
	h := openHouse(t, t.TempDir())
	_, slots := h.backups()
	h.visitor()
	stateFile, _ := h.backups()
	r := h.lost()
	if _, err := r.run(stateFile, slots); !errors.Is(err, subject.ErrDamaged) {
		t.Errorf("%v", err)
	}
	if left := r.places(); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestBackupRefuses(t *testing.T) {
	h := openHouse(t, t.TempDir())
	defer h.shut()
	into := t.TempDir()
	for _, scope := range []string{collector.ScopeAdmin, collector.ScopeCustody} {
		url, token := h.backupServer(scope)
		for _, part := range []string{partState, partSlots} {
			if _, _, err := fetchBackup(t.Context(), url+part, token, into); err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("%s by scope %s: %v", part, scope, err)
			}
		}
	}
	url, token := h.backupServer(collector.ScopeBackup)
	if resp, err := http.Get(url + partSlots); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %v (%v)", resp, err)
	} else if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	h.config.Backup.Recipient = ""
	if _, _, err := fetchBackup(t.Context(), url+partState, token, into); err == nil || !strings.Contains(err.Error(), "backup.recipient") {
		t.Errorf("without a recipient: %v", err)
	}
	if left, err := os.ReadDir(into); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

// TestHostileBackupName: what answers on the address cannot name a file elsewhere, nor one that is there.
func TestHostileBackupName(t *testing.T) {
	for _, header := range []string{
		`attachment; filename="../../etc/passwd"`, `attachment; filename="n1-20261121T101112Z-state.zst.age/../x"`, `attachment`, ``,
		`attachment; filename="n1-20261121T101112Z-keys.zst.age"`,
	} {
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		app.Get("/state", func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentDisposition, header)
			return c.SendString("content")
		})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- app.Listener(l) }()
		into, token := t.TempDir(), filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("t"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := fetchBackup(t.Context(), "http://"+l.Addr().String()+"/state", token, into); err == nil {
			t.Errorf("%s: taken", header)
		}
		if left, err := os.ReadDir(into); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left (%v)", header, left, err)
		}
		if err := errors.Join(app.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	}
	there := filepath.Join(t.TempDir(), "n1-20261121T101112Z-state.zst.age")
	if _, err := saveNew(there, strings.NewReader("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := saveNew(there, strings.NewReader("second")); err == nil {
		t.Error("a backup was overwritten")
	}
}
