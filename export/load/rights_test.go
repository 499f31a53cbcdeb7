package load_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/pseudonymize"
)

// What a notice says is done to the batches it lists, and to no other.
func TestErase(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := newShop(t, format)
		s.load(t)
		s.g.Notify("gw1", export.EraseEntry, notice(s.device, s.person, nil, s.one))
		p := s.load(t)
		if p.Removed != 3 || p.Batches != 0 || p.Number != 3 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(s.theirs, s.more), nil)
		s.g.Notify("gw1", export.EraseEntry, notice(s.device, s.person, nil, s.one, s.two, "never-loaded"))
		s.load(t)
		holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), nil)
		checkForgotten(t, s.o.Dir, s.device, s.person)
		s.anew(t)
		holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), nil)
	})
}

// checkForgotten fails where a pseudonym is left anywhere in a folder but in pages that bbolt has not used again.
func checkForgotten(t *testing.T, folder string, pseudonyms ...*[16]byte) {
	t.Helper()
	for _, text := range append(loadtest.Lines(t, filepath.Join(folder, "events")), loadtest.Restricted(t, folder)...) {
		for _, p := range pseudonyms {
			if strings.Contains(text, hexText(p)) {
				t.Errorf("a pseudonym is left in a row")
			}
		}
	}
}

// A row that has another purpose stays, with what that purpose allows.
func TestWithdraw(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := newShop(t, format)
		s.load(t)
		n := notice(s.device, nil, []string{"audience"}, s.one, s.two)
		s.g.Notify("gw1", export.WithdrawEntry, n)
		if p := s.load(t); p.Reduced != 2 || p.Removed != 0 {
			t.Errorf("%+v", p)
		}
		left := cutBy(t, s.hers, n)
		if left[0].Campaign != "" || left[0].Properties["own_quality"] != "q" || left[0].Properties["page"] != "/thanks" || left[1].Device != nil {
			t.Fatalf("the test's own cut: %+v", left)
		}
		holds(t, s.o.Dir, lines(left, s.theirs, s.more), nil)
		n = notice(s.device, nil, []string{"quality", "audience"}, s.one, s.two)
		s.g.Notify("gw1", export.WithdrawEntry, n)
		if p := s.load(t); p.Removed != 2 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(cutBy(t, s.hers, n), s.theirs, s.more[1:]), nil)
	})
}

// Of a linked device's rows a withdrawal of linking takes the person, and what the person takes back goes though the device agreed to it.
func TestWithdrawLinking(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := newShop(t, format)
		linked := []pseudonymize.Row{
			s.g.Visit("gw1", s.device, s.person, "audience", "linking"), s.g.Visit("gw1", s.device, s.person, "audience", "linking", "quality"),
			s.g.Visit("gw1", s.device, somebody('p', 2), "audience", "linking"),
		}
		three := s.g.Publish("gw1", linked).Batch.ID
		s.load(t)
		holds(t, s.o.Dir, lines(s.hers, s.theirs, s.more, linked), nil)

		taken := notice(nil, s.person, []string{"audience"}, three)
		s.g.Notify("gw1", export.WithdrawEntry, taken)
		if p := s.load(t); p.Reduced != 1 || p.Removed != 1 {
			t.Errorf("%+v", p)
		}
		left := cutBy(t, linked, taken)
		if len(left) != 2 || left[0].Campaign != "" || !left[0].Linked() || left[0].Person == nil {
			t.Fatalf("the test's own cut: %+v", left)
		}
		holds(t, s.o.Dir, lines(s.hers, s.theirs, s.more, left), nil)

		unlinked := notice(s.device, nil, []string{"linking"}, three)
		s.g.Notify("gw1", export.WithdrawEntry, unlinked)
		if p := s.load(t); p.Reduced != 2 || p.Removed != 0 {
			t.Errorf("%+v", p)
		}
		left = cutBy(t, left, unlinked)
		if len(left) != 2 || left[0].Person != nil || left[1].Person != nil || left[1].Device == nil || left[1].Campaign != "summer" {
			t.Fatalf("the test's own cut: %+v", left)
		}
		holds(t, s.o.Dir, lines(s.hers, s.theirs, s.more, left), nil)
		s.anew(t)
		holds(t, s.o.Dir, lines(s.hers, s.theirs, s.more, left), nil)
	})
}

