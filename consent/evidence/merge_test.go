package evidence_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"pgregory.net/rapid"
)

// listed are openings of the indexes, in order; failed ends them.
func listed(indexes []int64, failed error) evidence.Openings {
	return func(fn func(int64, evidence.Opening) error) error {
		for _, i := range indexes {
			if err := fn(i, evidence.Opening{Core: []byte{byte(i)}}); err != nil {
				return err
			}
		}
		return failed
	}
}

func TestMergeKeepsOrderAndEveryOpening(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := make([][]int64, rapid.IntRange(0, 4).Draw(t, "owners"))
		all := rapid.SliceOfDistinct(rapid.Int64Range(0, 255), func(i int64) int64 { return i }).Draw(t, "indexes")
		slices.Sort(all)
		if len(owners) == 0 {
			all = nil
		}
		for _, i := range all {
			n := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
			owners[n] = append(owners[n], i)
		}
		var parts []evidence.Openings
		for _, o := range owners {
			parts = append(parts, listed(o, nil))
		}
		var got []int64
		err := evidence.Merge(parts...)(func(i int64, o evidence.Opening) error {
			if o.Core[0] != byte(i) {
				t.Fatalf("opening of %d under %d", o.Core[0], i)
			}
			got = append(got, i)
			return nil
		})
		if err != nil || !slices.Equal(got, all) {
			t.Fatalf("merged %v of %v: %v", got, all, err)
		}
	})
}

func TestMergeFails(t *testing.T) {
	broken, full := errors.New("broken"), errors.New("full")
	merged := evidence.Merge(listed([]int64{1, 4}, nil), listed([]int64{2}, broken))
	if err := merged(func(int64, evidence.Opening) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("an owner that fails: %v", err)
	}
	if err := merged(func(int64, evidence.Opening) error { return full }); !errors.Is(err, full) {
		t.Errorf("a reader that fails: %v", err)
	}
}
