package proof_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"pgregory.net/rapid"
)

func TestLeaf(t *testing.T) {
	for _, leaf := range steps() {
		o, err := proof.NewLeaf(leaf)
		if err != nil {
			t.Fatal(err)
		}
		back, err := proof.ParseLeaf(o.Core)
		if err != nil {
			t.Fatal(err)
		}
		leaf.Kind, leaf.Version = proof.LeafKind, 1
		if marshal(t, back) != marshal(t, leaf) || len(o.Strippable) != 0 || o.Stripped() {
			t.Errorf("made %+v, read %+v", leaf, back)
		}
		again, err := proof.NewLeaf(leaf)
		if err != nil || again.Salt == o.Salt || again.StrippableSalt == o.StrippableSalt || again.Leaf() == o.Leaf() {
			t.Errorf("the salts are not fresh: %v", err)
		}
	}
	late := steps()[4]
	late.Time = time.Date(2026, 11, 21, 19, 0, 0, 1999999, time.FixedZone("CET", 3600))
	o, err := proof.NewLeaf(late)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := proof.ParseLeaf(o.Core); err != nil || !back.Time.Equal(at(0).Add(time.Millisecond)) {
		t.Errorf("%v, %v", back.Time, err)
	}
}

func TestLeafRefuses(t *testing.T) {
	for name, change := range map[string]func(*proof.Leaf){
		"request":            func(l *proof.Leaf) { l.Request = "x" },
		"right":              func(l *proof.Leaf) { l.Right = "" },
		"origin":             func(l *proof.Leaf) { l.Origin = "gateway" },
		"event":              func(l *proof.Leaf) { l.Event = "done" },
		"actor":              func(l *proof.Leaf) { l.Actor = "" },
		"actor's text":       func(l *proof.Leaf) { l.Actor = "a\nb" },
		"actor's encoding":   func(l *proof.Leaf) { l.Actor = "a\xff" },
		"long actor":         func(l *proof.Leaf) { l.Actor = strings.Repeat("a", 201) },
		"time":               func(l *proof.Leaf) { l.Time = time.Time{} },
		"due":                func(l *proof.Leaf) { l.Due = time.Unix(-1, 0) },
		"reason":             func(l *proof.Leaf) { l.Reason = "because he said so" },
		"destination":        func(l *proof.Leaf) { l.Destination = "../x" },
		"no destination":     func(l *proof.Leaf) { l.Destination = "" },
		"number":             func(l *proof.Leaf) { l.Number = 0 },
		"large number":       func(l *proof.Leaf) { l.Number = 1e12 },
		"hash":               func(l *proof.Leaf) { l.SHA256 = "x" },
		"count's name":       func(l *proof.Leaf) { l.Counts = map[string]int{"a@b.example": 1} },
		"count":              func(l *proof.Leaf) { l.Counts = map[string]int{"rows": -1} },
		"remains elsewhere":  func(l *proof.Leaf) { l.Remains = []proof.Exception{{What: proof.RemainsKeyCopies}} },
		"remains of no name": func(l *proof.Leaf) { l.Event, l.Remains = proof.EventSevered, []proof.Exception{{What: "x"}} },
		"remains unsorted": func(l *proof.Leaf) {
			l.Event, l.Remains = proof.EventSevered, []proof.Exception{{What: proof.RemainsKeyCopies}, {What: proof.RemainsConsentProofs}}
		},
	} {
		l := steps()[6]
		change(&l)
		if _, err := proof.NewLeaf(l); !errors.Is(err, proof.ErrStatement) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o, err := proof.NewLeaf(steps()[6])
	if err != nil {
		t.Fatal(err)
	}
	core := string(o.Core)
	for name, text := range map[string]string{
		"kind": strings.Replace(core, `"rights"`, `"intent"`, 1), "version": strings.Replace(core, `"v":1`, `"v":2`, 1), "white space": core + " ",
		"unknown member": `{"x":1,` + core[1:], "nothing": "", "long": core + strings.Repeat(" ", 16<<10), "precision": strings.Replace(core, `00Z`, `00.0001Z`, 1),
	} {
		if _, err := proof.ParseLeaf([]byte(text)); text == core || !errors.Is(err, proof.ErrStatement) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a gateway may log of a request is read back as it was written.
func TestLeafRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := proof.Leaf{
			Kind: proof.LeafKind, Version: 1, Request: request, Right: proof.Access, Origin: proof.ByPerson,
			Event: rapid.SampledFrom([]string{proof.EventReceived, proof.EventSevered, proof.EventConfirmed}).Draw(t, "event"),
			Actor: rapid.StringMatching(`[\p{L}<>&" ]{1,20}`).Draw(t, "actor"), Time: drawTime(t), Reason: rapid.StringMatching(`|[a-z][a-z0-9_]{0,9}`).Draw(t, "reason"),
			Destination: "warehouse", Number: rapid.Uint64Range(1, 1e12-1).Draw(t, "number"),
			Counts: rapid.MapOfN(rapid.StringMatching(`[a-z]{1,5}`), rapid.IntRange(0, 1e9), 0, 3).Draw(t, "counts"),
		}
		o, err := proof.NewLeaf(l)
		if err != nil {
			t.Fatal(err)
		}
		back, err := proof.ParseLeaf(o.Core)
		if err != nil || !back.Time.Equal(l.Time) || back.Actor != l.Actor || back.Number != l.Number || len(back.Counts) != len(l.Counts) {
			t.Fatalf("%+v, %v", back, err)
		}
	})
}

func drawTime(t *rapid.T) time.Time {
	return time.UnixMilli(rapid.Int64Range(1, 4e12).Draw(t, "time") + 1000).UTC()
}
