package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/octroi/octroi/pseudonymize"
)

// content is what a batch will hold in a folder.
type content struct {
	c             *folderChange
	restricted    people
	shown, hidden *stagedFile // made with their first row
	effect        effect
	dry           bool // only the effect is asked for
}

// put adds a row that stays; hidden says whether it was under restriction.
func (w *content) put(row *pseudonymize.Row, hidden bool) (err error) {
	hide := w.restricted.has(row)
	to := &w.shown
	if hide {
		to = &w.hidden
	}
	switch {
	case hide && !hidden:
		w.effect.hidden++
	case !hide && hidden:
		w.effect.shown++
	}
	if w.dry {
		return nil
	}
	if *to == nil {
		if *to, err = w.c.f.stage(); err != nil {
			return err
		}
		w.c.staged = append(w.c.staged, *to)
	}
	return (*to).add(row)
}

// drop forgets a row that goes.
func (w *content) drop(site string, id [16]byte) {
	w.effect.gone++
	if !w.dry {
		w.c.gone.add(site, id)
	}
}

// cut takes out of the batch what the order's cuts say.
func (w *content) cut(o *order) error {
	return w.c.f.content(o.batch, func(row *pseudonymize.Row, hidden bool) error {
		keep, changed := o.cut(row)
		if !keep {
			w.drop(row.Site, row.EventID)
			return nil
		}
		if changed {
			w.effect.reduced++
		}
		return w.put(row, hidden)
	})
}

// merge is a batch's rows when another object states them: those of the newest object that are loaded. A row that came with another batch
// stays that one's. A row that a notice cut further than the object was stays as it is.
type merge struct {
	content func(fn func(row *pseudonymize.Row, hidden bool) error) error // as it is loaded
	newest  source

	texts   map[string]string // purposes that rows share, once
	known   map[rowKey]*standing
	further int // rows that were cut further
}

type rowKey struct {
	site string
	id   [16]byte
}

// standing is what merge remembers of a loaded row.
type standing struct {
	purposes             string // see purposesOf
	hidden, met, further bool
}

func (m *merge) run(w *content) error {
	m.texts, m.known = map[string]string{}, map[rowKey]*standing{}
	err := m.content(func(row *pseudonymize.Row, hidden bool) error {
		m.known[rowKey{row.Site, row.EventID}] = &standing{purposes: m.purposes(row), hidden: hidden}
		return nil
	})
	if err == nil {
		err = m.newest(func(rows []pseudonymize.Row) error {
			for i := range rows {
				if err := m.meet(w, &rows[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil && m.further > 0 {
		err = m.content(func(row *pseudonymize.Row, hidden bool) error {
			if m.known[rowKey{row.Site, row.EventID}].further {
				return w.put(row, hidden)
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	for key, s := range m.known {
		if !s.met {
			w.drop(key.site, key.id)
		}
	}
	return nil
}

// meet takes a row of the newest object.
func (m *merge) meet(w *content, row *pseudonymize.Row) error {
	s := m.known[rowKey{row.Site, row.EventID}]
	if s == nil || s.met {
		return nil
	}
	s.met = true
	purposes := m.purposes(row)
	switch {
	case purposes == s.purposes:
	case within(purposes, s.purposes):
		w.effect.reduced++
	case within(s.purposes, purposes):
		s.further = true
		m.further++
		return nil
	default:
		return errBack
	}
	return w.put(row, s.hidden)
}

// errBack is a row of which notice and object each lack a purpose that the other leaves: which of its fields may stay, neither says. The
// gateway rewrites before it tells.
var errBack = fmt.Errorf("%w: its object has purposes that a notice took from rows", ErrStatement)

// purposes are purposesOf, each text kept once.
func (m *merge) purposes(row *pseudonymize.Row) string {
	text := purposesOf(row)
	if kept, ok := m.texts[text]; ok {
		return kept
	}
	m.texts[text] = text
	return text
}

// purposesOf are the purposes of a row in order, each followed by a zero byte.
func purposesOf(row *pseudonymize.Row) string {
	names := make([]string, len(row.Grants))
	for i := range row.Grants {
		names[i] = row.Grants[i].Purpose + "\x00"
	}
	slices.Sort(names)
	return strings.Join(names, "")
}

// within says whether every purpose of a is one of b.
func within(a, b string) bool {
	if a == b {
		return true
	}
	have := strings.SplitAfter(b, "\x00")
	for name := range strings.SplitAfterSeq(a, "\x00") {
		if !slices.Contains(have, name) {
			return false
		}
	}
	return true
}
