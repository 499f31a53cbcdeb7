package collector

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"
)

// limiter bounds the consent posts of a client network (G12): the generic cell rate algorithm, with one time for each network. It
// keeps no address: networks are known by a hash under a key that lives as long as the process, in a map of bounded size.
type limiter struct {
	seed     maphash.Seed
	interval time.Duration // between two posts at the steady rate
	slack    time.Duration // how far ahead a burst may run
	size     int           // networks remembered

	mu   sync.Mutex
	next map[uint64]time.Time // when the network's next post is due at the steady rate; guarded by mu
}

func newLimiter(perSecond float64, burst, size int) *limiter {
	interval := time.Duration(math.Max(1, float64(time.Second)/perSecond))
	return &limiter{
		seed: maphash.MakeSeed(), interval: interval, slack: interval * time.Duration(burst-1), size: size,
		next: map[uint64]time.Time{},
	}
}

// allow takes one post of the network of a, or says how long to wait.
func (l *limiter) allow(a netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	key := maphash.Comparable(l.seed, network(a))
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.next[key]
	if due.Before(now) {
		due = now
	}
	if ahead := due.Sub(now); ahead > l.slack {
		return ahead - l.slack, false
	}
	if len(l.next) >= l.size {
		l.forget(now)
	}
	l.next[key] = due.Add(l.interval)
	return 0, true
}

// forget drops networks that are not ahead; if all are, a tenth of them, by chance: memory stays bounded whatever is sent.
func (l *limiter) forget(now time.Time) {
	for key, due := range l.next {
		if due.Before(now) {
			delete(l.next, key)
		}
	}
	for key := range l.next {
		if len(l.next) <= l.size*9/10 {
			return
		}
		delete(l.next, key)
	}
}

// network is the /24 or /48 of an address (C9): no whole address is used even here.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

// clientAddress is the address of the client behind the proxies that are trusted: X-Forwarded-For is read from its end, since only
// what a trusted proxy appended is true, up to the first address that is not one of them.
func clientAddress(remote netip.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	remote = remote.Unmap()
	for i := len(forwarded) - 1; i >= 0 && contains(trusted, remote); i-- {
		for rest := forwarded[i]; rest != "" && contains(trusted, remote); {
			var hop string
			rest, hop = lastHop(rest)
			a, err := netip.ParseAddr(hop)
			if err != nil {
				return remote
			}
			remote = a.Unmap()
		}
	}
	return remote
}

// lastHop splits "a, b, c" into "a, b" and "c".
func lastHop(list string) (rest, hop string) {
	end := len(list)
	for end > 0 && list[end-1] == ' ' {
		end--
	}
	from := end
	for from > 0 && list[from-1] != ',' {
		from--
	}
	rest = list[:max(from-1, 0)]
	for from < end && list[from] == ' ' {
		from++
	}
	return rest, list[from:end]
}

func contains(trusted []netip.Prefix, a netip.Addr) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
