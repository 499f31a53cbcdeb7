package load

import (
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
	w.c.gone.add(site, id)
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
// stays that one's. What a notice took out of a row stays out, whatever the object still has of it.
type merge struct {
	content func(fn func(row *pseudonymize.Row, hidden bool) error) error // as it is loaded
	newest  source

	texts map[string]string // purposes that rows share, once
	known map[rowKey]*standing
	odd   map[rowKey]pseudonymize.Row // of the newest object: rows with purposes that the loaded ones lack
}

type rowKey struct {
	site string
	id   [16]byte
}

// standing is what merge remembers of a loaded row.
type standing struct {
	purposes    string // see purposesOf
	hidden, met bool
}

func (m *merge) run(w *content) error {
	m.texts, m.known, m.odd = map[string]string{}, map[rowKey]*standing{}, map[rowKey]pseudonymize.Row{}
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
	if err == nil && len(m.odd) > 0 {
		err = m.content(func(row *pseudonymize.Row, hidden bool) error { return m.oddOne(w, row, hidden) })
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
	key := rowKey{row.Site, row.EventID}
	s := m.known[key]
	if s == nil || s.met {
		return nil
	}
	s.met = true
	purposes := m.purposes(row)
	if !within(purposes, s.purposes) {
		m.odd[key] = *row
		return nil
	}
	if purposes != s.purposes {
		w.effect.reduced++
	}
	return w.put(row, s.hidden)
}

// oddOne puts what a loaded row and the newest object's have in common.
func (m *merge) oddOne(w *content, row *pseudonymize.Row, hidden bool) error {
	newest, ok := m.odd[rowKey{row.Site, row.EventID}]
	if !ok {
		return nil
	}
	changed := common(row, &newest)
	if len(row.Grants) == 0 {
		w.drop(row.Site, row.EventID)
		return nil
	}
	if changed {
		w.effect.reduced++
	}
	return w.put(row, hidden)
}

// common leaves in row what other has too. A row whose purposes other all has was cut further than other, and stays as it is.
func common(row, other *pseudonymize.Row) (changed bool) {
	before := len(row.Grants)
	row.Grants = slices.DeleteFunc(row.Grants, func(g pseudonymize.RowGrant) bool {
		return !slices.ContainsFunc(other.Grants, func(o pseudonymize.RowGrant) bool { return o.Purpose == g.Purpose })
	})
	if len(row.Grants) == before {
		return false
	}
	// Each was cut of a purpose that the other has. Which fields only those allowed is not known here: what both have is allowed.
	for _, p := range []struct{ to, other **[16]byte }{{&row.Device, &other.Device}, {&row.Person, &other.Person}} {
		if *p.to != nil && (*p.other == nil || **p.to != **p.other) {
			*p.to = nil
		}
	}
	for _, f := range []struct{ to, other *string }{
		{&row.Campaign, &other.Campaign}, {&row.Source, &other.Source}, {&row.Medium, &other.Medium},
	} {
		if *f.to != *f.other {
			*f.to = ""
		}
	}
	if row.Value != other.Value {
		row.Value = pseudonymize.Money{}
	}
	for name, text := range row.Properties {
		if other.Properties[name] != text {
			delete(row.Properties, name)
		}
	}
	return true
}

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
