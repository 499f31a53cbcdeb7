package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// diskOf is a disk with copies of the given files.
func diskOf(files map[string][]byte) *memory {
	d := newMemory()
	for name, content := range files {
		d.names[name] = &inode{data: bytes.Clone(content), durable: bytes.Clone(content)}
	}
	return d
}

func mustOpenDisk(t testing.TB, d disk) *Spool {
	t.Helper()
	s, err := openDisk(options(""), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filesOf reads the files of a closed spool.
func filesOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

const firstSegment = "00000000000000000000.segment"

// oneSegment is a closed spool of three groups in one segment, with the offset of the last.
func oneSegment(t *testing.T) (files map[string][]byte, last int) {
	t.Helper()
	o := options(t.TempDir())
	s := mustOpen(t, o)
	mustPut(t, s, "a", "b")
	mustPut(t, s, "c")
	before := s.Stats().Bytes
	mustPut(t, s, "d", "e")
	mustClose(t, s)
	return filesOf(t, o.Dir), int(before)
}

// A kill in the middle of the last write leaves any prefix of it, or zeros or old bytes in its place: what was acknowledged
// before is there, and nothing else.
func TestTornTail(t *testing.T) {
	files, last := oneSegment(t)
	whole := files[firstSegment]
	check := func(tail []byte) {
		t.Helper()
		d := diskOf(map[string][]byte{firstSegment: append(bytes.Clone(whole[:last]), tail...)})
		s := mustOpenDisk(t, d)
		want := []string{"a", "b", "c"}
		if bytes.Equal(bytes.TrimRight(tail, "\x00"), whole[last:]) {
			want = append(want, "d", "e")
		}
		equalAll(t, "events", ids(t, s), want)
		equalAll(t, "sent again", mustPut(t, s, "d", "e", "f"), []bool{len(want) == 5, len(want) == 5, false})
		mustClose(t, s)
		s = mustOpenDisk(t, d)
		equalAll(t, "events after reopening", ids(t, s), []string{"a", "b", "c", "d", "e", "f"})
		equal(t, "cut", s.Stats().Cut, 0)
		mustClose(t, s)
	}
	zeros := make([]byte, len(whole)-last)
	for n := range len(whole) - last + 1 {
		check(whole[last : last+n])
		check(append(bytes.Clone(whole[last:last+n]), zeros...)) // what was written ahead
	}
	check(zeros)
	check(append(append([]byte(nil), whole[last:last+60]...), zeros[60:]...))   // second page lost
	check(append(append([]byte(nil), zeros[:60]...), whole[last+60:]...))       // first page lost
	check([]byte(strings.Repeat(blockMagic, 50)))                               // not even random
	check(append(bytes.Clone(whole[last:len(whole)-1]), whole[len(whole)-1]^1)) // last byte wrong
}

// Any changed byte before the last group is damage, and is named with file and offset of its block.
func TestDamageIsNamed(t *testing.T) {
	files, last := oneSegment(t)
	second := blockHeader + 2*(recordHeader+len("sealed a"))
	for i := range last {
		changed := bytes.Clone(files[firstSegment])
		changed[i] ^= 0x40
		_, err := openDisk(options(""), diskOf(map[string][]byte{firstSegment: changed}))
		at := 0
		if i >= second {
			at = second
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("%s at byte %d:", firstSegment, at)) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// manySegments is a closed spool of several segments, all but the last with an index.
func manySegments(t *testing.T) (files map[string][]byte, events []string) {
	t.Helper()
	o := options(t.TempDir())
	o.SegmentBytes = 200
	s := mustOpen(t, o)
	for i := range 6 {
		events = append(events, numbered(fmt.Sprint("event", i), 3)...)
		mustPut(t, s, events[3*i:]...)
	}
	if err := s.tidy(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	files = filesOf(t, o.Dir)
	equal(t, "files", len(files), 11)
	return files, events
}

func TestIndexIsRebuilt(t *testing.T) {
	files, events := manySegments(t)
	files["00000000000000000099.draft"] = []byte("half")
	for name := range files {
		if !strings.HasSuffix(name, indexSuffix) {
			continue
		}
		for what, content := range map[string][]byte{"removed": nil, "changed": append([]byte{0}, files[name][1:]...), "cut": files[name][:70]} {
			others := make(map[string][]byte)
			for n, c := range files {
				others[n] = c
			}
			if others[name] = content; content == nil {
				delete(others, name)
			}
			s, err := openDisk(options(""), diskOf(others))
			if err != nil {
				t.Fatalf("%s %s: %v", name, what, err)
			}
			equalAll(t, "events", ids(t, s), events)
			equalAll(t, "duplicates", mustPut(t, s, events[0], events[17], "new"), []bool{true, true, false})
			mustClose(t, s)
		}
	}
}

func TestDamageBetweenSegments(t *testing.T) {
	const (
		third      = "00000000000000000006.segment"
		thirdIndex = "00000000000000000006.index"
		last       = "00000000000000000015.segment"
	)
	for what, test := range map[string]struct {
		change func(files map[string][]byte)
		name   string
	}{
		"segment missing":           {func(f map[string][]byte) { delete(f, third); delete(f, thirdIndex) }, "00000000000000000003.segment"},
		"only segment missing":      {func(f map[string][]byte) { delete(f, third) }, thirdIndex},
		"last segment missing":      {func(f map[string][]byte) { delete(f, last) }, "00000000000000000012.index"},
		"segment cut":               {func(f map[string][]byte) { f[third] = f[third][:100] }, third},
		"segment cut without index": {func(f map[string][]byte) { f[third] = f[third][:100]; delete(f, thirdIndex) }, third},
		"segment changed without index": {func(f map[string][]byte) {
			f[third] = append([]byte{0}, f[third][1:]...)
			delete(f, thirdIndex)
		}, third + " at byte 0"},
		"segments missing": {func(f map[string][]byte) {
			for name := range f {
				if strings.HasSuffix(name, segmentSuffix) {
					delete(f, name)
				}
			}
		}, "there is no segment after it"},
		"later version": {func(f map[string][]byte) { f[last] = laterVersion(f[last]) }, "later version"},
	} {
		t.Run(what, func(t *testing.T) {
			files, _ := manySegments(t)
			test.change(files)
			_, err := openDisk(options(""), diskOf(files))
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), test.name) {
				t.Fatal(err)
			}
		})
	}
}

// laterVersion is a block as a later program may write it: the header's checksum holds.
func laterVersion(raw []byte) []byte {
	h, _ := parseBlock(raw)
	b := bytes.Clone(raw)
	finishBlock(b, h)
	b[4] = 2
	putHeaderCheck(b)
	return b
}

// Damage inside a segment that has an index is found when it is read, and stops nobody from appending.
func TestDamageShowsInPeek(t *testing.T) {
	files, events := manySegments(t)
	const third = "00000000000000000006.segment"
	for i := range files[third] {
		changed := make(map[string][]byte)
		for name, content := range files {
			changed[name] = bytes.Clone(content)
		}
		changed[third][i] ^= 1
		s := mustOpenDisk(t, diskOf(changed))
		records, err := s.Peek(t.Context(), 3, 3)
		if err != nil || len(records) != 3 {
			t.Fatalf("before the damage: %v", err)
		}
		if _, err = s.Peek(t.Context(), 6, 1); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), third+" at byte 0") {
			t.Fatalf("byte %d: %v", i, err)
		}
		if records, err = s.Peek(t.Context(), 9, 9); err != nil || len(records) != 9 {
			t.Fatalf("after the damage: %v", err)
		}
		equalAll(t, "duplicates", mustPut(t, s, events[7], "new"), []bool{true, false})
		mustClose(t, s)
	}
}

func TestDamagedIndexOfDeletedSegment(t *testing.T) {
	files, _ := manySegments(t)
	const first = "00000000000000000000"
	delete(files, first+segmentSuffix)
	mustClose(t, mustOpenDisk(t, diskOf(files)))
	for i := range files[first+indexSuffix] {
		changed := make(map[string][]byte)
		for name, content := range files {
			changed[name] = bytes.Clone(content)
		}
		changed[first+indexSuffix][i] ^= 1
		if _, err := openDisk(options(""), diskOf(changed)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), first+indexSuffix) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// A segment may hold more than was acknowledged: the next one's name says where it ends.
func TestLeftoversAreIgnored(t *testing.T) {
	files, last := oneSegment(t)
	files["00000000000000000003.segment"] = nil
	s := mustOpenDisk(t, diskOf(files))
	equalAll(t, "events", ids(t, s), []string{"a", "b", "c"})
	equalAll(t, "sent again", mustPut(t, s, "d", "a"), []bool{false, true})
	if err := s.tidy(); err != nil {
		t.Fatal(err)
	}
	equalAll(t, "events", ids(t, s), []string{"a", "b", "c", "d"})
	mustClose(t, s)
	files[firstSegment] = files[firstSegment][:last+17]
	equalAll(t, "events", ids(t, mustOpenDisk(t, diskOf(files))), []string{"a", "b", "c"})
}

// The window of 24 hours survives restarts, and the segments.
func TestWindowSurvives(t *testing.T) {
	o, c := options(t.TempDir()), newClock()
	o.Now, o.SegmentBytes = c.Now, 200
	for hour := range 24 {
		s := mustOpen(t, o)
		mustPut(t, s, fmt.Sprint("hour", hour))
		for earlier := range hour {
			equalAll(t, "duplicate", mustPut(t, s, fmt.Sprint("hour", earlier)), []bool{true})
		}
		if err := s.Release(s.Tail() - uint64(hour%2)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		c.advance(time.Hour)
	}
	s := mustOpen(t, o)
	st := s.Stats()
	if st.WindowShrunk || st.WindowEvents != 24 || st.WindowSpan != 24*time.Hour {
		t.Fatalf("%+v", st)
	}
	c.advance(24 * time.Hour)
	if err := s.Release(s.Tail()); err != nil {
		t.Fatal(err)
	}
	equalAll(t, "after the window", mustPut(t, s, "hour3"), []bool{false})
	if indexes, err := filepath.Glob(filepath.Join(o.Dir, "*.index")); err != nil || len(indexes) > 1 {
		t.Fatalf("indexes that nobody needs: %v, %v", indexes, err)
	}
}

// A window that is too small for the traffic says so, also after a restart.
func TestWindowShrinks(t *testing.T) {
	o, c := options(t.TempDir()), newClock()
	o.Now, o.SegmentBytes, o.WindowCount = c.Now, 2000, 100
	s := mustOpen(t, o)
	mustPut(t, s, numbered("early", 25)...)
	for i := range 10 {
		if i < 3 && s.Stats().WindowShrunk {
			t.Fatal("shrunk too early")
		}
		c.advance(time.Minute)
		mustPut(t, s, numbered(fmt.Sprint("batch", i), 25)...)
	}
	check := func() {
		t.Helper()
		st := s.Stats()
		if !st.WindowShrunk || st.WindowEvents > 100 || st.WindowEvents < 75 || st.WindowSpan > 5*time.Minute || st.WindowSpan < 3*time.Minute {
			t.Fatalf("%+v", st)
		}
	}
	check()
	if err := s.Release(100); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	c.advance(time.Second)
	s = mustOpen(t, o)
	check()
	equalAll(t, "duplicates", mustPut(t, s, "batch9-3", "early-3"), []bool{true, false})
	if err := s.Release(s.Tail()); err != nil {
		t.Fatal(err)
	}
	var hashes int64
	indexes, err := filepath.Glob(filepath.Join(o.Dir, "*.index"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range indexes {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		hashes += st.Size() / 16
	}
	if hashes > 200 {
		t.Fatalf("%d hashes are kept in files", hashes)
	}
	c.advance(25 * time.Hour)
	mustPut(t, s, "late")
	if st := s.Stats(); st.WindowShrunk || st.WindowEvents != 1 {
		t.Fatalf("a day later: %+v", st)
	}
}

func FuzzSegment(f *testing.F) {
	seed := func(entries ...entry) []byte {
		b, n := make([]byte, blockHeader), len(entries)
		for i := range entries {
			b = appendRecord(b, &entries[i].sealed, hash{byte(i)})
		}
		finishBlock(b, block{records: n, least: 7, written: 1})
		return b
	}
	one := seed(sample("a"))
	f.Add([]byte{})
	f.Add(one)
	f.Add(seed(samples("a", "b", "c")...))
	f.Add(append(bytes.Clone(one), one...))
	f.Add(one[:len(one)-1])
	f.Add([]byte(strings.Repeat(blockMagic, 100)))
	f.Add(laterVersion(one))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, next := range []string{"", fileName(1, segmentSuffix)} {
			d := newMemory()
			d.names[firstSegment] = &inode{data: bytes.Clone(raw)}
			if next != "" {
				d.names[next] = &inode{}
			}
			s, err := openDisk(options(""), d)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				continue
			}
			before := ids(t, s)
			equal(t, "events", uint64(len(before)), s.Tail())
			mustPut(t, s, "unlikely")
			if err := s.Release(s.Tail()); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
		}
	})
}

func FuzzIndex(f *testing.F) {
	x := index{content: content{end: 2, length: 300, marks: []mark{{0, 0}, {1, 100}}}, hashes: make([]byte, 32)}
	f.Add(x.encode()[:indexHeader+2*16+2*16])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := decodeIndex(withCheck(raw))
		if err == nil && !bytes.Equal(x.encode(), withCheck(raw)) {
			t.Fatal("an index is not what its bytes say")
		}
	})
}