// A row is hidden while any restriction holds that is about it, and erasing reaches it there.
func TestRestrictLiftErase(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := newShop(t, format)
		s.load(t)
		s.g.Notify("gw1", export.RestrictEntry, notice(s.device, nil, nil, s.one, s.two), notice(nil, s.person, nil, s.one))
		if p := s.load(t); p.Restricted != 4 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), lines(s.hers, s.more[:1]))
		files, err := filepath.Glob(filepath.Join(s.o.Dir, "events/*/*/*"))
		if err != nil || len(files) != 2 {
			t.Errorf("files to be read: %q, %v", files, err)
		}
		s.g.Notify("gw1", export.LiftEntry, notice(s.device, nil, nil, s.one, s.two))
		if p := s.load(t); p.Lifted != 2 { // the row of both is her person's still
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(s.hers[:1], s.theirs, s.more), lines(s.hers[1:]))
		if status, err := load.ReadStatus(s.o.Dir); err != nil || status.Restricted != 2 || status.Rows != 6 {
			t.Errorf("%+v, %v", status, err)
		}
		s.g.Notify("gw1", export.EraseEntry, notice(nil, s.person, nil, s.one))
		s.g.Notify("gw1", export.LiftEntry, notice(nil, s.person, nil, s.one))
		if p := s.load(t); p.Removed != 2 || p.Lifted != 0 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(s.hers[:1], s.theirs, s.more), nil)
		s.anew(t)
		holds(t, s.o.Dir, lines(s.hers[:1], s.theirs, s.more), nil)
	})
}

// A restricted event that another batch brings again stays restricted.
func TestRestrictedComesAgain(t *testing.T) {
	s := newShop(t, load.NDJSON)
	s.g.Notify("gw1", export.RestrictEntry, notice(s.device, s.person, nil, s.one))
	s.g.Publish("gw1", s.hers)
	s.load(t)
	holds(t, s.o.Dir, lines(s.theirs, s.more), lines(s.hers))
}

// A withdrawal reaches rows under restriction, and leaves them there.
func TestWithdrawWhileRestricted(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.g.Notify("gw1", export.RestrictEntry, notice(s.device, s.person, nil, s.one))
	s.load(t)
	n := notice(s.device, nil, []string{"audience"}, s.one)
	s.g.Notify("gw1", export.WithdrawEntry, n)
	s.load(t)
	holds(t, s.o.Dir, lines(s.theirs, s.more), lines(cutBy(t, s.hers, n)))
}

// A batch that was loaded is brought to its new object; one that was not is loaded from it, and the old object may be gone.
func TestReplace(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := newShop(t, format)
		s.load(t)
		behind := s.o
		behind.Dir = t.TempDir() // a loader that begins later
		s.g.Notify("gw1", export.RestrictEntry, notice(nil, s.person, nil, s.one))
		s.load(t)
		n := notice(s.device, nil, []string{"audience"})
		reduced := cutBy(t, s.hers, n)
		s.remove(t, s.g.Replace(s.one, slices.Concat(reduced, s.theirs[1:])))
		if p := s.load(t); p.Removed != 1 || p.Reduced != 2 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(reduced[:1], s.theirs[1:], s.more), lines(reduced[1:]))
		s.remove(t, s.g.Replace(s.one, nil))
		s.remove(t, s.g.Replace(s.two, s.more[1:]))
		if p := s.load(t); p.Removed != 6 || p.Number != 6 {
			t.Errorf("%+v", p)
		}
		holds(t, s.o.Dir, lines(s.more[1:]), nil)
		if _, err := once(t, behind); err != nil {
			t.Fatal(err)
		}
		holds(t, behind.Dir, lines(s.more[1:]), nil)
		if status, err := load.ReadStatus(behind.Dir); err != nil || status.Batches != 2 || status.Rows != 1 {
			t.Errorf("%+v, %v", status, err)
		}
		files, err := filepath.Glob(filepath.Join(behind.Dir, "events/*/*/*"))
		if err != nil || len(files) != 1 {
			t.Errorf("files: %q, %v", files, err)
		}
	})
}

// An event that came with another batch stays that one's when the batch has another object; it can come again when it is gone.
func TestReplaceAndDuplicates(t *testing.T) {
	s := newShop(t, load.Parquet)
	third := s.g.Publish("gw1", slices.Concat(s.theirs, s.theirs[:1])).Batch.ID
	s.load(t)
	s.g.Replace(third, slices.Concat(s.theirs[1:], s.theirs[1:]))
	s.load(t)
	holds(t, s.o.Dir, s.everything(), nil)
	s.g.Replace(s.one, s.hers)
	s.load(t)
	holds(t, s.o.Dir, lines(s.hers, s.more), nil)
	s.g.Publish("gw2", s.theirs)
	s.load(t)
	holds(t, s.o.Dir, s.everything(), nil)
}

