package consent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// childDir names the folder of a child process that erases, and linkDir of one that links, until it is killed.
const (
	childDir = "CONSENT_TEST_CHILD"
	linkDir  = "CONSENT_TEST_LINKS"
)

// TestMain lets the test binary be that child.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		eraseAndDie(dir)
	}
	if dir := os.Getenv(linkDir); dir != "" {
		linkAndDie(dir)
	}
	os.Exit(m.Run())
}

// dying ends the child at its first error; its parent reports that it was not killed.
type dying struct{ testing.TB }

func (dying) Helper() {}

func (dying) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(0)
}

func gatewayIn(t testing.TB, dir string) *gateway {
	t.Helper()
	policy, err := policies.Load(linkFiles(1))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner("octroi.example/test", logKey)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, dir: dir, policy: policy, signer: signer}
	g.millis.Store(testStart.UnixMilli())
	g.open()
	return g
}

// eraseAndDie is the child: each line it prints was true when it was printed.
func eraseAndDie(dir string) {
	g := gatewayIn(dying{}, dir)
	for n := 0; ; n++ {
		card := strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(n)
		s := g.person(card)
		c := g.banner(allPurposes)
		c.Who.Persons = []subject.Identifier{loyalty(g.t, card)}
		r, err := g.Record(ctx, c)
		if err != nil {
			g.t.Fatal(err)
		}
		fmt.Println("recorded", s.Slot(), g.receiptOf(r).Octroi.Secret)
		g.suppress(s)
		fmt.Println("suppressed", s.Slot())
		x := g.sever(s)
		fmt.Println("severed", s.Slot(), x.Kept, x.Leaf)
	}
}

// fate is what the child said of one subject.
type fate struct {
	secret              string
	suppressed, severed bool
	leaf                string
}

// kill −9 at any instant: who was suppressed stays so and is severed in the end with the same outcome, who was severed is gone, and every proof is kept.
func TestErasureKilledAtAnyInstant(t *testing.T) {
	dir := t.TempDir()
	fates := map[subject.Slot]*fate{}
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Stderr = os.Stderr
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lived := follow(out, fates, 3+rand.IntN(4), func() {
			time.AfterFunc(time.Duration(rand.IntN(12000))*time.Microsecond, func() { _ = child.Process.Kill() })
		})
		if err := child.Wait(); !lived || err == nil {
			t.Fatalf("the child did not live until it was killed: %v", err)
		}
	}
	g := gatewayIn(t, dir)
	defer g.close()
	finished := 0
	for slot, f := range fates {
		s, err := g.subjects.BySlot(slot)
		switch {
		case f.severed && !errors.Is(err, subject.ErrShredded):
			t.Errorf("slot %d was severed: %v", slot, err)
		case err == nil && f.suppressed:
			g.want(g.query("page_view", noSubject, s), NoConsent)
		}
		if err == nil {
			g.sever(s)
		}
		x, ok, err := g.Severed(ctx, slot)
		if !ok || err != nil || x.Kept != 2 || f.severed && fmt.Sprint(x.Leaf) != f.leaf {
			t.Errorf("slot %d, %+v: %+v %v %v", slot, *f, x, ok, err)
		}
		if p, err := g.Kept(f.secret); err != nil || VerifyProven(p, g.signer.Verifier()) != nil {
			t.Errorf("slot %d: its proof is lost: %v", slot, err)
		}
		finished++
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); finished < 9 || len(left) != 0 {
		t.Fatalf("only %d erasures, left %v", finished, left)
	}
	if n := g.rowsUnder([]byte(recordTable)) + g.rowsUnder([]byte(standingTable)); n > 3*4 { // three records and a standing
		t.Fatalf("%d rows of subjects are left: more than the three can have whose last record was not answered", n)
	}
}

// follow notes what the child says until it is silent, and calls then after so many erasures.
func follow(out io.Reader, fates map[subject.Slot]*fate, erasures int, then func()) (lived bool) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		slot := subject.Slot(n)
		switch {
		case f[0] == "recorded" && len(f) == 3 && len(f[2]) == 22:
			fates[slot] = &fate{secret: f[2]}
		case f[0] == "suppressed" && fates[slot] != nil:
			fates[slot].suppressed = true
		case f[0] == "severed" && len(f) == 4 && fates[slot] != nil:
			fates[slot].severed, fates[slot].leaf = true, f[3]
			if erasures--; erasures == 0 {
				lived = true
				then()
			}
		}
	}
	return lived
}
