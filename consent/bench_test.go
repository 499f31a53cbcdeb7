package consent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
	"golang.org/x/sys/unix"
)

// manyStandings fills the gate's memory as n subjects with two purposes would.
func manyStandings(b *testing.B, g *gateway, n int) {
	b.Helper()
	row := &standing{}
	for i, id := range []string{"audience", "service"} {
		p, _ := g.policy.Purpose(id)
		row.apply(chosen{purpose: id, version: 1, basis: p.Basis, granted: true, validity: p.Validity},
			instant{given: testStart.UnixMilli(), record: uint32(i + 1)})
	}
	for i := range n {
		g.warm.put(subject.Slot(i+1), verdicts(g.policy, row))
	}
}

// BenchmarkCheck is the gate alone: a million subjects, in random order, against a bare map lookup of as many 16-byte tags (the row of
// performance.md). "check of linked" finds the person too. "tag and check" goes the whole way from a credential, its HMAC included; "tag" is that HMAC and lookup alone.
func BenchmarkCheck(b *testing.B) {
	const n = 1_000_000
	g := openGatewayWith(b, linkFiles(1), 2*n)
	credentials, slots := mintMany(b, g, n)
	manyStandings(b, g, g.subjects.Count())
	bare := make(map[subject.Tag]subject.Slot, n)
	tags := make([]subject.Tag, n)
	subjects := make([]subject.Subject, n)
	for i, c := range credentials {
		tags[i] = g.subjects.TagOf(c)
		bare[tags[i]] = slots[i]
		s, err := g.subjects.Device(c)
		if err != nil {
			b.Fatal(err)
		}
		subjects[i] = s
	}
	order := rand.Perm(n)
	typ, _ := g.policy.EventType("page_view")
	at := g.now().Add(time.Second)
	runtime.GC()

	run := func(name string, step func(i int) bool) {
		b.Run(name, func(b *testing.B) {
			ownTime(b, func(n int) {
				for i := range n {
					if !step(order[i%len(order)]) {
						b.Fatal("the answer is wrong")
					}
				}
			})
		})
	}
	check := func(s subject.Subject) bool {
		q := Query{Type: typ, Device: s, Time: at, Received: at}
		grants, _, err := g.Check(&q)
		return err == nil && grants.Valid()
	}
	run("bare map lookup", func(i int) bool { return bare[tags[i]] != 0 })
	run("check of one", func(i int) bool { return check(subjects[0]) })
	run("check", func(i int) bool { return check(subjects[i]) })
	run("HMAC", func(i int) bool { return g.subjects.TagOf(credentials[i]) != subject.Tag{} })
	run("tag", func(i int) bool { _, err := g.subjects.Device(credentials[i]); return err == nil })
	run("tag and check", func(i int) bool {
		s, err := g.subjects.Device(credentials[i])
		return err == nil && check(s)
	})
	linkAll(g, subjects)
	run("check of linked", func(i int) bool {
		q := Query{Type: typ, Device: subjects[i], Time: at, Received: at}
		grants, _, err := g.Check(&q)
		return err == nil && grants.Person().Exists()
	})
}

// linkAll gives the gate's memory a link of every subject, each to another one far away: to the gate a person is a slot.
func linkAll(g *gateway, subjects []subject.Subject) {
	row := &standing{Link: &joint{Since: testStart.UnixMilli(), Record: 3}}
	for i, id := range []string{"audience", policies.Linking} {
		p, _ := g.policy.Purpose(id)
		row.apply(chosen{purpose: id, version: 1, basis: p.Basis, granted: true, validity: p.Validity},
			instant{given: testStart.UnixMilli(), record: uint32(i + 1)})
	}
	for i := range subjects {
		row.Link.Person = subjects[(i+len(subjects)/2)%len(subjects)].Slot()
		g.warm.put(subjects[i].Slot(), verdicts(g.policy, row))
	}
}

// ownTime runs loop and reports its own processor time beside the wall clock's, which on a shared machine measures the neighbours.
func ownTime(b *testing.B, loop func(n int)) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := used()
	loop(b.N)
	b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op")
}

