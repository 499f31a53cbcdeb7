package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// offering is a gateway that has work, and takes packages.
type offering struct {
	sweep.Gateway
	work proof.Work
	took string
}

func (g *offering) Work(context.Context) (proof.Work, error) { return g.work, nil }

func (g *offering) Package(_ context.Context, _, _ string, body io.ReadSeeker, _ int64) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(body)
	g.took = string(text)
	return err
}

func accessItem(t *testing.T, request string, key ed25519.PrivateKey) proof.Item {
	t.Helper()
	j := theJob()
	j.Request, j.Right, j.Purposes = request, proof.Access, nil
	item := proof.Item{Job: j, Stage: proof.StageCollect}
	if key != nil {
		var err error
		if item.Approval, err = proof.Approve(j, key); err != nil {
			t.Fatal(err)
		}
	}
	return item
}

// Only accesses are carried out, and nothing is purged, cut or deleted beside them.
func TestOnlyAccess(t *testing.T) {
	const other = "9a6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"
	g := &offering{work: proof.Work{
		Items:   []proof.Item{{Job: theJob(), Stage: proof.StageRewrite}, accessItem(t, theRequest, nil), accessItem(t, other, nil)},
		Batches: []proof.WorkBatch{{ID: "a", Stage: proof.BatchPurge}, {ID: "b", Stage: proof.BatchRewrite}},
		Notices: []proof.OldNotice{{}}, Journal: []proof.OldJournal{{}},
	}}
	work, err := (&onlyAccess{Gateway: g}).Work(t.Context())
	if err != nil || len(work.Items) != 2 || len(work.Notices)+len(work.Journal) != 0 || work.Batches[0].Stage != proof.BatchDone {
		t.Errorf("%+v, %v", work, err)
	}
}

// A copy is kept only of what the officer approved by signature, in a file of its owner's, and the gateway gets the package all the same.
func TestCopyOfPackage(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := accessItem(t, theRequest, key)
	forged.Job.Recipient = "age1" + strings.Repeat("q", 58) // another job than the one that was approved
	for _, c := range []struct {
		name  string
		items []proof.Item
		why   string
	}{
		{"approved", []proof.Item{accessItem(t, theRequest, key)}, ""},
		{"by the person alone", []proof.Item{accessItem(t, theRequest, nil)}, "not approved by signature"},
		{"by a stranger", []proof.Item{accessItem(t, theRequest, stranger)}, "not approved by signature"},
		{"of another job", []proof.Item{forged}, "not approved by signature"},
		{"not offered", nil, "does not offer"},
	} {
		out := filepath.Join(t.TempDir(), "package.zip")
		g := &offering{work: proof.Work{Items: c.items}}
		only := &onlyAccess{Gateway: g, request: theRequest, out: out, approval: public}
		work, err := only.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range work.Items {
			if err := only.Package(t.Context(), item.Job.Request, "report", strings.NewReader("zip"), 3); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if c.why != "" {
			if err := only.kept(); !errors.Is(err, errLeft) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v", c.name, err)
			}
			if _, err := os.Stat(out); err == nil || g.took != "" {
				t.Errorf("%s: a package was made", c.name)
			}
			continue
		}
		text, err := os.ReadFile(out)
		if about, err2 := os.Stat(out); err != nil || err2 != nil || string(text) != "zip" || about.Mode().Perm() != 0o600 || g.took != "zip" || only.kept() != nil {
			t.Errorf("%s: %q, %v, uploaded %q", c.name, text, errors.Join(err, err2), g.took)
		}
	}
}

// A copy never overwrites, and half of one is not left.
func TestCopyTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "package.zip")
	if err := copyTo(path, strings.NewReader("short"), 10); err == nil {
		t.Error("half a package was kept")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a package was left behind")
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyTo(path, strings.NewReader("zip"), 3); err == nil {
		t.Error("it was overwritten")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}
