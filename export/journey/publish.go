package journey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/octroi/octroi/consent/state"
)

// A period closes Settings.Lateness after its end. Then its reports are built once, kept as bytes and never made again, also not after an erasure: what is
// published is anonymous, and the difference would not be. Its cells go.

// partBytes is the size of the parts in which a report is kept: one change of state is bounded.
const partBytes = 128 << 10

// publishDue publishes the oldest period that is due; more says that there may be another.
func (j *Journeys) publishDue(ctx context.Context) (more bool, err error) {
	if more, err := j.recount(ctx); err != nil || more {
		return more, err
	}
	now := j.o.Now()
	for _, site := range slices.Sorted(maps.Keys(j.sites)) {
		var begin uint64
		err := j.o.State.View(func(r state.Reader) (err error) { begin, err = readNumber(r, beginKey(site)); return err })
		if err != nil {
			return false, fmt.Errorf("looking for periods to publish: %w", err)
		}
		p := j.sites[site].of(unixMilli(int64(begin)))
		if now.Before(p.end.Add(j.o.Settings.Lateness)) {
			continue
		}
		if err := j.publish(ctx, site, p); err != nil {
			return false, fmt.Errorf("publishing %s of a site: %w", p.name, err)
		}
		return true, nil
	}
	return false, nil
}

// publish closes a period. It is done again as a whole where somebody was taken out meanwhile, or a crash came between.
func (j *Journeys) publish(ctx context.Context, site string, p period) error {
	reports, generation, err := j.buildReports(site, p)
	if err != nil {
		return err
	}
	// Crash here: nothing is written.
	for more := true; more; { // what an earlier try left, of which nothing was ever shown
		err := j.o.State.Update(ctx, func(t *state.Txn) (err error) {
			more, err = deletePrefix(t, reportPrefix+site+"\x00"+p.name+"\x00")
			return err
		})
		if err != nil {
			return err
		}
	}
	for i := range reports {
		// Crash here, in the middle of them: they are not shown, and the next try deletes them.
		if err := j.keepReport(ctx, site, p, &reports[i]); err != nil {
			return err
		}
	}
	// Crash here: as above. The next change shows all of them at once, and nothing counts for the period any more.
	taken := false
	err = j.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		now, err := readNumber(t, generationKey)
		if err != nil {
			return err
		}
		progress, err := readProgress(t)
		if err != nil {
			return err
		}
		begin, err := readNumber(t, beginKey(site))
		if err != nil {
			return err
		}
		if taken = now != generation || progress.phase != settled || int64(begin) != p.start.UnixMilli(); taken {
			return nil
		}
		t.Set(beginKey(site), encodeNumber(uint64(p.end.UnixMilli())))
		t.Set(fallingKey, encodeNumber(0))
		t.OnCommit(func() { j.note(func(s *Stats) { s.Published++ }) })
		return nil
	})
	if err != nil || taken {
		return err
	}
	j.renewals.close(openPeriod{site, p.name})
	// Crash here: the period is published; its cells, which nobody reads any more, go at the next start.
	if err := j.tidy(ctx); err != nil {
		return err
	}
	return j.forget(ctx, site)
}

