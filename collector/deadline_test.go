package collector

import (
	"sync"
	"testing"
	"time"
)

func TestDeadlinesAreSharedAndEnd(t *testing.T) {
	d := deadline{least: 30 * time.Millisecond}
	first := d.context()
	if d.context() != first {
		t.Error("two requests at once have two timers")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				asked := time.Now()
				if end, ok := d.context().Deadline(); !ok || end.Sub(asked) < d.least {
					t.Errorf("a request has %s left", end.Sub(asked))
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Wait()
	if first.Err() == nil {
		t.Error("the first deadline has not ended")
	}
}
