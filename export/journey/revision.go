package journey

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// revision is one change of the window, whatever it is for: touches that come, that go, that fall out, that are counted anew. It reads what it needs,
// remembers what was, and in the end says what rows to write and what the cells gain and lose:
//
//	cells += Σ over the journeys that changed of contribute(after) − contribute(before)
//
// It is read from one Reader and not safe for concurrent use.
type revision struct {
	j        *Journeys
	r        state.Reader
	begins   map[string]int64 // of open periods, by site
	progress progress
	lists    map[place]*list
	withs    map[subject.Slot]*with
	owners   map[subject.Slot]*owner
	broken   bool // rows of somebody who is destroyed were counted here: nobody can say how
}

// list is the touches of one place.
type list struct {
	touches []Touch // sorted; copied before they are first changed, since owners remember what was
	changed bool
}

// insert adds a touch; added is false where the list has it already, or is full of later ones. fallen is what falls out for it.
func (l *list) insert(t Touch) (fallen []Touch, added bool) {
	i, found := slices.BinarySearchFunc(l.touches, t, compareTouches)
	if found || i == 0 && len(l.touches) >= maxTouches {
		return nil, false
	}
	if !l.changed {
		l.touches, l.changed = append(make([]Touch, 0, len(l.touches)+16), l.touches...), true
	}
	l.touches = slices.Insert(l.touches, i, t)
	if over := len(l.touches) - maxTouches; over > 0 {
		fallen, l.touches = slices.Clone(l.touches[:over]), l.touches[over:]
	}
	return fallen, true
}

// with is the slots with whom a subject has rows.
type with struct {
	slots   []subject.Slot // sorted
	changed bool
}

// owner is a journey that may change.
type owner struct {
	before  []list           // what its places held
	changed map[string]*span // by site: from the earliest to the latest touch that came or went
}

type span struct{ from, to int64 }

// revise begins a revision.
func (j *Journeys) revise(r state.Reader) (*revision, error) {
	v := &revision{j: j, r: r, lists: map[place]*list{}, withs: map[subject.Slot]*with{}, owners: map[subject.Slot]*owner{}}
	var err error
	if v.begins, err = j.begins(r); err != nil {
		return nil, err
	}
	v.progress, err = readProgress(r)
	return v, err
}

func (v *revision) subject(slot subject.Slot) (subject.Subject, error) {
	return v.j.o.Subjects.BySlot(slot)
}

// with is with whom a subject has rows.
func (v *revision) with(slot subject.Slot) (*with, error) {
	if w, ok := v.withs[slot]; ok {
		return w, nil
	}
	s, err := v.subject(slot)
	if err != nil {
		return nil, err
	}
	slots, err := readWith(v.r, s)
	if err != nil {
		return nil, fmt.Errorf("reading with whom a subject is: %w", err)
	}
	w := &with{slots: slots}
	v.withs[slot] = w
	return w, nil
}

// list is the touches of a place.
func (v *revision) list(p place) (*list, error) {
	if l, ok := v.lists[p]; ok {
		return l, nil
	}
	key, open, err := v.opener(p)
	if err != nil {
		return nil, err
	}
	l := &list{}
	sealed, err := v.r.Get(key)
	if err == nil {
		var plain []byte
		if plain, err = open(sealed); err == nil {
			l.touches, err = decodeTouches(plain, p.device)
		}
		for i := range l.touches {
			l.touches[i].Segments = slices.DeleteFunc(l.touches[i].Segments, func(s string) bool { return !v.j.segments[s] })
		}
	} else if errors.Is(err, state.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading touches: %w", err)
	}
	v.lists[p] = l
	return l, nil
}

// opener is the key of a place's row, and what opens it.
func (v *revision) opener(p place) (key []byte, open func([]byte) ([]byte, error), err error) {
	s, err := v.subject(p.owner())
	if err != nil {
		return nil, nil, err
	}
	if !p.both() {
		key = s.RowKey(ownTable, nil)
		return key, func(b []byte) ([]byte, error) { return s.Open(ownTable, key, b) }, nil
	}
	device, err := v.subject(p.device)
	if err != nil {
		return nil, nil, err
	}
	key = bothKey(s, device)
	return key, func(b []byte) ([]byte, error) { return openBoth(s, device, key, b) }, nil
}

