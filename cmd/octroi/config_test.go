package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newConfig is the configuration that init writes, and its path.
func newConfig(t *testing.T, change ...func(*initPlan)) (path, text string) {
	t.Helper()
	p := initPlan{
		dir: filepath.Join(t.TempDir(), "data"), class: "X25519", site: "shop", key: "demo", origins: []string{"https://shop.example"},
		jurisdiction: "FR", controller: "Shop SA", destinations: []string{"warehouse", "accounting"}, objects: "../objects", interval: "60s",
	}
	for _, c := range change {
		c(&p)
	}
	if err := p.create(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(p.dir, gatewayDir, "octroi.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(b)
}

// Whatever would break later is refused where it is written, by key, with what would be right.
func TestConfigRefuses(t *testing.T) {
	path, text := newConfig(t)
	tests := []struct{ name, before, after, wrong string }{
		{"empty", text, "", "is empty"},
		{"not YAML", "node: n1", "node: [n1", "octroi.yaml: "},
		{"a binary", text, "\x00\x01\xff{{{", "octroi.yaml: "},
		{"an alias bomb", "node: n1", "node: &a [*a, *a]", "octroi.yaml: "},
		{"unknown key", "node: n1", "nodde: n1", "nodde"},
		{"key twice", "node: n1", "node: n1\nnode: n2", "node"},
		{"second document", "node: n1", "---\nnode: n2\n---\nnode: n1", "octroi.yaml: "},
		{"document after", "destinations:", "destinations: []\n---\nmore:", "second document"},
		{"wrong type", "sites:", "sites: 3\nx:", "octroi.yaml: "},
		{"node", "node: n1", "node: N 1", "node: lower-case"},
		{"no controller", `controller: "Shop SA"`, `controller: ""`, "controller: is missing"},
		{"policy address", "listen:", "policy_url: javascript:x\nlisten:", "policy_url"},
		{"no port", "public: 127.0.0.1:8080", "public: 127.0.0.1", "listen.public"},
		{"a port that is none", "public: 127.0.0.1:8080", "public: 127.0.0.1:80800", "listen.public"},
		{"one listener for both", "private: 127.0.0.1:8081", "private: 127.0.0.1:8080", "listen.private"},
		{"nothing", "node: n1", "node: n1", ""},
		{"trust in all", "listen:", "listen:\n  trusted_proxies: [0.0.0.0/0]", "listen.trusted_proxies[0]"},
		{"a proxy that is none", "listen:", "listen:\n  trusted_proxies: [proxy]", "octroi.yaml: "},
		{"negative rate", "listen:", "listen:\n  consent_rate: -1", "listen.consent_rate"},
		{"rate that is no number", "listen:", "listen:\n  consent_rate: .nan", "listen.consent_rate"},
		{"no state", "state: state", "state: ''", "state: is missing"},
		{"slots in state", "slots: slots/subjects.slots", "slots: state/subjects.slots", "slots: lies in state"},
		{"spool is outbox", "dir: spool", "dir: outbox", "outbox.dir: lies in spool.dir"},
		{"objects among keys", "directory: ../objects", "directory: keys/objects", "objects.directory: lies in keys"},
		{"spool size", "dir: spool", "dir: spool\n  max_bytes: -1", "spool.max_bytes"},
		{"spool size in the wrong unit", "dir: spool", "dir: spool\n  max_bytes: 4", "spool.max_bytes"},
		{"window", "dir: spool", "dir: spool\n  window: -24h", "spool.window"},
		{"window without a unit", "dir: spool", "dir: spool\n  window: 24", "cannot unmarshal"},
		{"window count", "dir: spool", "dir: spool\n  window_count: -1", "spool.window_count"},
		{"outbox size", "dir: outbox", "dir: outbox\n  max_bytes: -5", "outbox.max_bytes"},
		{"segment age", "dir: spool", "dir: spool\n  segment_age: 1ms", "spool.segment_age"},
		{"packages in the spool", "notices: 24h", "packages: spool", "rights.packages: lies in spool.dir"},
		{"notices", "notices: 24h", "notices: 48h", "rights.notices"},
		{"packages kept", "notices: 24h", "package_kept: 200h", "rights.package_kept"},
		{"slot copies", "notices: 24h", "slot_copies: -1h", "rights.slot_copies"},
		{"consent proof", "notices: 24h", "consent_proof: 5y", "rights.consent_proof"},
		{"backup recipient", "\n  recipient: age1", "\n  recipient: age9", "backup.recipient"},
		{"memory", "keys: keys", "keys: keys\nmemory: -1", "memory"},
		{"no store", "directory: ../objects", "directory: ''", "objects: name exactly one"},
		{"two stores", "directory: ../objects", "directory: ../objects\n  s3: {endpoint: 'https://s3.example', bucket: b, credentials: c}", "objects: name exactly one"},
		{"S3 without anything", "directory: ../objects", "s3: {timeout: -1s}", "objects.s3.endpoint"},
		{"S3 timeout", "directory: ../objects", "s3: {timeout: -1s}", "objects.s3.timeout"},
		{"S3 bucket", "directory: ../objects", "s3: {endpoint: 'https://s3.example'}", "objects.s3.bucket"},
		{"site key", "key: demo", "key: 'de mo'", "sites[0].key"},
		{"site name", "name: shop", "name: Shop", "sites[0].name"},
		{"origin", "- https://shop.example", "- https://shop.example/", "sites[0].origins[0]"},
		{"wildcard", "- https://shop.example", `- "https://*.example"`, "sites[0].origins[0]"},
		{"region", "region: FR", "region: XX", "sites[0].region"},
		{"region in lower case", "region: FR", "region: fr", "sites[0].region"},
		{"jurisdiction", "jurisdiction: FR", "jurisdiction: EU1", "sites[0].jurisdiction"},
		{"language", "language: fr", "language: 'not a tag'", "sites[0].language"},
		{"too old", "too_old: P7D", "too_old: 7d", "sites[0].too_old"},
		{"too old at once", "too_old: P7D", "too_old: P0D", "sites[0].too_old"},
		{"destination", "- name: warehouse", "- name: ../warehouse", "destinations[0].name"},
		{"destination twice", "- name: warehouse", "- name: accounting", "destinations[1].name"},
		{"interval", "interval: 60s", "interval: -60s", "destinations[0].interval"},
		{"interval without a unit", "interval: 60s", "interval: 60", "cannot unmarshal"},
		{"interval of days", "interval: 60s", "interval: 100h", "destinations[0].interval"},
		{"rows", "interval: 60s", "interval: 60s\n    max_rows: -1", "destinations[0].max_rows"},
		{"bytes", "interval: 60s", "interval: 60s\n    target_bytes: -1", "destinations[0].target_bytes"},
		{"recipient", "recovery: age1", "recovery: age9", "destinations[0].recipients"},
	}
	for _, test := range tests {
		if !strings.Contains(text, test.before) {
			t.Fatalf("%s: the configuration does not hold %q", test.name, test.before)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, test.before, test.after)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(path)
		switch {
		case test.wrong == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
			t.Errorf("%s: error %v, want one about %q", test.name, err, test.wrong)
		}
	}
}

// A policy and a configuration that do not go together are refused before anything is opened.
func TestConfigAndPolicyAgree(t *testing.T) {
	path, text := newConfig(t)
	before := text[strings.Index(text, "  - name: accounting"):]
	if err := os.WriteFile(path, []byte(strings.Replace(text, before, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(c.path(c.Policies))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRecipients(c, p); err == nil || !strings.Contains(err.Error(), `destinations: recipient "accounting" of purpose "service"`) {
		t.Errorf("a recipient that is no destination: %v", err)
	}
	c.Destinations = append(c.Destinations, DestinationConfig{Name: "accounting"}, DestinationConfig{Name: "nobody"})
	if err := checkRecipients(c, p); err == nil || !strings.Contains(err.Error(), `destinations[2].name: no purpose names "nobody"`) {
		t.Errorf("a destination that receives nothing: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("node: n1\nsites:\n  - key: demo\n")
	f.Add("a: &a [*a]\n---\n{[}]")
	f.Add("listen: {trusted_proxies: [10.0.0.0/8], consent_rate: .inf}\ndestinations: [{interval: 1e9h}]")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		c, err := decodeConfig([]byte(text))
		if err != nil && c != nil {
			t.Fatal("an error with a configuration")
		}
		if err == nil {
			_ = c.check() // does not panic, whatever it holds
		}
	})
}
