package policies_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/policies"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the wanted messages")

// shop is a copy of the small policy of testdata/shop, to change.
func shop(t testing.TB) fstest.MapFS {
	t.Helper()
	return copied(t, os.DirFS("testdata/shop"))
}

func copied(t testing.TB, policy fs.FS) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(policy, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := fs.ReadFile(policy, name)
		files[name] = &fstest.MapFile{Data: content}
		return err
	})
	if err != nil || len(files) < 2 {
		t.Fatalf("copying a policy: %d files, %v", len(files), err)
	}
	return files
}

func load(t testing.TB, files fs.FS) *policies.Policy {
	t.Helper()
	p, err := policies.Load(files)
	if err != nil {
		t.Fatalf("loading:\n%v", err)
	}
	return p
}

// TestProblems holds each broken policy of testdata/problems, laid over the small one, against the messages that it wants.
func TestProblems(t *testing.T) {
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(archives) < 10 {
		t.Fatalf("finding the broken policies: %d, %v", len(archives), err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := shop(t)
			want := &archive.Files[len(archive.Files)-1]
			for _, f := range archive.Files[:len(archive.Files)-1] {
				files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			got := messages(t, files)
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want.Name != "want" || got != string(want.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
}

// messages loads what must not load, and checks what every problem has.
func messages(t *testing.T, files fs.FS) string {
	t.Helper()
	p, err := policies.Load(files)
	var problems policies.Problems
	if p != nil || !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("loading a broken policy: got %v and error %T", p, err)
	}
	for _, x := range problems {
		if x.File == "" || x.Wrong == "" || x.Right == "" || strings.Contains(x.String(), "\n") {
			t.Errorf("not a whole problem on one line: %q", x)
		}
	}
	return err.Error() + "\n"
}

// TestLimits: what is too large, too deep or too many is one clear problem, and quickly found.
func TestLimits(t *testing.T) {
	purpose := func(id string) []byte {
		return fmt.Appendf(nil, "purpose: %s\nversion: 1\nbasis: contract\ntitle: {fr: T, en: T}\n"+
			"notice: {url: 'https://x.example/', text: {fr: T, en: T}}\nretention: P1Y\nevent_types: [purchase]\nrecipients: []\n", id)
	}
	cases := map[string]struct {
		change func(fstest.MapFS)
		want   string
	}{
		"file": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = bytes.Repeat([]byte("# "), policies.MaxFileBytes/2+1)
		}, "audience.yaml: is larger than 128 KiB; shorten it"},
		"lines": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = append([]byte("a: |\n"), bytes.Repeat([]byte("\n"), policies.MaxFileBytes-5)...)
		}, "audience.yaml: has more than 2000 lines; shorten it"},
		"list": {func(f fstest.MapFS) {
			long := "event_types: [" + strings.Repeat("page_view, ", policies.MaxFileBytes/20) + "page_view, "
			f["audience.yaml"].Data = bytes.Replace(f["audience.yaml"].Data, []byte("event_types: ["), []byte(long), 1)
		}, "event_types: has more than 256 entries; shorten it"},
		"languages": {func(f fstest.MapFS) {
			long := "languages: [" + strings.Repeat("fr, ", policies.MaxLanguages)
			f["events.yaml"].Data = bytes.Replace(f["events.yaml"].Data, []byte("languages: ["), []byte(long), 1)
		}, "events.yaml:9: languages: has more than 32 languages; shorten it"},
		"purposes": {func(f fstest.MapFS) {
			for i := range policies.MaxPurposes {
				f[fmt.Sprintf("p%d.yaml", i)] = &fstest.MapFile{Data: purpose(fmt.Sprintf("p%d", i))}
			}
		}, ".: 67 files; keep to 64 purposes"},
		"purposes of a type": {func(f fstest.MapFS) {
			for i := range policies.MaxPurposesPerType - 1 {
				f[fmt.Sprintf("p%d.yaml", i)] = &fstest.MapFile{Data: purpose(fmt.Sprintf("p%d", i))}
			}
		}, "events.yaml: event_types.purchase: 17 purposes name it; keep to 16"},
		"brackets": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = bytes.Repeat([]byte("["), policies.MaxFileBytes)
		}, "nested too deeply"},
		"dashes": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = bytes.Repeat([]byte("- "), policies.MaxFileBytes/2)
		}, "nested too deeply"},
		"questions": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = bytes.Repeat([]byte("? "), policies.MaxFileBytes/2)
		}, "nested too deeply"},
		"indentation": {func(f fstest.MapFS) {
			var b bytes.Buffer
			for i := range 500 {
				fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
			}
			f["audience.yaml"].Data = b.Bytes()
		}, "nested too deeply"},
		"text": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = bytes.Replace(f["audience.yaml"].Data, []byte("fr: Mesure"),
				[]byte("fr: "+strings.Repeat("x", policies.MaxTextBytes)), 1)
		}, "audience.yaml:8: title.fr: is longer than 16384 bytes; shorten it"},
		"bytes": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = []byte("purpose: audience\ntitle: \xff\n")
		}, "audience.yaml:2: bytes that are not UTF-8; save the file as UTF-8"},
		"hidden": {func(f fstest.MapFS) {
			f["audience.yaml"].Data = []byte("purpose: audience\ntitle: a\u202eb\n")
		}, "audience.yaml:2: an invisible control character U+202E; remove it"},
		"nothing": {func(f fstest.MapFS) { clear(f) }, ".: no purpose; write one *.yaml for each purpose"},
		"no purpose": {func(f fstest.MapFS) {
			delete(f, "audience.yaml")
			delete(f, "service.yaml")
		}, ".: no purpose; write one *.yaml for each purpose"},
		"no events": {func(f fstest.MapFS) { delete(f, "events.yaml") }, "events.yaml: is missing; write it with stages and event_types"},
		"unreadable": {func(f fstest.MapFS) {
			f["audience.yaml"] = &fstest.MapFile{Data: []byte("nowhere"), Mode: fs.ModeSymlink}
		}, "audience.yaml: cannot be"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			files := shop(t)
			c.change(files)
			began := time.Now()
			got := messages(t, files)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("found after %s", took)
			}
			if !strings.Contains(got, c.want) || strings.Count(got, "\n") > 3 {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	if _, err := policies.Load(os.DirFS("testdata/nowhere")); err == nil || !strings.Contains(err.Error(), "folder cannot be read") {
		t.Errorf("loading a folder that is not there: %v", err)
	}
}

