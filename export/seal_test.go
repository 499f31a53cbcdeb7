package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type keyPair struct{ identity, recipient string }

func pairs(t testing.TB, class string, n int) (all []keyPair) {
	t.Helper()
	for range n {
		identity, recipient, err := NewIdentity(class)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, keyPair{identity, recipient})
	}
	return all
}

func sealText(t testing.TB, r Recipients, text string) []byte {
	t.Helper()
	var sealed bytes.Buffer
	w, err := Seal(&sealed, r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes()
}

func unsealText(sealed []byte, identityFile string) (string, error) {
	ids, err := ParseIdentities([]byte(identityFile))
	if err != nil {
		return "", err
	}
	r, err := Unseal(bytes.NewReader(sealed), ids)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// Each of W, E and R opens a batch; nobody else does; a changed or cut file opens to nobody.
func TestSealedForThree(t *testing.T) {
	for _, class := range []string{ClassX25519, ClassHybrid} {
		t.Run(class, func(t *testing.T) {
			keys := pairs(t, class, 4)
			r, err := ParseRecipients(keys[0].recipient, " "+keys[1].recipient+"\n", keys[2].recipient)
			if err != nil {
				t.Fatal(err)
			}
			if r.Class != class || len(r.Names) != 3 || r.Names[0] != keys[0].recipient || r.Names[1] != keys[1].recipient {
				t.Errorf("got %q of class %s", r.Names, r.Class)
			}
			text := strings.Repeat("a consented event ", 10_000)
			sealed := sealText(t, r, text)
			for i, k := range keys[:3] {
				file := "# created: today\n\n" + keys[3].identity + "\n  " + k.identity + "\r\n"
				if got, err := unsealText(sealed, file); got != text || err != nil {
					t.Errorf("recipient %d: %d bytes, %v", i, len(got), err)
				}
			}
			if _, err := unsealText(sealed, keys[3].identity); !errors.Is(err, ErrIdentity) {
				t.Errorf("a stranger: %v", err)
			}
			for _, at := range []int{0, 30, len(sealed) / 2, len(sealed) - 1} {
				damaged := bytes.Clone(sealed)
				damaged[at] ^= 1
				if _, err := unsealText(damaged, keys[0].identity); err == nil {
					t.Errorf("byte %d may be changed", at)
				}
			}
			for _, n := range []int{0, 10, len(sealed) - 1, len(sealed) - 65_552} {
				if _, err := unsealText(sealed[:n], keys[0].identity); !errors.Is(err, ErrSeal) {
					t.Errorf("cut at %d: %v", n, err)
				}
			}
		})
	}
}

func TestRecipientsAreOfOneClass(t *testing.T) {
	x, h := pairs(t, ClassX25519, 3), pairs(t, ClassHybrid, 3)
	for _, c := range []struct{ w, e, r, says string }{
		{x[0].recipient, x[1].recipient, h[0].recipient, "recovery key (R): age recipient is not usable: it is of class hybrid, the destination's is X25519"},
		{x[0].recipient, h[1].recipient, x[2].recipient, "custodian (E): age recipient is not usable: it is of class hybrid"},
		{h[0].recipient, x[1].recipient, h[2].recipient, "custodian (E): age recipient is not usable: it is of class X25519"},
		{x[0].recipient, x[0].recipient, x[2].recipient, "custodian (E): age recipient is not usable: it is given twice"},
		{"", x[1].recipient, x[2].recipient, "destination (W): age recipient is not usable: it is missing"},
		{x[0].recipient, x[1].recipient, "age1nonsense", "expected age1"},
		{x[0].recipient, "ssh-ed25519 AAAA", x[2].recipient, "expected age1"},
		{x[0].recipient, x[1].identity, x[2].recipient, "which is secret"},
		{x[0].recipient, strings.ToLower(h[1].identity), x[2].recipient, "which is secret"},
	} {
		_, err := ParseRecipients(c.w, c.e, c.r)
		if !errors.Is(err, ErrRecipient) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %q", err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("the error holds an identity: %v", err)
		}
	}
	if _, err := Seal(io.Discard, Recipients{}); !errors.Is(err, ErrRecipient) {
		t.Errorf("sealing to nobody: %v", err)
	}
}

func TestIdentityFiles(t *testing.T) {
	good := pairs(t, ClassX25519, 1)[0].identity
	for name, text := range map[string]string{
		"empty":        "",
		"comments":     "# nothing\n",
		"one bad line": good + "\n" + good[:40] + "\n",
		"public key":   pairs(t, ClassX25519, 1)[0].recipient,
		"lower case":   "x" + good,
		"long line":    strings.Repeat("A", 1<<20),
	} {
		_, err := ParseIdentities([]byte(text))
		if err == nil || strings.Contains(err.Error(), "AGE-SECRET-KEY-1"+good[16:24]) || strings.Contains(err.Error(), good[20:40]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ids, err := ParseIdentities([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, ids); got != "[identities]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	if _, _, err := NewIdentity("rsa"); err == nil {
		t.Error("made an identity of an unknown class")
	}
	if _, err := Unseal(strings.NewReader(""), Identities{}); !errors.Is(err, ErrIdentity) {
		t.Errorf("opening with nothing: %v", err)
	}
}

func TestSealProperty(t *testing.T) {
	keys := pairs(t, ClassX25519, 3)
	r, err := ParseRecipients(keys[0].recipient, keys[1].recipient, keys[2].recipient)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 200_000).Draw(rt, "text"))
		if got, err := unsealText(sealText(t, r, text), keys[1].identity); got != text || err != nil {
			rt.Fatalf("%d bytes of %d, %v", len(got), len(text), err)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	keys := pairs(f, ClassX25519, 3)
	r, err := ParseRecipients(keys[0].recipient, keys[1].recipient, keys[2].recipient)
	if err != nil {
		f.Fatal(err)
	}
	whole := sealText(f, r, "text")
	f.Add(whole)
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if text, err := unsealText(sealed, keys[0].identity); err == nil && !bytes.Equal(sealed, whole) {
			t.Fatalf("opened what was never sealed: %q", text)
		}
	})
}
