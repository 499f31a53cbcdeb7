package consent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// restored puts the state of a moment ago beside the slot file of now.
func (g *gateway) restored(between func()) {
	g.t.Helper()
	state, old := filepath.Join(g.dir, "state"), filepath.Join(g.t.TempDir(), "state")
	g.close()
	if err := os.CopyFS(old, os.DirFS(state)); err != nil {
		g.t.Fatal(err)
	}
	g.open()
	between()
	g.close()
	if err := errors.Join(os.RemoveAll(state), os.CopyFS(state, os.DirFS(old))); err != nil {
		g.t.Fatal(err)
	}
	g.open()
}

// A restored state may be older than the slot file beside it, and name who was erased since. That keeps nobody else from knowing their own links.
func TestLinksBesideNewerSlots(t *testing.T) {
	g := openLinkGateway(t)
	device, _ := g.mint(audienceAndLinking)
	second, _ := g.mint(audienceAndLinking)
	anna := g.identify(second, "anna").Person
	g.identify(device, "bert")
	g.identify(device, "anna")
	g.restored(func() {
		for _, s := range []subject.Subject{anna, second} {
			g.suppress(s)
			g.sever(s)
		}
	})
	g.wantUnlinked(device)
	if list := g.links(device); len(list) != 1 || list[0].Until.IsZero() {
		t.Errorf("%+v, want the link to whoever is still there", list)
	}
	carl := g.identify(device, "carl").Person
	g.wantLinked(device, carl)
	if list := g.links(device); len(list) != 2 || list[1].Person.Slot() != carl.Slot() {
		t.Errorf("%+v", list)
	}
}
