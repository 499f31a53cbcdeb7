package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
)

// attempt runs a program that must end with this exit code and say these words.
func attempt(t *testing.T, code int, words []string, program string, args ...string) {
	t.Helper()
	out, err := exec.Command(filepath.Join(binaries, program), args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("%s %s: %v, want exit code %d\n%s", program, args[0], err, code, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("%s %s does not say %q:\n%s", program, args[0], w, out)
		}
	}
}

// A bucket that keeps every object for longer than an erasure may take is of no use to anybody (GDPR Art. 12(3)): gateway and custodian say so before
// anything is put into it. One whose lock can be overruled is, to a custodian that may.
func TestObjectsWithLock(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	config := filepath.Join(e.dir, custodianDir, "custodian.yaml")
	e.s3.SetLock(e.s3.Bucket, export.Compliance, 60)
	words := []string{"keeps every object for 60 days (COMPLIANCE)", "must be gone in 28", "put-object-lock-configuration"}
	attempt(t, 1, words, "octroi", "serve", "--config", filepath.Join(e.dir, gatewayDir, "octroi.yaml"))
	attempt(t, 6, words, "octroi-custodian", "run", "--config", config)
	attempt(t, 6, words, "octroi-custodian", "sweep", "--config", config)
	if v := e.s3.Versions(""); len(v) > 0 {
		t.Errorf("%d objects were put all the same", len(v))
	}

	e.s3.SetLock(e.s3.Bucket, export.Governance, 1)
	s := sceneOf(e)
	s.erase()
	s.seen("rewriting")
	limited := s.s3.Limited("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucket",
		"s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning")
	s.unable("object lock keeps a version (locked)", s.custodianBy("limited", s.s3.Credentials, limited.Credentials))
	s.shows(s.requests[0], "locked")
	s.shows(s.requests[1], "locked")
	s.endsWell() // with credentials that may
}

