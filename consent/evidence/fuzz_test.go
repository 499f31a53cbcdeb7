package evidence_test

import (
	"bytes"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
)

// What is read is written again byte for byte: there is one spelling.

func FuzzParseCheckpoint(f *testing.F) {
	f.Add("octroi.example/node-1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	f.Add("octroi.example/node-1\n007\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	f.Add("a\n9223372036854775807\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\nextension\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := evidence.ParseCheckpoint(text); err == nil && c.Text() != text {
			t.Fatalf("%q is read and written as %q", text, c.Text())
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer := newSigner(f)
	for _, size := range []int64{0, 1, 1 << 20} {
		signed, err := signer.SignCheckpoint(size, [32]byte{1})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	f.Fuzz(func(t *testing.T, signed string) {
		c, err := signer.Verifier().Open(signed)
		if err != nil {
			return
		}
		if again, err := signer.SignCheckpoint(c.Size, c.Root); err != nil || again != signed {
			t.Fatalf("%q opens and is signed as %q (%v)", signed, again, err)
		}
	})
}

func FuzzParseOpening(f *testing.F) {
	for i := range 6 {
		line, err := evidence.WriteOpening(int64(i), opening(i))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"index":-1,"salt":null,"core":"","strippable_hash":""}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		index, o, err := evidence.ParseOpening(line)
		if err != nil {
			return
		}
		if again, err := evidence.WriteOpening(index, o); err != nil || !bytes.Equal(again, line) {
			t.Fatalf("%q is read and written as %q (%v)", line, again, err)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	log := newLog(f, 3)
	f.Add(evidence.AppendBundle(nil, log.leaves), 3)
	f.Add(evidence.AppendBundle(nil, log.leaves[:1]), 1)
	f.Add([]byte{0, 33}, 1)
	f.Fuzz(func(t *testing.T, bundle []byte, width int) {
		leaves, err := evidence.ParseBundle(bundle, width)
		if err == nil && !bytes.Equal(evidence.AppendBundle(nil, leaves), bundle) {
			t.Fatal("a bundle is read and written otherwise")
		}
	})
}
