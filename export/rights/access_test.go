package rights

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
)

// A person asks, the custodian makes the package of what was shipped and of what was still spooled, the browser opens it once.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	c, s := w.mint(t)
	other, stranger := w.mint(t)
	w.pages(t, s, 2, "mine")
	w.pages(t, stranger, 2, "theirs")
	w.ship(t)
	w.pages(t, s, 1, "spooled")

	a := d.mine(c, "POST", "", map[string]any{"right": "access", "language": "en"}).want(t, 201, "state", "approved")
	d.mine(c, "POST", "", map[string]any{"right": "access"}).want(t, 200, "id", a.id())
	d.mine(c, "GET", "/"+a.id()+"/package", nil).want(t, 404, "code", "not_ready")
	hastening, stop := context.WithCancel(t.Context())
	var sealing sync.WaitGroup
	sealing.Go(func() { w.Hasten(hastening) })
	custody := &servant{w: w, name: "custodian-one"}
	for deadline := time.Now().Add(10 * time.Second); !w.row(t, a.id()).State.Final(); {
		w.Pass(t.Context())
		w.ship(t)
		if err := custody.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %+v", w.row(t, a.id()))
		}
	}
	stop()
	sealing.Wait()

	d.mine(c, "GET", "/"+a.id(), nil).want(t, 200, "state", "completed")
	d.mine(other, "GET", "/"+a.id()+"/package", nil).want(t, 404)
	d.mine(c, "GET", "/"+a.id()+"/package", nil, "Sec-Purpose", "prefetch").want(t, 403)
	if head := d.mine(c, "HEAD", "/"+a.id()+"/package", nil); head.status < 400 {
		t.Error("HEAD is answered", head.status)
	}
	d.mine(c, "GET", "/"+a.id()+"/package?format=exe", nil).want(t, 422)
	page := d.mine(c, "GET", "/"+a.id()+"/package?format=json", nil).want(t, 200)
	if n := strings.Count(page.text, "https://shop.example/p/mine-"); n < 2 || !strings.Contains(page.text, "/p/spooled-0") {
		t.Errorf("the package lacks rows: %d", n)
	}
	if strings.Contains(page.text, "/p/theirs-") {
		t.Error("another's rows")
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": packagePolicy,
	} {
		if got := page.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	d.mine(c, "GET", "/"+a.id()+"/package", nil).want(t, 410, "code", "opened")
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("the package is left:", files, err)
	}
}

// collected brings an access to where its package is there.
func (w *world) collected(t *testing.T) (id string, object []byte) {
	t.Helper()
	_, s := w.mint(t)
	w.pages(t, s, 2, "mine")
	w.ship(t)
	id = w.ask(t, proof.Access, s).ID
	custody := &servant{w: w, name: "custodian-one"}
	w.Pass(t.Context())
	work, err := w.Work()
	if err != nil || len(work.Items) != 1 {
		t.Fatal(work, err)
	}
	_, object, err = custody.makePackage(t.Context(), &work.Items[0], work)
	if err != nil {
		t.Fatal(err)
	}
	return id, object
}

func reportOf(id string, object []byte, at time.Time) proof.Collected {
	sum := sha256.Sum256(object)
	return proof.Collected{
		Version: 1, Request: id, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(object)), Objects: 1,
		Rows: map[string]int{"warehouse": 2}, At: at,
	}
}

// A package that is not what its report says, or nobody asked for, leaves everything as it was.
func TestForgedPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	id, object := w.collected(t)
	for name, x := range map[string]struct {
		change func(*proof.Collected)
		key    []byte
		body   []byte
		status int
	}{
		"bytes":     {func(*proof.Collected) {}, custodianKey, append(bytes.Clone(object), 1), 409},
		"cut short": {func(*proof.Collected) {}, custodianKey, object[:len(object)-1], 409},
		"other key": {func(*proof.Collected) {}, approvalKey, object, 422},
		"request":   {func(c *proof.Collected) { c.Request = "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10" }, custodianKey, object, 409},
		"sealed":    {func(c *proof.Collected) { c.Sealed = true }, custodianKey, object, 409},
		"objects":   {func(c *proof.Collected) { c.Objects = 5 }, custodianKey, object, 409},
		"size":      {func(c *proof.Collected) { c.Size = maxPackage + 1 }, custodianKey, object, 409},
	} {
		report := reportOf(id, object, w.now())
		x.change(&report)
		text, err := proof.SignCollected(report, x.key)
		if err != nil {
			t.Fatal(name, err)
		}
		a := d.do("PUT", d.private+"/v1/custody/requests/"+id+"/package", x.body, "X-Scopes", "custody", "X-Octroi-Report", text)
		if a.status != x.status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if q := w.row(t, id); q.Step != collecting || q.Package != nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("something is left:", files, err)
	}
	text, err := proof.SignCollected(reportOf(id, object, w.now()), custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is a repeat after a crash
		d.do("PUT", d.private+"/v1/custody/requests/"+id+"/package", object, "X-Scopes", "custody", "X-Octroi-Report", text).want(t, 204)
	}
}

