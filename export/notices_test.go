package export

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/octroi/octroi/policies"
	"pgregory.net/rapid"
)

func anyNotice(r *rapid.T) Notice {
	hexes := rapid.SliceOfN(rapid.StringMatching(`[0-9a-f]{32}`), 1, 3)
	n := Notice{Version: 1, Batches: rapid.SliceOfN(rapid.StringMatching(`[0-9a-f]{32}`), 1, 5).Draw(r, "batches")}
	if rapid.Bool().Draw(r, "device") {
		n.Devices = hexes.Draw(r, "devices")
	} else {
		n.Persons = hexes.Draw(r, "persons")
	}
	if rapid.Bool().Draw(r, "withdraw") {
		n.Purposes = []string{"audience"}
		n.Rules = PurposeRules{"service": {"order": policies.Keep, "url": rapid.SampledFrom([]policies.Treatment{policies.Drop, policies.URLPath}).Draw(r, "url")}}
	}
	return n
}

// testRecipients are those of a destination, with the identities of all three holders.
func testRecipients(t testing.TB, class string) (Recipients, []Identities) {
	t.Helper()
	var names []string
	var ids []Identities
	for range 3 {
		text, name, err := NewIdentity(class)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ParseIdentities([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		names, ids = append(names, name), append(ids, id)
	}
	r, err := ParseRecipients(names[0], names[1], names[2])
	if err != nil {
		t.Fatal(err)
	}
	return r, ids
}

// TestNotices: they come back, and to the destination alone.
func TestNotices(t *testing.T) {
	t.Parallel()
	to, ids := testRecipients(t, ClassX25519)
	rapid.Check(t, func(r *rapid.T) {
		comeBack(r, rapid.SliceOfN(rapid.Custom(anyNotice), 1, 2).Draw(r, "notices"), to, ids)
	})
	to, ids = testRecipients(t, ClassHybrid)
	comeBack(t, []Notice{rapid.Custom(anyNotice).Example()}, to, ids)
}

func comeBack(t rapid.TB, all []Notice, to Recipients, ids []Identities) {
	t.Helper()
	var sealed [][]byte
	for _, n := range all {
		one, err := SealNotice(n, to)
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, one)
	}
	object := PackNotices(sealed)
	got, err := OpenNotices(object, ids[0])
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Fatalf("%+v, %v", got, err)
	}
	if bytes.Contains(object, []byte(all[0].Batches[0])) {
		t.Fatal("an object shows a batch")
	}
	for _, other := range ids[1:] {
		if _, err := OpenNotices(object, other); !errors.Is(err, ErrIdentity) {
			t.Fatalf("it opens to E or R: %v", err)
		}
	}
}

// TestNoticeObjectVector: the stored format, version 1.
func TestNoticeObjectVector(t *testing.T) {
	if got := fmt.Sprintf("%x", PackNotices([][]byte{[]byte("ab"), []byte("c")})); got != "4f43544e01"+"000000026162"+"0000000163" {
		t.Error(got)
	}
	if got := NoticeKey("warehouse", "gw1", 42); got != "warehouse/notices/gw1/000000000042.age" {
		t.Error(got)
	}
	n := Notice{Version: 1, Devices: []string{strings.Repeat("ab", 16)}, Purposes: []string{"audience"}, Batches: []string{"b"}}
	text, err := json.Marshal(n)
	if want := `{"v":1,"devices":["abababababababababababababababab"],"purposes":["audience"],"batches":["b"]}`; err != nil || string(text) != want {
		t.Errorf("%s: %v", text, err)
	}
}

// TestBadNotices: what is not as it must be is neither sealed nor opened.
func TestBadNotices(t *testing.T) {
	to, ids := testRecipients(t, ClassX25519)
	good := Notice{Version: 1, Persons: []string{strings.Repeat("ab", 16)}, Batches: []string{"b"}}
	for name, change := range map[string]func(*Notice){
		"version":   func(n *Notice) { n.Version = 2 },
		"nobody":    func(n *Notice) { n.Persons = nil },
		"short":     func(n *Notice) { n.Persons = []string{"ab"} },
		"upper":     func(n *Notice) { n.Persons = []string{strings.Repeat("AB", 16)} },
		"batch":     func(n *Notice) { n.Batches = []string{"../b"} },
		"batches":   func(n *Notice) { n.Batches = make([]string, NoticeBatches+1) },
		"treatment": func(n *Notice) { n.Rules = PurposeRules{"p": {"f": "reveal"}} },
		"size":      func(n *Notice) { n.Purposes = []string{strings.Repeat("p", NoticesMax)} },
	} {
		n := good
		change(&n)
		if _, err := SealNotice(n, to); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: sealed: %v", name, err)
		}
	}
	if _, err := SealNotice(good, Recipients{}); !errors.Is(err, ErrRecipient) {
		t.Errorf("to nobody: %v", err)
	}
	plain, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"member": strings.Replace(string(plain), `{`, `{"right":"erasure",`, 1), "more": string(plain) + "{}", "array": "[]", "nothing": "",
	} {
		var sealed bytes.Buffer
		w, err := Seal(&sealed, to.destination())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenNotices(PackNotices([][]byte{sealed.Bytes()}), ids[0]); !errors.Is(err, ErrEntry) || strings.Contains(err.Error(), good.Persons[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, err := SealNotice(good, to)
	if err != nil {
		t.Fatal(err)
	}
	object := PackNotices([][]byte{one})
	broken := bytes.Clone(object)
	broken[len(broken)-1] ^= 1
	for name, c := range map[string]struct {
		object []byte
		want   error
	}{
		"empty": {nil, ErrEntry}, "none": {PackNotices(nil), ErrEntry}, "cut": {object[:len(object)-1], ErrEntry}, "more": {append(bytes.Clone(object), 0), ErrEntry},
		"long": {append(bytes.Clone(object), make([]byte, NoticesMax)...), ErrEntry}, "version": {append([]byte("OCTN\x02"), object[5:]...), ErrEntry},
		"flipped": {broken, ErrSeal}, "not age": {PackNotices([][]byte{[]byte("x")}), ErrSeal},
	} {
		if _, err := OpenNotices(c.object, ids[0]); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzNotices: whatever the frame of an object is, reading it ends; what it takes has one spelling.
func FuzzNotices(f *testing.F) {
	f.Add(PackNotices([][]byte{[]byte("a"), []byte("bc")}))
	f.Add(binary.BigEndian.AppendUint32([]byte("OCTN\x01"), 1<<31))
	f.Add([]byte("OCTN\x01"))
	f.Fuzz(func(t *testing.T, object []byte) {
		var sealed [][]byte
		err := eachNotice(object, func(one []byte) error { sealed = append(sealed, one); return nil })
		if err == nil && !bytes.Equal(PackNotices(sealed), object) {
			t.Error("an object has two spellings")
		}
	})
}

// FuzzNotice: a notice that is read can be cut by, and sealed again.
func FuzzNotice(f *testing.F) {
	f.Add([]byte(`{"v":1,"devices":["abababababababababababababababab"],"purposes":["audience"],"rules":{"service":{"order":"keep"}},"batches":["b"]}`))
	f.Add([]byte(`{"v":1}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		n, err := parseNotice(plain)
		if err != nil {
			return
		}
		if _, err := CutOf(n); err != nil {
			t.Error(err)
		}
		again, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseNotice(again); err != nil || len(back.Batches) != len(n.Batches) {
			t.Errorf("%v", err)
		}
	})
}