// places are where the journey of an owner lies, the empty ones among them.
func (v *revision) places(s subject.Subject) ([]place, error) {
	if s.Kind() == subject.Device {
		return []place{{device: s.Slot()}}, nil
	}
	places := []place{{person: s.Slot()}}
	w, err := v.with(s.Slot())
	if err != nil {
		return nil, err
	}
	for _, device := range w.slots {
		places = append(places, place{s.Slot(), device})
	}
	return places, nil
}

// open remembers what an owner's journey was, before anything of it changes.
func (v *revision) open(slot subject.Slot) (*owner, error) {
	if o, ok := v.owners[slot]; ok {
		return o, nil
	}
	s, err := v.subject(slot)
	if err != nil {
		return nil, err
	}
	places, err := v.places(s)
	if err != nil {
		return nil, err
	}
	o := &owner{changed: map[string]*span{}}
	for _, p := range places {
		l, err := v.list(p)
		if errors.Is(err, subject.ErrShredded) && p.device != slot { // a slot file that is newer than the state: the rows open to nobody
			v.broken = true
			v.leave(p.person, p.device)
			continue
		}
		if err != nil {
			return nil, err
		}
		o.before = append(o.before, *l)
	}
	v.owners[slot] = o
	return o, nil
}

// leave takes other out of the list of those with whom slot has rows.
func (v *revision) leave(slot, other subject.Slot) {
	if w := v.withs[slot]; w != nil {
		if i, found := slices.BinarySearch(w.slots, other); found {
			w.slots, w.changed = slices.Concat(w.slots[:i], w.slots[i+1:]), true
		}
	}
}

// fate is what became of a touch that was to be added.
type fate uint8

const (
	added   fate = iota
	late         // of a closed period; kept where an open period still looks back at it
	known        // it is there already
	crowded      // under a device of too many persons, or of a person with too many devices
)

// put adds a touch to a place.
func (v *revision) put(p place, t Touch) (fate, error) {
	begin, configured := v.begins[t.Site]
	if !configured || t.At < begin-lookback.Milliseconds() {
		return late, nil
	}
	o, err := v.open(p.owner())
	if err != nil {
		return 0, err
	}
	if room, err := v.roomFor(p); err != nil || !room {
		return crowded, err
	}
	l, err := v.list(p)
	if err != nil {
		return 0, err
	}
	t.Device = p.device
	fallen, fresh := l.insert(t)
	if !fresh {
		return known, nil
	}
	o.note(&t)
	for i := range fallen {
		o.note(&fallen[i])
	}
	if t.At < begin {
		return late, nil
	}
	return added, nil
}

// roomFor enters device and person in each other's lists where they are not.
func (v *revision) roomFor(p place) (bool, error) {
	if !p.both() {
		return true, nil
	}
	person, err := v.with(p.person)
	if err != nil {
		return false, err
	}
	device, err := v.with(p.device)
	if err != nil {
		return false, err
	}
	i, found := slices.BinarySearch(person.slots, p.device)
	if found {
		return true, nil
	}
	k, _ := slices.BinarySearch(device.slots, p.person)
	if len(person.slots) >= maxWith || len(device.slots) >= maxWith {
		return false, nil
	}
	person.slots, person.changed = slices.Insert(slices.Clone(person.slots), i, p.device), true
	device.slots, device.changed = slices.Insert(slices.Clone(device.slots), k, p.person), true
	return true, nil
}

// keep leaves, of the touches of a place, those that keep says. The owner must be open.
func (v *revision) keep(p place, keep func(*Touch) bool) error {
	l, err := v.list(p)
	if err != nil {
		return err
	}
	o, err := v.open(p.owner())
	if err != nil {
		return err
	}
	left := make([]Touch, 0, len(l.touches))
	for i := range l.touches {
		if t := &l.touches[i]; keep(t) {
			left = append(left, *t)
		} else {
			o.note(t)
		}
	}
	if len(left) == len(l.touches) {
		return nil
	}
	l.touches, l.changed = left, true
	if len(left) == 0 && p.both() {
		return v.part(p)
	}
	return nil
}

// part takes a device and a person without touches out of each other's lists.
func (v *revision) part(p place) error {
	for _, x := range [...][2]subject.Slot{{p.person, p.device}, {p.device, p.person}} {
		if _, err := v.with(x[0]); err != nil {
			return err
		}
		v.leave(x[0], x[1])
	}
	return nil
}