// Packages are sealed: whoever has the folder, without the slot file, reads nothing; a changed byte is found, before anything is taken for opened.
func TestPackageIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, object := w.collected(t)
	object = largePackage(t, object)
	text, err := proof.SignCollected(reportOf(id, object, w.now()), custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.receive(t.Context(), id, text, bytes.NewReader(object)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.o.Packages, id+".package")
	sealed, err := os.ReadFile(path)
	if err != nil || bytes.Contains(sealed, []byte("shop.example")) || bytes.Contains(sealed, []byte("PK\x05\x06")) {
		t.Fatal("the file is readable", err)
	}
	spoiled := bytes.Clone(sealed)
	spoiled[len(spoiled)-40] ^= 1
	if err := os.WriteFile(path, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.openPackage(t.Context(), id, person, "html"); err == nil || !w.row(t, id).Package.Opened.IsZero() {
		t.Fatal("a damaged package was opened")
	}
	if err := os.WriteFile(path, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := w.openPackage(t.Context(), id, person, "zip")
	if err != nil {
		t.Fatal(err)
	}
	var read bytes.Buffer
	if _, err := read.ReadFrom(f); err != nil || !bytes.Equal(read.Bytes(), object) {
		t.Fatal("other bytes came out", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// largePackage makes a package that takes several parts.
func largePackage(t *testing.T, object []byte) []byte {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	for _, f := range from.File {
		if f.Name == access.EventsFile {
			w, err := to.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(bytes.Repeat([]byte("0123456789abcdef"), 3<<16)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := to.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The person's own key leads to the person: it stands where it ends with the request.
func TestRecipientIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	recipient := w.keys.Recipients["recovery"]
	q, _, err := w.submit(t.Context(), submission{
		right: proof.Access, origin: proof.ByPerson, actor: person, subject: s, recipient: recipient, proven: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if j, err := w.jobOf(q); err != nil || j.Recipient != recipient {
		t.Error(j, err)
	}
	err = w.state.View(func(v reader) error {
		return v.Scan([]byte("q/"), func(key, value []byte) error {
			if strings.Contains(string(value), recipient) {
				t.Errorf("it is to be read under %.12q", key)
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// What nobody opens ends after its time, and what a broken transfer left as well.
func TestPackageEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, object := w.collected(t)
	text, err := proof.SignCollected(reportOf(id, object, w.now()), custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.receive(t.Context(), id, text, bytes.NewReader(object)); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(w.o.Packages, id+".partial")
	if err := os.WriteFile(partial, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(partial, old, old); err != nil {
		t.Fatal(err)
	}
	w.forward(7 * 24 * time.Hour)
	if _, err := w.openPackage(t.Context(), id, person, ""); err == nil {
		t.Error("it opens after its time")
	}
	w.KeepHouse(t.Context())
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("something is left:", files, err)
	}
}

// An erasure goes before an access of the same person that has no package yet.
func TestErasureEndsAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	w.pages(t, s, 1, "a")
	id := w.ask(t, proof.Access, s).ID
	w.ask(t, proof.Erasure, s)
	w.Pass(t.Context())
	w.ship(t)
	w.Pass(t.Context())
	w.Pass(t.Context())
	if q := w.row(t, id); q.State != Cancelled || q.Reason != "erased" {
		t.Errorf("%s %s", q.State, q.Reason)
	}
}

// Two custodians send a package of one request at once: the second is refused, and what the first sent opens.
func TestTwoPackagesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, object := w.collected(t)
	send := func(body io.Reader) error {
		text, err := proof.SignCollected(reportOf(id, object, w.now()), custodianKey)
		if err != nil {
			return err
		}
		return w.receive(t.Context(), id, text, body)
	}
	slow, line := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- send(slow) }()
	if _, err := line.Write(object[:10]); err != nil {
		t.Fatal(err)
	}
	if err := send(bytes.NewReader(object)); !errors.Is(err, ErrReport) {
		t.Error("a second transfer beside the first:", err)
	}
	_, err := line.Write(object[10:])
	if err = errors.Join(err, line.Close(), <-first); err != nil {
		t.Fatal(err)
	}
	opened, err := w.openPackage(t.Context(), id, person, "zip")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(opened)
	if err := errors.Join(err, opened.Close()); err != nil || !bytes.Equal(text, object) {
		t.Error("it opens as something else", err)
	}
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("something is left:", files, err)
	}
}

// A package that arrives when its request has ended meanwhile is not kept.
func TestPackageComesTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, object := w.collected(t)
	text, err := proof.SignCollected(reportOf(id, object, w.now()), custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	late := readerFunc(func(b []byte) (int, error) {
		if _, err := w.decide(t.Context(), id, Cancel, person, Decision{}); err != nil && !errors.Is(err, ErrTransition) {
			return 0, err
		}
		n := copy(b, object)
		if object = object[n:]; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	})
	if err := w.receive(t.Context(), id, text, late); !errors.Is(err, ErrReport) {
		t.Error(err)
	}
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("something is left:", files, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
