package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The leaf format is fixed by these vectors, made with Python's hashlib: a change is a new version, not a mend.
func TestLeafVectors(t *testing.T) {
	salt := [16]byte{0: 1, 15: 2}
	other := [16]byte{0: 3, 15: 4}
	for _, c := range []struct {
		name string
		o    evidence.Opening
		want string
	}{
		{"zero", evidence.Opening{}, vectorZero},
		{"core and strippable", evidence.Opening{Salt: salt, Core: []byte(`{"a":1}`), StrippableSalt: other, Strippable: []byte(`{"b":2}`)}, vectorBoth},
		{"no strippable part", evidence.Opening{Salt: salt, Core: []byte(`{"a":1}`), StrippableSalt: other}, vectorCore},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.o.Leaf().String(); got != c.want {
				t.Errorf("leaf %s, want %s", got, c.want)
			}
		})
	}
}

func drawOpening(t *rapid.T) evidence.Opening {
	var o evidence.Opening
	copy(o.Salt[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt"))
	copy(o.StrippableSalt[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "strippable salt"))
	o.Core = rapid.SliceOf(rapid.Byte()).Draw(t, "core")
	o.Strippable = rapid.SliceOf(rapid.Byte()).Draw(t, "strippable")
	if rapid.Bool().Draw(t, "stripped") {
		o = o.Strip()
	}
	return o
}

func TestStripKeepsTheLeafAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOpening(t)
		stripped := o.Strip()
		if stripped.Leaf() != o.Leaf() {
			t.Fatal("stripping changed the leaf")
		}
		if stripped.Strippable != nil || stripped.StrippableSalt != [16]byte{} || !stripped.Stripped() {
			t.Fatal("something of the strippable part is left")
		}
		if !reflect.DeepEqual(stripped.Strip(), stripped) {
			t.Fatal("stripping twice changed something")
		}
	})
}

func TestEveryPartOfAnOpeningChangesTheLeaf(t *testing.T) {
	o := evidence.Opening{Core: []byte("core"), Strippable: []byte("strippable")}
	seen := map[evidence.Leaf]string{o.Leaf(): "unchanged"}
	for name, change := range map[string]func(*evidence.Opening){
		"salt":            func(o *evidence.Opening) { o.Salt[7]++ },
		"core":            func(o *evidence.Opening) { o.Core = []byte("cora") },
		"longer core":     func(o *evidence.Opening) { o.Core = []byte("core\x00") },
		"strippable salt": func(o *evidence.Opening) { o.StrippableSalt[7]++ },
		"strippable":      func(o *evidence.Opening) { o.Strippable = []byte("strippablf") },
		"moved border":    func(o *evidence.Opening) { o.Core, o.Strippable = []byte("cores"), []byte("trippable") },
		"other hash":      func(o *evidence.Opening) { o.StrippableHash[3]++ },
	} {
		changed := o
		change(&changed)
		if twin, ok := seen[changed.Leaf()]; ok {
			t.Errorf("%s: the same leaf as %s", name, twin)
		}
		seen[changed.Leaf()] = name
	}
}

func TestOpeningJSONHasOneSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOpening(t)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var back evidence.Opening
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if back.Leaf() != o.Leaf() || back.Stripped() != o.Stripped() || !bytes.Equal(back.Core, o.Core) {
			t.Fatal("another opening came back")
		}
		i := rapid.IntRange(0, len(text)-1).Draw(t, "byte")
		flipped := bytes.Clone(text)
		flipped[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if json.Unmarshal(flipped, &back) == nil && back.Leaf() == o.Leaf() {
			t.Fatalf("a flip of byte %d is not seen", i)
		}
	})
}