// mintMany makes n device-level subjects without records.
func mintMany(b *testing.B, g *gateway, n int) (credentials []subject.Credential, slots []subject.Slot) {
	b.Helper()
	credentials, slots = make([]subject.Credential, n), make([]subject.Slot, n)
	const chunk = 1000
	for from := 0; from < n; from += chunk {
		err := g.state.Update(ctx, func(t *state.Txn) error {
			for i := from; i < min(n, from+chunk); i++ {
				c, s, err := g.subjects.MintDevice(t)
				if err != nil {
					return err
				}
				credentials[i], slots[i] = c, s.Slot()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return credentials, slots
}

// BenchmarkStandingMemory reports what the gate keeps in memory of a subject with two purposes.
func BenchmarkStandingMemory(b *testing.B) {
	const n = 1_000_000
	g := openGatewayWith(b, testFiles(), 2*n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	manyStandings(b, g, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/subject")
	for range b.N {
		runtime.KeepAlive(g.warm)
	}
}

// BenchmarkImport is a back-end's import of consents of new persons, each durable and with its receipt when it is answered.
func BenchmarkImport(b *testing.B) {
	g := openGatewayWith(b, testFiles(), 0)
	var number atomic.Int64
	benchmarkWrites(b, func() error {
		c := g.banner(map[string]bool{"audience": true})
		c.Who.Persons, c.GivenAt, c.Source = []subject.Identifier{loyalty(b, strconv.FormatInt(number.Add(1), 10))}, testStart.AddDate(0, -1, 0), "crm"
		_, err := g.Record(ctx, c)
		return err
	})
}

// BenchmarkDeclare is the first declaration of new persons, and the same again, which only reads.
func BenchmarkDeclare(b *testing.B) {
	g := openGatewayWith(b, testFiles(), 0)
	var number atomic.Int64
	declare := func(card string) error {
		_, err := g.Declare(ctx, Declaration{
			Site: testSite, Persons: []subject.Identifier{loyalty(b, card)}, Purposes: []string{"service"}, Since: testStart.AddDate(-1, 0, 0),
		})
		return err
	}
	b.Run("new", func(b *testing.B) {
		benchmarkWrites(b, func() error { return declare(strconv.FormatInt(number.Add(1), 10)) })
	})
	b.Run("standing", func(b *testing.B) {
		benchmarkWrites(b, func() error { return declare("1") })
	})
}

// BenchmarkWithdraw is the withdrawal of what stands, durable when it is answered.
func BenchmarkWithdraw(b *testing.B) {
	g := openGatewayWith(b, testFiles(), 0)
	subjects := make(chan subject.Subject, b.N)
	for range b.N {
		c := g.banner(map[string]bool{"audience": true})
		c.Who.Mint = true
		var s subject.Subject
		if err := g.state.Update(context.Background(), func(t *state.Txn) (err error) {
			_, s, err = g.subjects.MintDevice(t)
			if err == nil {
				_, err = g.append(t, s, &act{event: eventConsent, site: testSite, proof: policies.Asserted, purposes: g.weigh(&c).granted})
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		subjects <- s
	}
	benchmarkWrites(b, func() error {
		_, err := g.Withdraw(ctx, <-subjects, Withdrawal{Site: testSite})
		return err
	})
}

// benchmarkWrites runs 64 writers.
func benchmarkWrites(b *testing.B, write func() error) {
	b.Helper()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := write(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// TestCheckAllocatesNothing is the budget's "no allocation", where every run sees it.
func TestCheckAllocatesNothing(t *testing.T) {
	g := openLinkGateway(t)
	s, _ := g.mint(allPurposes)
	linked, _ := g.mint(audienceAndLinking)
	g.identify(linked, "1")
	g.wantLinked(linked, g.links(linked)[0].Person)
	typ, _ := g.policy.EventType("page_view")
	for _, device := range []subject.Subject{s, linked, {}} {
		at := g.now()
		if n := testing.AllocsPerRun(1000, func() {
			q := Query{Type: typ, Device: device, Time: at, Received: at}
			grants, _, err := g.Check(&q)
			if err != nil || grants.Valid() != device.Exists() || g.RevokedAfter(7, "audience", grants.Sequence()) {
				panic(fmt.Sprint(grants.Valid(), err))
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