// buildReports builds the reports of a period from one snapshot, and says of which generation it is.
func (j *Journeys) buildReports(site string, p period) (reports []Report, generation uint64, err error) {
	var c counts
	var before published
	err = j.o.State.View(func(r state.Reader) (err error) {
		if generation, err = readNumber(r, generationKey); err != nil {
			return err
		}
		if before, err = j.before(r, site, p); err != nil {
			return err
		}
		c, err = readCounts(r, site, p.name)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if reports, err = build(c, before, j.rules(site, p)); err != nil {
		return nil, 0, fmt.Errorf("building reports: %w", err)
	}
	return reports, generation, nil
}

// before is what was published of the period before p.
func (j *Journeys) before(r state.Reader, site string, p period) (published, error) {
	bodies := map[[2]string][]byte{}
	prefix := reportPrefix + site + "\x00" + j.sites[site].before(p).name + "\x00"
	err := r.Scan([]byte(prefix), func(key, value []byte) error {
		name, segment, ok := reportOf(key, prefix)
		if !ok {
			return errStored
		}
		bodies[[2]string{name, segment}] = append(bodies[[2]string{name, segment}], value...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the period before: %w", err)
	}
	return func(name, segment string) []byte { return bodies[[2]string{name, segment}] }, nil
}

// reportOf is the report of a key below the prefix of its period.
func reportOf(key []byte, prefix string) (name, segment string, ok bool) {
	rest := strings.TrimPrefix(string(key), prefix)
	if len(rest) < 2 {
		return "", "", false
	}
	return strings.Cut(rest[:len(rest)-2], "\x00")
}

func reportKey(site, period, name, segment string) string {
	return reportPrefix + strings.Join([]string{site, period, name, segment}, "\x00")
}

// keepReport writes a report, which nobody sees yet.
func (j *Journeys) keepReport(ctx context.Context, site string, p period, x *Report) error {
	body, key := x.Body, reportKey(site, p.name, x.Name, x.Segment)
	for part := uint16(0); len(body) > 0; {
		err := j.o.State.Update(ctx, func(t *state.Txn) error {
			for ; len(body) > 0 && t.Room() > 2*partBytes; part++ {
				n := min(len(body), partBytes)
				t.Set(binary.BigEndian.AppendUint16([]byte(key), part), body[:n])
				body = body[n:]
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("keeping a report: %w", err)
		}
	}
	return nil
}

// tidy deletes the cells of periods that are closed.
func (j *Journeys) tidy(ctx context.Context) error {
	for _, prefix := range []string{cellPrefix, coveragePrefix} {
		for more := true; more; {
			err := j.o.State.Update(ctx, func(t *state.Txn) (err error) {
				more, err = j.dropClosed(t, prefix)
				return err
			})
			if err != nil {
				return fmt.Errorf("deleting cells of closed periods: %w", err)
			}
		}
	}
	return nil
}

// forget deletes the reports of the oldest periods beyond those that are kept.
func (j *Journeys) forget(ctx context.Context, site string) error {
	periods, err := j.Published(site)
	if err != nil {
		return err
	}
	for len(periods) > j.o.Settings.Keep {
		for more := true; more; {
			err := j.o.State.Update(ctx, func(t *state.Txn) (err error) {
				more, err = deletePrefix(t, reportPrefix+site+"\x00"+periods[0]+"\x00")
				return err
			})
			if err != nil {
				return fmt.Errorf("forgetting old reports: %w", err)
			}
		}
		periods = periods[1:]
	}
	return nil
}

// Published lists the periods of a site whose reports are kept, oldest first.
func (j *Journeys) Published(site string) (periods []string, err error) {
	type dated struct {
		name  string
		start int64
	}
	var list []dated
	err = j.o.State.View(func(r state.Reader) error {
		begin, err := readNumber(r, beginKey(site))
		if err != nil {
			return err
		}
		prefix := reportPrefix + site + "\x00"
		return r.Scan([]byte(prefix), func(key, _ []byte) error {
			name, _, _ := strings.Cut(strings.TrimPrefix(string(key), prefix), "\x00")
			start, err := startOf(name, j.sites[site].zone)
			if err != nil {
				return errStored
			}
			// What lies at or above begin is of a try that did not come to its end.
			if start < int64(begin) && (len(list) == 0 || list[len(list)-1].name != name) {
				list = append(list, dated{name, start})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing published periods: %w", err)
	}
	slices.SortFunc(list, func(a, b dated) int { return compareAt(a.start, b.start) }) // periods of an earlier grid may be among them
	for _, d := range list {
		periods = append(periods, d.name)
	}
	return periods, nil
}

// report is a published report; errNotPublished where its period is not closed, or is forgotten, or never had that report.
func (j *Journeys) report(site, period, name, segment string) ([]byte, error) {
	var body []byte
	err := j.o.State.View(func(r state.Reader) error {
		begin, err := readNumber(r, beginKey(site))
		if err != nil {
			return err
		}
		start, err := startOf(period, j.sites[site].zone)
		if err != nil || start >= int64(begin) {
			return errNotPublished
		}
		prefix := reportKey(site, period, name, segment)
		return r.Scan([]byte(prefix), func(key, value []byte) error {
			if len(key) == len(prefix)+2 {
				body = append(body, value...)
			}
			return nil
		})
	})
	if err == nil && body == nil {
		err = errNotPublished
	}
	return body, err
}

var (
	errNotPublished = errors.New("no such report of a closed period")
	errCounting     = errors.New("reports of open periods are being counted anew")
)

// open lists the open periods of a site that have begun, oldest first.
func (j *Journeys) open(site string) (periods []period, err error) {
	var begin uint64
	err = j.o.State.View(func(r state.Reader) (err error) { begin, err = readNumber(r, beginKey(site)); return err })
	if err != nil {
		return nil, fmt.Errorf("listing open periods: %w", err)
	}
	now, s := j.o.Now(), j.sites[site]
	for p := s.of(unixMilli(int64(begin))); !p.start.After(now); p = s.after(p) {
		periods = append(periods, p)
	}
	return periods, nil
}

// counts are the cells of an open period, and what was published of the one before; errCounting while cells are being counted anew.
func (j *Journeys) counts(site string, p period) (c counts, before published, err error) {
	err = j.o.State.View(func(r state.Reader) error {
		progress, err := readProgress(r)
		if err != nil {
			return err
		}
		if progress.phase != settled {
			return errCounting
		}
		if before, err = j.before(r, site, p); err != nil {
			return err
		}
		c, err = readCounts(r, site, p.name)
		return err
	})
	return c, before, err
}
