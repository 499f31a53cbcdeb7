package consent

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// linkAndDie is the child that links, moves, unlinks and erases: each line it prints was true when it was printed.
func linkAndDie(dir string) {
	g := gatewayIn(dying{}, dir)
	for n := 0; ; n++ {
		device, _ := g.mint(audienceAndLinking)
		card := strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(n)
		person := g.identify(device, card).Person
		say := func(what string, person subject.Subject) { fmt.Println(what, device.Slot(), person.Slot()) }
		say("linked", person)
		switch n % 5 {
		case 0:
			say("linked", g.identify(device, "everybody").Person) // whose row fills up, and loses the oldest
		case 1:
			g.unlink(device)
			say("unlinked", person)
		case 2:
			if _, err := g.Withdraw(ctx, device, Withdrawal{Site: testSite, Purposes: []string{policies.Linking}}); err != nil {
				g.t.Fatal(err)
			}
			say("unlinked", person)
		case 3:
			g.sever(person)
			say("erased", person)
		case 4:
			g.sever(device)
			say("gone", person)
		}
	}
}

// saying is what the child said last of a device.
type saying struct {
	what   string
	person subject.Slot
}

// kill −9 at any instant of an Identify, an Unlink, a withdrawal or an erasure: what was answered is so, and the two sides of every link agree.
func TestLinksKilledAtAnyInstant(t *testing.T) {
	dir := t.TempDir()
	said := map[subject.Slot]saying{}
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Stderr = os.Stderr
		child.Env = append(os.Environ(), linkDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lived := listen(out, said, 20+rand.IntN(10), func() {
			time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, func() { _ = child.Process.Kill() })
		})
		if err := child.Wait(); !lived || err == nil {
			t.Fatalf("the child did not live until it was killed: %v", err)
		}
	}
	g := gatewayIn(t, dir)
	defer g.close()
	var all []subject.Subject
	for slot := range subject.Slot(1 << 16) {
		if s, err := g.subjects.BySlot(slot); err == nil {
			all = append(all, s)
		}
	}
	g.checkSides(t, all)
	unsure := 0
	for slot, x := range said {
		device, err := g.subjects.BySlot(slot)
		if (err != nil) != (x.what == "gone") {
			unsure++ // its erasure, or the first of it, was not answered
			continue
		}
		if err != nil {
			continue
		}
		person, err := g.Linked(device)
		if err != nil {
			t.Fatal(err)
		}
		if linked := x.what == "linked" && person.Slot() == x.person; linked != person.Exists() {
			unsure++ // what came after it was not answered
		}
		if x.what != "linked" && person.Exists() {
			t.Errorf("device %d was %s, and is linked", slot, x.what)
		}
	}
	if len(said) < 30 || unsure > 3 {
		t.Fatalf("%d devices, of %d more is so than was answered: one for each kill at most", len(said), unsure)
	}
}

// listen notes what the child says until it is silent, and calls then after so many lines.
func listen(out io.Reader, said map[subject.Slot]saying, lines int, then func()) (lived bool) {
	for scan := bufio.NewScanner(out); scan.Scan(); {
		f := strings.Fields(scan.Text())
		if len(f) != 3 {
			continue
		}
		device, err1 := strconv.Atoi(f[1])
		person, err2 := strconv.Atoi(f[2])
		if err1 != nil || err2 != nil {
			continue
		}
		said[subject.Slot(device)] = saying{f[0], subject.Slot(person)}
		if lines--; lines == 0 {
			lived = true
			then()
		}
	}
	return lived
}
