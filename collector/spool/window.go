package spool

import "time"

// window remembers the hashes of durable events, for at least span, unless there are more than count. It is owned by the writer.
//
// It is a queue of generations of equal length: what is dropped is always a whole generation, so nothing is kept per hash but
// the hash. With four of them, it holds between one span and four thirds of it, and never less than three quarters of count.
type window struct {
	span        int64 // milliseconds
	count       int   // of hashes, in all generations
	generations []generation
	shrunkUntil int64 // Unix milliseconds; until then, a hash that was dropped to keep to count is missed
}

type generation struct {
	hashes      hashSet
	first, last int64 // Unix milliseconds
}

const generations = 4

func newWindow(span time.Duration, count int) *window {
	return &window{span: span.Milliseconds(), count: max(count, generations)}
}

func (w *window) seen(h hash) bool {
	for i := len(w.generations) - 1; i >= 0; i-- {
		if w.generations[i].hashes.has(h) {
			return true
		}
	}
	return false
}

// add remembers a hash. Times must not go back.
func (w *window) add(h hash, millis int64) {
	n := len(w.generations)
	if n == 0 || w.generations[n-1].hashes.count >= w.count/generations ||
		millis-w.generations[n-1].first >= (w.span+generations-2)/(generations-1) {
		w.generations = append(w.generations, generation{first: millis})
		n++
	}
	g := &w.generations[n-1]
	g.hashes.add(h)
	g.last = millis
	w.expire(millis)
}

// expire drops the generations that are too old or too many.
func (w *window) expire(now int64) {
	for len(w.generations) > 0 {
		until := w.generations[0].last + w.span
		if until > now {
			if len(w.generations) <= generations {
				return
			}
			w.shrunkUntil = max(w.shrunkUntil, until)
		}
		w.generations[0] = generation{} // frees the hashes
		w.generations = w.generations[1:]
	}
}

// skipped tells the window that hashes written until last were left out of it for want of room.
func (w *window) skipped(last int64) { w.shrunkUntil = max(w.shrunkUntil, last+w.span) }

// windowFigures are what Stats says of the window.
type windowFigures struct {
	hashes      int
	oldest      int64 // Unix milliseconds; 0: none
	shrunkUntil int64
}

func (w *window) figures() windowFigures {
	f := windowFigures{shrunkUntil: w.shrunkUntil}
	for i := range w.generations {
		f.hashes += w.generations[i].hashes.count
	}
	if len(w.generations) > 0 {
		f.oldest = w.generations[0].first
	}
	return f
}