// What a notice took stays out, though the object has it still. An object that gives back one purpose and lacks another stops the stream.
func TestNoticeBeforeReplace(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.load(t)
	n := notice(s.device, nil, []string{"audience"}, s.one)
	s.g.Notify("gw1", export.WithdrawEntry, n)
	s.load(t)
	s.g.Replace(s.one, slices.Concat(s.hers, s.theirs[1:]))
	s.load(t)
	holds(t, s.o.Dir, lines(cutBy(t, s.hers, n), s.theirs[1:], s.more), nil)
	s.g.Replace(s.one, slices.Concat(cutBy(t, s.hers, notice(s.device, nil, []string{"quality"})), s.theirs[1:]))
	if _, err := once(t, s.o); !errors.Is(err, load.ErrStatement) || !strings.Contains(err.Error(), "next:") {
		t.Errorf("got %v", err)
	}
	holds(t, s.o.Dir, lines(cutBy(t, s.hers, n), s.theirs[1:], s.more), nil)
}

// The object of an entry that is being loaded is replaced and deleted just then.
func TestReplacedWhileLoading(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.o.Objects = intruded{s.o.Objects, func(key string) {
		if strings.Contains(key, "-000000000002.0.parquet.age") && s.more != nil {
			s.remove(t, s.g.Replace(s.two, s.more[1:]))
			s.more = s.more[1:]
		}
	}}
	_, err := once(t, s.o)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, s.o.Dir, s.everything(), nil)
}

// When all have acknowledged, the notice is deleted: a loader that begins anew takes the rewritten objects for it.
func TestNoticeGone(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.load(t)
	late := s.o // has loaded the old objects, and was away since
	s.remove(t, s.g.Replace(s.two, s.more[1:]))
	gone := s.g.Notify("gw1", export.EraseEntry, notice(s.device, s.person, nil, s.one, s.two))
	s.remove(t, gone)
	s.remove(t, s.g.Replace(s.one, s.theirs))
	want := lines(s.theirs, s.more[1:])
	late.Applied = func(_ string, number uint64, _ string) {
		if number == 4 { // it acknowledges what is so
			holds(t, late.Dir, want, nil)
		}
	}
	if _, err := once(t, late); err != nil {
		t.Fatal(err)
	}
	holds(t, late.Dir, want, nil)
	s.anew(t)
	holds(t, s.o.Dir, want, nil)

	s.g.Notify("gw1", export.RestrictEntry, notice(somebody('d', 2), nil, nil, s.one))
	s.load(t)
	s.remove(t, s.g.Notify("gw1", export.LiftEntry, notice(somebody('d', 2), nil, nil, s.one)))
	if _, err := once(t, s.o); !errors.Is(err, load.ErrNotice) || !strings.Contains(err.Error(), "restore the notice object") {
		t.Errorf("a lift that nobody can read: %v", err)
	}
	s.remove(t, export.NoticeKey(s.g.Destination, "gw1", 6))
	s.o.Dir = t.TempDir()
	if _, err := once(t, s.o); !errors.Is(err, load.ErrNotice) {
		t.Errorf("a restriction that nobody can read: %v", err)
	}
	holds(t, s.o.Dir, want, nil)
}

