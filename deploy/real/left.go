package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// compareErased holds what every place holds now against what it held before: gone are the rows of the customers who asked, all of them and no
// others; and nothing else changed.
func (r *run) compareErased(ctx context.Context, now holdings, whose map[string]customer) error {
	var numbers []string
	for c := range maps.Values(whose) {
		numbers = append(numbers, strings.TrimPrefix(c.card, "cdnow-"))
	}
	want, err := r.tally(ctx, numbers...)
	if err != nil {
		return err
	}
	if len(now) != len(r.held) {
		return fmt.Errorf("%d places before, %d after", len(r.held), len(now))
	}
	for _, place := range slices.Sorted(maps.Keys(now)) {
		tallied, consenting := want["all"], strings.HasSuffix(place, " of warehouse")
		if consenting {
			tallied = want["consenting"]
		}
		before, after := r.held[place], now[place]
		err := errors.Join(equal(place, after.tallied, tallied), fell(before, after, r.theirs(whose, consenting)))
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		fmt.Printf("%-26s %6d rows of %6d customers are left (text file without them: %d of %d); %d rows of %d customers are gone\n", place+":",
			after.Rows, after.Customers, tallied.Rows, tallied.Customers, before.Rows-after.Rows, before.Customers-after.Customers)
	}
	fmt.Println("rows, customers and cents of each month fell by exactly theirs; every other row has equal values in every column")
	return nil
}

// theirs are the purchase histories of the erased, as a bag.
func (r *run) theirs(whose map[string]customer, consentingOnly bool) map[string]int {
	histories, bag := r.histories(consentingOnly), map[string]int{}
	for c := range maps.Values(whose) {
		if h := histories[c.card]; h != nil {
			bag[historyKey(h)]++
		}
	}
	return bag
}

// fell compares a place row by row: of what was there before, the customers of these purchase histories are gone, and nothing else is different.
func fell(before, after *loaded, theirs map[string]int) error {
	theirs = maps.Clone(theirs)
	for id, x := range after.rows {
		was, known := before.rows[id]
		switch {
		case !known:
			return fmt.Errorf("event %s was not there before", id)
		case was.text != x.text:
			return fmt.Errorf("event %s has other values than before", id)
		}
	}
	for person, h := range before.histories {
		if after.persons[person] {
			if len(h) != len(after.histories[person]) {
				return errors.New("a customer has lost a part of the purchases")
			}
			continue
		}
		key := historyKey(h)
		if theirs[key]--; theirs[key] < 0 {
			return errors.New("a customer who did not ask for it is gone")
		}
	}
	for _, n := range theirs {
		if n > 0 {
			return errors.New("a customer who asked for it is still there")
		}
	}
	return nil
}
