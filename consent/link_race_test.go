package consent

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Of a thousand checks that race the end of a link none carries the person once the end has answered; and where it takes back what was joined, each
// that did is known to be revoked by whoever seals it later (consent.md G3). A logout takes nothing back.
func TestUnlinkRace(t *testing.T) {
	for name, x := range map[string]struct {
		end     func(g *gateway, device, person subject.Subject)
		treated func(g *gateway, device, person subject.Subject, sequence uint64) bool
	}{
		"logout": {
			func(g *gateway, device, _ subject.Subject) { g.unlink(device) },
			func(g *gateway, device, _ subject.Subject, sequence uint64) bool {
				return !g.RevokedAfter(device.Slot(), policies.Linking, sequence)
			},
		},
		"another's login": {
			func(g *gateway, device, _ subject.Subject) { g.identify(device, "2") },
			func(g *gateway, device, _ subject.Subject, sequence uint64) bool {
				return !g.RevokedAfter(device.Slot(), policies.Linking, sequence)
			},
		},
		"withdrawal": {
			func(g *gateway, device, _ subject.Subject) {
				if _, err := g.Withdraw(ctx, device, Withdrawal{Site: testSite, Purposes: []string{policies.Linking}}); err != nil {
					g.t.Error(err)
				}
			},
			func(g *gateway, device, _ subject.Subject, sequence uint64) bool {
				return g.RevokedAfter(device.Slot(), policies.Linking, sequence)
			},
		},
		"the person's withdrawal": {
			func(g *gateway, _, person subject.Subject) {
				if _, err := g.Withdraw(ctx, person, Withdrawal{Site: testSite, Purposes: []string{policies.Linking}}); err != nil {
					g.t.Error(err)
				}
			},
			func(g *gateway, _, person subject.Subject, sequence uint64) bool {
				return g.RevokedAfter(person.Slot(), policies.Linking, sequence)
			},
		},
		"the person's erasure": {
			func(g *gateway, _, person subject.Subject) { g.suppress(person) },
			func(g *gateway, _, person subject.Subject, sequence uint64) bool {
				return g.RevokedAfter(person.Slot(), "", sequence)
			},
		},
	} {
		for _, cache := range []int{0, 1} { // 1: a page that other subjects keep throwing out
			t.Run(name, func(t *testing.T) {
				g := openGatewayWith(t, linkFiles(1), cache)
				device, _ := g.mint(audienceAndLinking)
				person := g.identify(device, "1").Person
				carried := raceLink(t, g, device, person, func() { x.end(g, device, person) })
				for _, sequence := range carried {
					if !x.treated(g, device, person, sequence) {
						t.Fatalf("what was admitted at sequence %d, of %d, is not treated as its end says", sequence, g.Sequence())
					}
				}
			})
		}
	}
}

// raceLink asks the gate from four sides while the link ends, and answers the sequences at which the person was carried.
func raceLink(t *testing.T, g *gateway, device, person subject.Subject, end func()) (carried []uint64) {
	var mu sync.Mutex
	var checks atomic.Int64
	var ended atomic.Bool
	plain := 0
	q := g.query("page_view", device, noSubject)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n, after := 0, 0; n < 250 || after < 50; n++ {
				over := ended.Load()
				if over {
					after++
				}
				grants, _, err := g.Check(q)
				checks.Add(1)
				mu.Lock()
				switch {
				case err != nil || !grants.Valid():
					t.Error("not admitted:", err)
				case grants.Person().Slot() != person.Slot():
					plain++
				case over:
					t.Error("the person is carried after the end had answered")
				default:
					carried = append(carried, grants.Sequence())
				}
				mu.Unlock()
			}
		})
	}
	if g.cache == 1 {
		wg.Go(func() {
			for n := 0; !ended.Load(); n++ {
				g.warm.put(subject.Slot(1+n%3)<<(pageBits+2), nobody)
			}
		})
	}
	for checks.Load() < 300 {
		runtime.Gosched()
	}
	end()
	ended.Store(true)
	wg.Wait()
	if len(carried) == 0 || plain == 0 || len(carried)+plain < 1000 {
		t.Fatalf("%d with the person, %d without: not a race", len(carried), plain)
	}
	return carried
}
