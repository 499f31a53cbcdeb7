package access

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"
)

// maxShownBytes bounds each value on the page; the other files have it whole.
const maxShownBytes = 1000

// tally is what the page shows of the events: the newest of each destination, and how many there are in each month.
type tally struct {
	limit        int // events shown of each destination
	destinations []*destinationTally
}

type destinationTally struct {
	name   string
	newest newest
	months map[time.Time]int // by first day
	total  int
	limit  int
}

func (t *tally) begin(destination string) error {
	t.destinations = append(t.destinations, &destinationTally{name: destination, months: map[time.Time]int{}, limit: t.limit})
	return nil
}

func (t *tally) event(r *record) error {
	d := t.destinations[len(t.destinations)-1]
	d.total++
	d.months[time.Date(r.Time.Year(), r.Time.Month(), 1, 0, 0, 0, 0, time.UTC)]++
	if len(d.newest) == d.limit {
		if compareEvents(r, &d.newest[0]) <= 0 {
			return nil
		}
		heap.Pop(&d.newest)
	}
	heap.Push(&d.newest, r.shortened())
	return nil
}

// end puts the newest first.
func (t *tally) end() error {
	d := t.destinations[len(t.destinations)-1]
	slices.SortFunc(d.newest, func(a, b record) int { return compareEvents(&b, &a) })
	return nil
}

func compareEvents(a, b *record) int {
	return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.EventID, b.EventID))
}

// shortened is a copy that shares no memory with the row and holds a bounded number of bytes.
func (r *record) shortened() record {
	x := record{
		EventID: r.EventID, Time: r.Time, Type: shorten(r.Type), Channel: shorten(r.Channel), Site: shorten(r.Site),
		Campaign: shorten(r.Campaign), Source: shorten(r.Source), Medium: shorten(r.Medium), Value: r.Value,
		Properties: make(map[string]string, len(r.Properties)),
	}
	for name, value := range r.Properties {
		x.Properties[shorten(name)] = shorten(value)
	}
	return x
}

func shorten(text string) string {
	if len(text) <= maxShownBytes {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:maxShownBytes], "") + "…"
}

// newest is a heap whose root is the oldest event.
type newest []record

func (n newest) Len() int           { return len(n) }
func (n newest) Less(i, j int) bool { return compareEvents(&n[i], &n[j]) < 0 }
func (n newest) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *newest) Push(r any)        { *n = append(*n, r.(record)) }
func (n *newest) Pop() any {
	last := (*n)[len(*n)-1]
	*n = (*n)[:len(*n)-1]
	return last
}
