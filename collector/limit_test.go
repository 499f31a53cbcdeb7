package collector

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(5, 20, 100)
	a, neighbour, other := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.200"), netip.MustParseAddr("203.0.114.7")
	for i := range 20 {
		if _, ok := l.allow(a, now); !ok {
			t.Fatalf("post %d of the burst was refused", i+1)
		}
	}
	if wait, ok := l.allow(neighbour, now); ok || wait != 200*time.Millisecond {
		t.Errorf("the same /24 after its burst: %v, %v; want a wait of 200 ms", ok, wait)
	}
	if _, ok := l.allow(other, now); !ok {
		t.Error("another network was refused")
	}
	if _, ok := l.allow(a, now.Add(200*time.Millisecond)); !ok {
		t.Error("refused after the wait that it was told")
	}
	if _, ok := l.allow(a, now.Add(210*time.Millisecond)); ok {
		t.Error("a second post within one interval was let through")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(5, 20, 1000)
	for i := range 50_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		l.allow(a, now)
		if len(l.next) > 1000 {
			t.Fatalf("%d networks are remembered, more than 1,000", len(l.next))
		}
	}
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:f::/48")}
	tests := []struct {
		name, remote string
		forwarded    []string
		trusted      []netip.Prefix
		want         string
	}{
		{"no proxy is trusted", "10.0.0.1", []string{"198.51.100.1"}, nil, "10.0.0.1"},
		{"a stranger's header", "203.0.113.9", []string{"198.51.100.1"}, proxies, "203.0.113.9"},
		{"one proxy", "10.0.0.1", []string{"198.51.100.1"}, proxies, "198.51.100.1"},
		{"two proxies", "10.0.0.1", []string{"198.51.100.1, 10.9.9.9"}, proxies, "198.51.100.1"},
		{"the client's own lie comes first", "10.0.0.1", []string{"192.0.2.66, 198.51.100.1"}, proxies, "198.51.100.1"},
		{"two headers", "10.0.0.1", []string{"192.0.2.66", "198.51.100.1,10.1.1.1"}, proxies, "198.51.100.1"},
		{"all trusted", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, proxies, "10.0.0.3"},
		{"nonsense", "10.0.0.1", []string{"unknown"}, proxies, "10.0.0.1"},
		{"nonsense before a proxy", "10.0.0.1", []string{"_hidden, 10.0.0.2"}, proxies, "10.0.0.2"},
		{"mapped", "::ffff:10.0.0.1", []string{"2001:db8::7"}, proxies, "2001:db8::7"},
		{"empty", "10.0.0.1", []string{""}, proxies, "10.0.0.1"},
	}
	for _, test := range tests {
		got := clientAddress(netip.MustParseAddr(test.remote), test.forwarded, test.trusted)
		if got.String() != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzClientAddress(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.2")
	f.Add(" ,, ,")
	f.Fuzz(func(t *testing.T, header string) {
		a := clientAddress(netip.MustParseAddr("10.0.0.1"), []string{header, header}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")})
		if !a.IsValid() {
			t.Fatalf("%q gives no address", header)
		}
	})
}
