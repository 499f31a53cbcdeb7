package main

import (
	"testing"
	"time"
)

// place is a place that holds purchases: person, and the cents of each; the text of a row is its event id and mark.
func place(t *testing.T, mark byte, purchases map[string][]int64) *loaded {
	t.Helper()
	l := newLoaded()
	for person, all := range purchases {
		for i, cents := range all {
			id := person + string(rune('0'+i))
			r := row{id: id, person: person, time: time.Date(1997, 1, 1+i, 0, 0, 0, 0, time.UTC), cents: cents}
			copy(r.text[:], id)
			if r.text[31] = 0; id == "anna0" {
				r.text[31] = mark
			}
			if err := l.add(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// The comparison sees each thing that may be wrong after an erasure: it is no proof otherwise.
func TestFell(t *testing.T) {
	before := map[string][]int64{"anna": {1177, 0}, "bert": {500}, "cleo": {500, 900}}
	bert := map[string]int{historyKey([]string{"1997-01-01 500"}): 1}
	for name, x := range map[string]struct {
		mark   byte
		after  map[string][]int64
		theirs map[string]int
		holds  bool
	}{
		"exactly theirs":         {0, map[string][]int64{"anna": {1177, 0}, "cleo": {500, 900}}, bert, true},
		"nobody asked":           {0, before, nil, true},
		"still there":            {0, before, bert, false},
		"another gone":           {0, map[string][]int64{"anna": {1177, 0}, "bert": {500}}, bert, false},
		"another gone as well":   {0, map[string][]int64{"anna": {1177, 0}}, bert, false},
		"a part of another gone": {0, map[string][]int64{"anna": {1177}, "cleo": {500, 900}}, bert, false},
		"another's row changed":  {1, map[string][]int64{"anna": {1177, 0}, "cleo": {500, 900}}, bert, false},
		"a row appeared":         {0, map[string][]int64{"anna": {1177, 0, 3}, "cleo": {500, 900}}, bert, false},
		"somebody appeared":      {0, map[string][]int64{"anna": {1177, 0}, "cleo": {500, 900}, "dora": {1}}, bert, false},
	} {
		err := fell(place(t, 0, before), place(t, x.mark, x.after), x.theirs)
		if (err == nil) != x.holds {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRowTwice(t *testing.T) {
	l := newLoaded()
	if err := l.add(row{id: "a", person: "anna"}); err != nil {
		t.Fatal(err)
	}
	if l.add(row{id: "a", person: "anna"}) == nil {
		t.Error("a superseded object's rows would not be seen")
	}
}