// A notice that is gone is passed over only where the whole stream can be read.
func TestNoticeGoneBeforeDamage(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.remove(t, s.g.Notify("gw1", export.EraseEntry, notice(s.device, s.person, nil, s.one, s.two)))
	s.g.Replace(s.one, s.theirs)
	entry := filepath.Join(s.store, export.EntryKey(s.g.Destination, "gw1", 4))
	text, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(entry, text[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := once(t, s.o); err == nil || !strings.Contains(err.Error(), "entry 3") {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(entry, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.g.Replace(s.two, s.more[1:])
	s.load(t)
	holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), nil)
}

// Notices that are not what the gateway signed, or not for this destination, change nothing and say what to do.
func TestWrongNotices(t *testing.T) {
	mine := func(t *testing.T, s *shop) []byte {
		one, err := export.SealNotice(notice(s.device, s.person, nil, s.one), s.g.Recipients)
		if err != nil {
			t.Fatal(err)
		}
		return export.PackNotices([][]byte{one})
	}
	for name, c := range map[string]struct {
		publish func(t *testing.T, s *shop)
		want    error
	}{
		"another destination's": {func(t *testing.T, s *shop) {
			s.g.NotifyObject("gw1", export.EraseEntry, mine(t, &shop{g: loadtest.New(t, s.g.Objects), device: s.device, person: s.person, one: s.one}), nil)
		}, export.ErrIdentity},
		"no notices": {func(t *testing.T, s *shop) { s.g.NotifyObject("gw1", export.EraseEntry, []byte("OCTN"), nil) }, export.ErrEntry},
		"other bytes": {func(t *testing.T, s *shop) {
			object := mine(t, s)
			key := s.g.NotifyObject("gw1", export.EraseEntry, object, nil)
			object[len(object)-1] ^= 1
			if err := os.WriteFile(filepath.Join(s.store, key), object, 0o600); err != nil {
				t.Fatal(err)
			}
		}, load.ErrHash},
		"a longer one": {func(t *testing.T, s *shop) {
			object := mine(t, s)
			key := s.g.NotifyObject("gw1", export.EraseEntry, object, nil)
			if err := os.WriteFile(filepath.Join(s.store, key), append(object, object...), 0o600); err != nil {
				t.Fatal(err)
			}
		}, load.ErrHash},
		"cut before it was signed": {func(t *testing.T, s *shop) {
			object := mine(t, s)
			s.g.NotifyObject("gw1", export.EraseEntry, object[:len(object)-9], nil)
		}, export.ErrEntry},
		"another gateway's": {func(t *testing.T, s *shop) {
			forger := loadtest.New(t, s.g.Objects)
			key := s.g.Key
			s.g.Key = forger.Key
			s.g.NotifyObject("gw1", export.EraseEntry, mine(t, s), nil)
			s.g.Key = key
		}, export.ErrSignature},
		"of another node's batch": {func(t *testing.T, s *shop) {
			theirs := s.g.Publish("gw2", s.g.Rows("gw2", 1))
			s.g.ReplaceAs("gw1", theirs.Batch.ID, s.g.Rows("gw1", 1))
		}, load.ErrStatement},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, load.Parquet)
			s.load(t)
			c.publish(t, s)
			_, err := once(t, s.o)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "next:") {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if strings.Contains(err.Error(), hexText(s.device)) {
				t.Error("the error names a person")
			}
			for _, line := range s.everything() {
				if !slices.Contains(loadtest.Lines(t, filepath.Join(s.o.Dir, "events")), line) {
					t.Error("a row is gone or changed")
				}
			}
			checkOwnFiles(t, s.o.Dir)
		})
	}
}

// A file that is not the one that was loaded is not rewritten: what somebody made of it, the loader cannot answer for.
func TestChangedFolder(t *testing.T) {
	for name, change := range map[string]func(string) error{
		"removed": os.Remove,
		"changed": func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(text, []byte("mail"), []byte("post"), 1), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, load.NDJSON)
			s.load(t)
			path := filepath.Join(s.o.Dir, "events/dt=2026-11-21/hour=18", s.one+".ndjson")
			kept, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			s.g.Notify("gw1", export.EraseEntry, notice(s.device, s.person, nil, s.one, s.two))
			if _, err := once(t, s.o); !errors.Is(err, load.ErrChanged) || !strings.Contains(err.Error(), "next: put the files back") {
				t.Fatalf("got %v", err)
			}
			if err := os.WriteFile(path, kept, 0o600); err != nil {
				t.Fatal(err)
			}
			s.load(t)
			holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), nil)
		})
	}
}

// The positions are told at the start and after each entry.
func TestApplied(t *testing.T) {
	s := newShop(t, load.Parquet)
	var told []uint64
	var hash string
	s.o.Applied = func(node string, number uint64, sha256 string) {
		if node != "gw1" {
			t.Errorf("node %q", node)
		}
		told, hash = append(told, number), sha256
	}
	s.load(t)
	s.g.Notify("gw1", export.EraseEntry, notice(s.device, nil, nil, s.one))
	s.load(t)
	if !slices.Equal(told, []uint64{1, 2, 2, 3}) {
		t.Errorf("told %v", told)
	}
	token, err := os.ReadFile(filepath.Join(s.store, export.EntryKey(s.g.Destination, "gw1", 3)))
	if err != nil || hash != export.EntryHash(string(token)) {
		t.Errorf("told %s, %v", hash, err)
	}
}

func hexText(p *[16]byte) string { return hex.EncodeToString(p[:]) }

// intruded lets something happen before an object is read.
type intruded struct {
	export.Objects
	before func(key string)
}

func (i intruded) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	i.before(key)
	return i.Objects.Get(ctx, key, version)
}