// note widens what changed of a journey by a touch that came or went.
func (o *owner) note(t *Touch) {
	s, ok := o.changed[t.Site]
	if !ok {
		o.changed[t.Site] = &span{t.At, t.At}
		return
	}
	s.from, s.to = min(s.from, t.At), max(s.to, t.At)
}

// writes are what a revision changes in state.
type writes struct {
	rows    map[string][]byte // nil: deleted
	cells   counts
	moved   map[openPeriod][]subject.Slot // whose part of the cells changes
	recount bool                          // the cells are not known to be right any more, and are counted anew
}

// settle says what is to be written.
func (v *revision) settle() (*writes, error) {
	w := &writes{rows: map[string][]byte{}, cells: counts{}, moved: map[openPeriod][]subject.Slot{}, recount: v.broken}
	for slot, o := range v.owners {
		if len(o.changed) == 0 || !v.progress.counted(slot) {
			continue
		}
		s, err := v.subject(slot)
		if err != nil {
			return nil, err
		}
		after, err := v.journey(s)
		if err != nil {
			return nil, err
		}
		was, is := v.j.contributions(merge(o.before), v.begins, o.touched), v.j.contributions(after, v.begins, o.touched)
		for key := range differing(was, is) {
			w.moved[key] = append(w.moved[key], slot)
		}
		w.cells.move(was, is)
	}
	for p, l := range v.lists {
		if !l.changed {
			continue
		}
		if err := v.write(w, p, l.touches); err != nil {
			return nil, err
		}
	}
	for slot, x := range v.withs {
		if !x.changed {
			continue
		}
		s, err := v.subject(slot)
		if err != nil {
			return nil, err
		}
		key := s.RowKey(withTable, nil)
		w.rows[string(key)] = nil
		if len(x.slots) > 0 {
			w.rows[string(key)] = sealWith(s, key, x.slots)
		}
	}
	return w, nil
}

// touched says whether the journey's part in a period may have changed.
func (o *owner) touched(site string, p *period) bool {
	s, ok := o.changed[site]
	return ok && s.from < p.end.UnixMilli() && s.to >= p.start.Add(-lookback).UnixMilli()
}

// journey is the present touches of an owner.
func (v *revision) journey(s subject.Subject) ([]Touch, error) {
	places, err := v.places(s)
	if err != nil {
		return nil, err
	}
	var lists []list
	for _, p := range places {
		l, err := v.list(p)
		if err != nil {
			return nil, err
		}
		lists = append(lists, *l)
	}
	return merge(lists), nil
}

// merge is the touches of several places in the order of a journey.
func merge(lists []list) []Touch {
	lists = slices.DeleteFunc(slices.Clone(lists), func(l list) bool { return len(l.touches) == 0 })
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return lists[0].touches
	}
	var all []Touch
	for _, l := range lists {
		all = append(all, l.touches...)
	}
	slices.SortFunc(all, compareTouches)
	return all
}

func (v *revision) write(w *writes, p place, touches []Touch) error {
	key, _, err := v.opener(p)
	if err != nil {
		return err
	}
	w.rows[string(key)] = nil
	if len(touches) == 0 {
		return nil
	}
	s, err := v.subject(p.owner())
	if err != nil {
		return err
	}
	plain := encodeTouches(touches)
	if !p.both() {
		w.rows[string(key)] = s.Seal(ownTable, key, plain)
		return nil
	}
	device, err := v.subject(p.device)
	if err != nil {
		return err
	}
	w.rows[string(key)] = sealBoth(s, device, key, plain)
	return nil
}

// empty: the revision changes nothing.
func (w *writes) empty() bool { return len(w.rows) == 0 && len(w.cells) == 0 && !w.recount }

// weight is what the writes take of a change of state, at most.
func (w *writes) weight() (bytes int) {
	for key, value := range w.rows {
		bytes += len(key) + len(value) + state.RowOverhead
	}
	if !w.recount {
		bytes += w.cells.weight()
	}
	return bytes
}

// apply writes them.
func (w *writes) apply(t *state.Txn) error {
	for _, key := range slices.Sorted(maps.Keys(w.rows)) {
		if value := w.rows[key]; value != nil {
			t.Set([]byte(key), value)
		} else {
			t.Delete([]byte(key))
		}
	}
	if w.recount {
		return beginRecount(t)
	}
	return addCells(t, cellPrefix, w.cells)
}