// TestSixtyFour: as many purposes as a Mask has bits, the last of them as good as the first.
func TestSixtyFour(t *testing.T) {
	files := shop(t)
	files["events.yaml"].Data = []byte("event_types:\n")
	for i := range policies.MaxPurposes {
		name := fmt.Sprintf("p%02d", i)
		files["events.yaml"].Data = fmt.Appendf(files["events.yaml"].Data, "  t%02d: {channel: web, stage: intent}\n", i)
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "purpose: %s\nversion: 1\nbasis: contract\ntitle: {fr: T}\n"+
			"notice: {url: 'https://x.example/', text: {fr: T}}\nretention: P1Y\nevent_types: [t%02d]\nfields: {f%d: keep}\n"+
			"recipients: [{destination: d%d, name: N, country: FR}]\n", name, i, i, i)}
	}
	delete(files, "audience.yaml")
	delete(files, "service.yaml")
	p := load(t, files)
	last, _ := p.Purpose("p63")
	if last.Bit() != 1<<63 || p.RecipientOf("d63") != last.Bit() || p.Treatment(last.Bit(), "f63") != policies.Keep {
		t.Errorf("the last of 64 purposes: bit %x, received %x", last.Bit(), p.RecipientOf("d63"))
	}
	if got := p.Treatment(last.Bit()-1, "f63"); got != policies.Drop {
		t.Errorf("a field that only the last purpose names is %s for all others", got)
	}
	if got := p.ChoiceNotice("fr"); got.Text != "" {
		t.Errorf("a choice without a consent purpose: %+v", got)
	}
}

// pinnedHash is the hash of the policy in TestHashPinned, canonical encoding version 1.
const pinnedHash = "c879d98fa838fc938ee4ab303690feebe2566e5f770ad773582b999f20fb1b3e"

func hexOf(b []byte) string { return hex.EncodeToString(b) }