func TestOpeningJSONRefuses(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, text := range map[string]string{
		"unknown member":     `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":"","x":1}`,
		"repeated member":    `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"other order":        `{"core":"","salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"other case":         `{"Salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"padding bits":       `{"salt":"AAAAAAAAAAAAAAAAAAAAAB==","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"short salt":         `{"salt":"AAAA","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"neither part":       `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":""}`,
		"both parts":         `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":"","strippable_hash":"` + hash + `"}`,
		"zero hash":          `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"","strippable_hash":"` + hash + `"}`,
		"null core":          `{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":null,"strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""}`,
		"not an object":      `[]`,
		"number for a bytes": `{"salt":1}`,
	} {
		var o evidence.Opening
		if err := json.Unmarshal([]byte(text), &o); !errors.Is(err, evidence.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

// C10: proofs verify with an independent implementation.
func TestInclusionByTransparencyDev(t *testing.T) {
	log := newLog(t, 257)
	verifier := newSigner(t).Verifier()
	for _, size := range []int64{1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 127, 256, 257} {
		signed := log.checkpoint(t, size)
		head, err := verifier.Open(signed)
		if err != nil {
			t.Fatal(err)
		}
		for index := range size {
			hashes, err := tlog.ProveRecord(size, index, log)
			if err != nil {
				t.Fatal(err)
			}
			leaf := log.leaves[index]
			leafHash := rfc6962.DefaultHasher.HashLeaf(leaf[:])
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), leafHash, asBytes(hashes), head.Root[:]); err != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			p := evidence.Proof{Index: index, Size: size, Hashes: hashes, Checkpoint: signed}
			if _, err := p.Verify(leaf, verifier); err != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			if _, err := p.Verify(evidence.Leaf{}, verifier); !errors.Is(err, evidence.ErrProof) {
				t.Fatalf("another leaf at %d of %d: %v", index, size, err)
			}
		}
	}
}

func TestConsistencyByTransparencyDev(t *testing.T) {
	log := newLog(t, 70)
	head := func(size int64) evidence.Checkpoint {
		root, err := tlog.TreeHash(size, log)
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Checkpoint{Origin: origin, Size: size, Root: root}
	}
	for newer := int64(0); newer <= 70; newer++ {
		for older := int64(0); older <= newer; older++ {
			var hashes []tlog.Hash
			if older > 0 {
				var err error
				if hashes, err = tlog.ProveTree(newer, older, log); err != nil {
					t.Fatal(err)
				}
				o, n := head(older), head(newer)
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older), uint64(newer), asBytes(hashes), o.Root[:], n.Root[:]); err != nil {
					t.Fatalf("%d in %d: %v", older, newer, err)
				}
			}
			if err := evidence.VerifyConsistency(head(older), head(newer), hashes); err != nil {
				t.Fatalf("%d in %d: %v", older, newer, err)
			}
			forged := head(older)
			forged.Root[5]++
			if err := evidence.VerifyConsistency(forged, head(newer), hashes); !errors.Is(err, evidence.ErrProof) {
				t.Fatalf("forged %d in %d: %v", older, newer, err)
			}
			if err := evidence.VerifyConsistency(head(older), head(newer), append(hashes, tlog.Hash{})); !errors.Is(err, evidence.ErrProof) {
				t.Fatalf("longer proof of %d in %d: %v", older, newer, err)
			}
		}
	}
	if err := evidence.VerifyConsistency(head(5), head(4), nil); !errors.Is(err, evidence.ErrProof) {
		t.Errorf("shrunken log: %v", err)
	}
	other := head(5)
	other.Origin = "octroi.example/node-2"
	if err := evidence.VerifyConsistency(other, head(5), nil); !errors.Is(err, evidence.ErrProof) {
		t.Errorf("another log: %v", err)
	}
}

func TestProofFindsEveryChange(t *testing.T) {
	log := newLog(t, 13)
	verifier := newSigner(t).Verifier()
	hashes, err := tlog.ProveRecord(13, 5, log)
	if err != nil {
		t.Fatal(err)
	}
	good := evidence.Proof{Index: 5, Size: 13, Hashes: hashes, Checkpoint: log.checkpoint(t, 13)}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		for bit := i % 2; bit < 8; bit += 2 {
			flipped := bytes.Clone(text)
			flipped[i] ^= 1 << bit
			var p evidence.Proof
			if json.Unmarshal(flipped, &p) != nil {
				continue
			}
			if _, err := p.Verify(log.leaves[5], verifier); err == nil {
				t.Fatalf("a flip of bit %d of byte %d (%q) is not seen", bit, i, text[i])
			}
		}
	}
	for name, p := range map[string]evidence.Proof{
		"negative index": {Index: -1, Size: 13, Hashes: hashes, Checkpoint: good.Checkpoint},
		"beyond":         {Index: 13, Size: 13, Hashes: hashes, Checkpoint: good.Checkpoint},
		"other index":    {Index: 4, Size: 13, Hashes: hashes, Checkpoint: good.Checkpoint},
		"other size":     {Index: 5, Size: 12, Hashes: hashes, Checkpoint: good.Checkpoint},
		"shorter":        {Index: 5, Size: 13, Hashes: hashes[1:], Checkpoint: good.Checkpoint},
		"longer":         {Index: 5, Size: 13, Hashes: append(hashes, tlog.Hash{}), Checkpoint: good.Checkpoint},
	} {
		if _, err := p.Verify(log.leaves[5], verifier); !errors.Is(err, evidence.ErrProof) {
			t.Errorf("%s: %v, want ErrProof", name, err)
		}
	}
}