// seen waits until both erasures wait for the custodian.
func (s *scene) seen(step string) {
	s.t.Helper()
	for _, id := range s.requests {
		for range 100 {
			if strings.Contains(s.shown(id), fmt.Sprintf(`"step":%q`, step)) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (s *scene) shown(id string) string {
	s.t.Helper()
	return string(s.ask(http.MethodGet, s.private+"/v1/rights/requests/"+id, s.officer, nil, http.StatusOK))
}

// shows fails unless an officer who looks at the request sees the code.
func (s *scene) shows(id, code string) {
	s.t.Helper()
	if text := s.shown(id); !strings.Contains(text, fmt.Sprintf(`"code":%q`, code)) {
		s.t.Errorf("the officer does not see %s: %s", code, text)
	}
}

// unable is a pass that does not do everything, and says why.
func (s *scene) unable(words, config string) {
	s.t.Helper()
	attempt(s.t, 4, []string{"not everything could be done", words}, "octroi-custodian", "sweep", "--quiet", "--config", config)
}

// What keeps the custodian from its work is told to who runs it and to the officer, with the next step; other requests go on; nothing is erased that
// was not asked for; and when the cause is mended, the request completes.
func TestCustodianTrouble(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.erase()
	s.seen("rewriting")
	before := s.batches()
	config := filepath.Join(s.dir, custodianDir, "custodian.yaml")
	sweep := func(code int, config string, words ...string) {
		t.Helper()
		attempt(t, code, words, "octroi-custodian", "sweep", "--quiet", "--config", config)
	}

	sweep(6, s.custodianBy("keyless", "identity: identity.txt", "identity: elsewhere.txt"), "elsewhere.txt", "give the file of the custodian's age identity (E)")
	s.tokenUntil("expired", collector.TokenClaims{Scopes: []string{"custody"}}, time.Now().Add(-time.Hour))
	sweep(6, s.custodianBy("expired", s.tokenFile("custody"), s.tokenFile("expired")), "refuses the custodian's token", "renew the token (octroi token, scope custody)")
	sweep(6, s.custodianBy("scopeless", s.tokenFile("custody"), s.tokenFile("till")), "refuses the custodian's token")
	other := filepath.Join(t.TempDir(), "other")
	run(t, "octroi", "init", "--dir", other, "--site", "shop", "--site-key", "demo", "--origin", "http://"+s.public)
	s.unable("the identity (E) does not open it (identity)", s.custodianBy("stranger", "identity: identity.txt", "identity: "+filepath.Join(other, custodianDir, "identity.txt")))
	s.shows(s.requests[0], "identity")
	s.shows(s.requests[1], "identity")
	s.site.kill()
	sweep(3, config, "gateway is not reachable")
	s.start()
	s.s3.Stop()
	sweep(3, config, "object store")
	s.s3.Restart()
	if now := s.batches(); !reflect.DeepEqual(now, before) {
		t.Errorf("something was changed by a custodian that could not work:\n%v\n%v", now, before)
	}
	s.strangersInStore(config)
	s.endsWell()
}

// strangersInStore deletes the object of the browser's rows and puts another over that of the customer's: the customer's request goes on, since what is
// signed is a version; the browser's waits until somebody restores the object.
func (s *scene) strangersInStore(config string) {
	s.t.Helper()
	object := func(destination string) export.ObjectVersion {
		for _, v := range s.s3.Versions(destination + "/events/") {
			if v.Current {
				return v
			}
		}
		s.t.Fatalf("%s has no object", destination)
		return export.ObjectVersion{}
	}
	gone, covered := object("warehouse"), object("accounting")
	text := s.object(gone.Key, gone.Version)
	s.s3.Delete(gone.Key, gone.Version)
	s.s3.Overwrite(covered.Key, "what a stranger put there")
	s.unable("the object is not in the store (gone)", config)
	s.shows(s.requests[0], "gone")
	s.carryOut(s.requests[1])
	if state := s.state(s.requests[0]); state != "in_progress" {
		s.t.Errorf("the object of a request is gone, and it is %s", state)
	}
	s.s3.Overwrite(gone.Key, "not what was there")
	s.unable("the object's bytes are not those of its entry (hash)", config)
	s.shows(s.requests[0], "hash")
	s.s3.Overwrite(gone.Key, string(text))
}

// batches are all versions of the objects of batches.
func (e *estate) batches() (all []export.ObjectVersion) {
	e.t.Helper()
	for _, d := range destinations {
		all = append(all, e.s3.Versions(d+"/events/")...)
	}
	return all
}

// Two custodians with a state each do the work of one, whichever of them is faster at what: nothing is done twice, and nothing is left between them.
func TestTwoCustodiansAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	persons := []map[string]string{anna}
	for i := range 3 {
		persons = append(persons, map[string]string{"loyalty": fmt.Sprintf("CANARY-CARD-%d", i+2)})
		for j := range 2 { // in batches of their own, some of them
			s.sell(fmt.Sprintf("canary-sale-%d-%d", i, j), "canary-product", persons[i+1], time.Now())
		}
		s.remember(8 + 2*i)
	}
	end := s.twoCustodians()
	s.requests = append(s.requests, s.mine("erasure").ID)
	for _, p := range persons {
		s.requests = append(s.requests, s.ofPerson("erasure", p).ID)
	}
	for began := time.Now(); !s.completed(); s.load() {
		if time.Since(began) > 60*time.Second {
			t.Fatal("the erasures are not completed")
		}
		time.Sleep(200 * time.Millisecond)
	}
	end()
	for _, d := range destinations {
		for _, needle := range append(pseudonyms(s.before[d]), canaries...) {
			for _, name := range []string{"first", "second"} {
				if log, err := os.ReadFile(filepath.Join(s.dir, name+".log")); err != nil || strings.Contains(string(log), needle) {
					t.Errorf("the log of the %s custodian holds %q (%v)", name, needle, err)
				}
			}
		}
	}
	s.endsWell()
	for _, v := range s.s3.Versions("octroi-check/") {
		if v.Key != "octroi-check/write" {
			t.Errorf("%s is left", v.Key)
		}
	}
}

// twoCustodians starts both; end asks them to stop.
func (s *scene) twoCustodians() (end func()) {
	s.t.Helper()
	var all []*exec.Cmd
	for _, name := range []string{"first", "second"} {
		config := s.custodianBy(name, "state: state", "state: state-of-"+name, "poll: 5s", "poll: 100ms")
		log, err := os.Create(filepath.Join(s.dir, name+".log"))
		if err != nil {
			s.t.Fatal(err)
		}
		defer log.Close()
		cmd := exec.Command(filepath.Join(binaries, "octroi-custodian"), "run", "--config", config)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = cmd.Process.Kill() })
		all = append(all, cmd)
	}
	return func() {
		s.t.Helper()
		for _, cmd := range all {
			if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
				s.t.Errorf("stopping a custodian: %v", err)
			}
		}
	}
}
