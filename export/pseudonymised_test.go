package export

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/pseudonymize"
)

// TestPseudonymisedNumbers: the number of an order that a purpose pseudonymises reaches neither the spool's record, nor a row of any destination, nor a
// file of state, outbox or store, opened or not; where a contract keeps it, only its own destination has it.
func TestPseudonymisedNumbers(t *testing.T) {
	w := newWorld(t)
	devices, person := w.mint(t, 2), w.declare(t, 1)[0]
	w.send(t,
		visit{device: devices[0], typ: "purchase", id: "canary-1", at: testStart},
		visit{device: devices[0], typ: "return", id: "canary-1/back", at: testStart},
		visit{device: devices[1], typ: "purchase", id: "canary-1", at: testStart},
		visit{device: devices[1], person: person, typ: "purchase", id: "kept-2", at: testStart})
	orders := map[string][]string{}
	for _, name := range []string{"warehouse", "accounting"} {
		flush(t, w.shipper(t, name, nil))
		for _, rows := range w.check(t, name).rows {
			for i := range rows {
				orders[name] = append(orders[name], rows[i].Properties["order"])
				if text := fmt.Sprintf("%+v", rows[i].Properties); strings.Contains(text, "o-canary") || name == "warehouse" && strings.Contains(text, "o-kept") {
					t.Errorf("%s: a row holds the number of an order: %s", name, text)
				}
			}
		}
	}
	got := orders["warehouse"]
	if len(got) != 4 || got[0] != got[1] || got[0] == got[2] || got[2] == got[3] || !pseudonymize.Pseudonymised(got[0]) || !pseudonymize.Pseudonymised(got[3]) {
		t.Errorf("the warehouse's orders are %q: a return must join its purchase, and nothing another device's", got)
	}
	if kept := orders["accounting"]; len(kept) != 1 || kept[0] != "o-kept-2" {
		t.Errorf("accounting's orders are %q", kept)
	}
	files := 0
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("o-canary")) || bytes.Contains(b, []byte("o-kept")) {
			t.Errorf("%s holds the number of an order", strings.TrimPrefix(path, w.dir))
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}