func TestProofJSONOfOneLeaf(t *testing.T) {
	text, err := json.Marshal(evidence.Proof{Size: 1, Checkpoint: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"index":0,"size":1,"hashes":[],"checkpoint":"c"}`; string(text) != want {
		t.Fatalf("%s, want %s", text, want)
	}
	var p evidence.Proof
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
}

func TestCheckpoint(t *testing.T) {
	signer := newSigner(t)
	root := [32]byte{31: 9}
	signed, err := signer.SignCheckpoint(20852163, root)
	if err != nil {
		t.Fatal(err)
	}
	// C2SP tlog-checkpoint: three lines, a blank one, the signature line with the origin as key name.
	if want := origin + "\n20852163\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n\n— " + origin + " "; !strings.HasPrefix(signed, want) {
		t.Fatalf("checkpoint %q", signed)
	}
	head, err := signer.Verifier().Open(signed)
	if err != nil {
		t.Fatal(err)
	}
	if want := (evidence.Checkpoint{Origin: origin, Size: 20852163, Root: root}); head != want {
		t.Fatalf("opened %v, want %v", head, want)
	}
	for i := range signed {
		for bit := range 8 {
			flipped := []byte(signed)
			flipped[i] ^= 1 << bit
			if _, err := signer.Verifier().Open(string(flipped)); err == nil {
				t.Fatalf("a flip of bit %d of byte %d is not seen", bit, i)
			}
		}
		if _, err := signer.Verifier().Open(signed[:i] + signed[i+1:]); err == nil {
			t.Fatalf("the loss of byte %d is not seen", i)
		}
	}
}

func TestCheckpointOfAnother(t *testing.T) {
	signer := newSigner(t)
	signed, err := signer.SignCheckpoint(3, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := evidence.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	otherName, err := evidence.NewSigner("octroi.example/node-2", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := signer.Sign(evidence.Checkpoint{Origin: "octroi.example/node-2", Size: 3}.Text())
	if err != nil {
		t.Fatal(err)
	}
	line := signed[strings.Index(signed, "— "):]
	witness := "— witness.example " + base64.StdEncoding.EncodeToString(make([]byte, 68)) + "\n"
	for name, c := range map[string]struct {
		v    *evidence.Verifier
		note string
	}{
		"another key":        {otherKey.Verifier(), signed},
		"another name":       {otherName.Verifier(), signed},
		"another log's head": {signer.Verifier(), foreign},
		"signed twice":       {signer.Verifier(), signed + line},
		"cosigned":           {signer.Verifier(), signed + witness},
		"nothing":            {signer.Verifier(), ""},
		"huge":               {signer.Verifier(), signed + strings.Repeat(witness, 60)},
	} {
		if _, err := c.v.Open(c.note); !errors.Is(err, evidence.ErrSignature) && !errors.Is(err, evidence.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	for _, name := range []string{"", "a b", "a+b", "a\nb", "\xff"} {
		if _, err := evidence.NewSigner(name, key); !errors.Is(err, evidence.ErrOrigin) {
			t.Errorf("origin %q: %v, want ErrOrigin", name, err)
		}
	}
	if _, err := evidence.NewSigner(origin, key[:31]); !errors.Is(err, evidence.ErrLogKey) {
		t.Errorf("short key: %v, want ErrLogKey", err)
	}
	if _, err := evidence.NewVerifier(origin, nil); !errors.Is(err, evidence.ErrLogKey) {
		t.Errorf("no key: %v, want ErrLogKey", err)
	}
	if _, err := newSigner(t).SignCheckpoint(-1, [32]byte{}); !errors.Is(err, evidence.ErrFormat) {
		t.Errorf("negative size: %v, want ErrFormat", err)
	}
}

func TestFrontier(t *testing.T) {
	log := newLog(t, 0)
	for size := range int64(600) {
		root, err := tlog.TreeHash(size, log)
		if err != nil {
			t.Fatal(err)
		}
		f, err := evidence.NewFrontier(size, log)
		if err != nil {
			t.Fatal(err)
		}
		if log.frontier.Root() != root || f.Root() != root || f.Size() != size {
			t.Fatalf("size %d: another root", size)
		}
		clone := f.Clone()
		clone.Append(evidence.Leaf{1}, nil)
		if f.Root() != root {
			t.Fatal("a clone shares with its original")
		}
		log.append(t, opening(int(size)))
	}
}

func asBytes(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

func BenchmarkAppend(b *testing.B) {
	var f evidence.Frontier
	for b.Loop() {
		f.Append(evidence.Leaf{}, nil)
	}
}
