package collector_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/octroi/octroi/collector"
)

// TestCoverage: what each purpose let in and what it did not, by channel and without anybody's name; what is no question of consent is left out.
func TestCoverage(t *testing.T) {
	e := open(t)
	send := func(n, channel string, header ...string) {
		e.post("/v1/events?k=demo", fmt.Sprintf(`{"id":"e%s","type":"page_view","channel":%q}`, n, channel), append(header, "Origin", origin)...)
	}
	send("1", "web")
	send("2", "email")
	cookie, _ := e.agree("audience")
	for i := range 3 {
		send(fmt.Sprint("ok", i), "email", "Cookie", cookie)
	}
	send("ok0", "email", "Cookie", cookie)                                          // a duplicate
	e.post("/v1/events?k=demo", `{"id":"x","type":"unheard_of"}`, "Origin", origin) // no type
	want := []collector.Covered{{"shop", "web", "audience", 0, 1}, {"shop", "email", "audience", 3, 1}}
	for range 2 { // who did not say that he kept it is told again
		got, _ := e.edge.Coverage()
		if got = slices.DeleteFunc(got, func(c collector.Covered) bool { return c.Purpose != "audience" }); !slices.Equal(got, want) {
			t.Fatalf("covered: %v, want %v", got, want)
		}
	}
	_, done := e.edge.Coverage()
	send("3", "web")
	done()
	got, _ := e.edge.Coverage()
	if got = slices.DeleteFunc(got, func(c collector.Covered) bool { return c.Purpose != "audience" }); !slices.Equal(got, []collector.Covered{{"shop", "web", "audience", 0, 1}}) {
		t.Errorf("covered since: %v", got)
	}
}
