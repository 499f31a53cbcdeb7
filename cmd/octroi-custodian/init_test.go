package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What octroi init writes for the custodian is what octroi-custodian reads: only the gateway is missing.
func TestInitialInstallation(t *testing.T) {
	folder := t.TempDir()
	programs := os.Getenv("OCTROI_BIN") // where make has built them
	if programs == "" {
		programs = folder
	}
	octroi, custodian := filepath.Join(programs, "octroi"), filepath.Join(programs, "octroi-custodian")
	run := func(program string, args ...string) (string, error) {
		out, err := exec.Command(program, args...).CombinedOutput()
		return string(out), err
	}
	if programs == folder {
		if out, err := run("go", "build", "-o", folder+"/", "../octroi", "."); err != nil {
			t.Fatalf("building: %v: %s", err, out)
		}
	}
	for _, class := range []string{"X25519", "hybrid"} {
		dir := filepath.Join(folder, class)
		if out, err := run(octroi, "init", "--dir", dir, "--class", class); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		token, err := run(octroi, "token", "--config", filepath.Join(dir, "gateway/octroi.yaml"), "--name", "custodian", "--scope", "custody")
		if err != nil {
			t.Fatalf("%v: %s", err, token)
		}
		if err := os.WriteFile(filepath.Join(dir, "custodian/custody.token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		// The port of octroi.yaml may be taken on this machine.
		config := filepath.Join(dir, "custodian/custodian.yaml")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		moved := strings.Replace(string(text), "http://127.0.0.1:8081", "http://127.0.0.1:1", 1)
		if moved == string(text) {
			t.Fatalf("custodian.yaml does not name the private listener: %s", text)
		}
		if err := os.WriteFile(config, []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := run(custodian, "verify", "--config", config)
		if err == nil {
			t.Errorf("%s: a gateway that is not there answered", class)
		}
		for _, want := range []string{"ok  configuration and keys", "ok  identity", "ok  store", "ok  batches: opened one of 0 of 2", "no  gateway", "ok  state", "is not reachable"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in %s", class, want, out)
			}
		}
	}
}
