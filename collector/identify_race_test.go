package collector_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/policies"
)

// A page that goes on sending its claim while the visitor signs out does not sign anybody in again, whichever comes first.
func TestRetryRacesSignOut(t *testing.T) {
	e := openLogin(t, func(o *collector.Options, _ *spool.Options) { o.ConsentRate = 100_000 })
	cookie, _ := e.agree("audience", policies.Linking)
	for i := range 150 {
		e.clock.forward(time.Second)
		claim := e.claim(fmt.Sprint(i), "user", "anna")
		if a := e.identify(claim, cookie); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { e.identify(claim, cookie) })
		}
		all.Go(func() { e.signOut(cookie) })
		all.Wait()
		if row := e.view(fmt.Sprint("after", i), cookie); row.Person != nil {
			t.Fatal("signed out, and joined to an account")
		}
	}
}
