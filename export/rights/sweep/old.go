package sweep

import (
	"context"
	"regexp"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// journalDays is how long a suppression is kept: as long as a backup or an import may bring somebody back (rights.md "Erasure": 90 days), and a
// week. By the custodian's own clock: a gateway that could have it deleted sooner could bring the erased back.
const journalDays = 97

// suppressions/<node>/dt=YYYY-MM-DD/<request id>.bin
var journalKey = regexp.MustCompile(`^suppressions/([a-z0-9][a-z0-9_-]{0,62})/dt=(\d{4}-\d{2}-\d{2})/[0-9a-f-]{36}\.bin$`)

// old deletes notices that every loader has read, and suppressions that are over.
func (p *pass) old(ctx context.Context, work *proof.Work) error {
	for _, n := range work.Notices {
		key, err := p.s.noticeKey(ctx, n.Entry)
		if err := p.remove(ctx, key, err, func(r *Report) { r.Notices++ }); err != nil {
			return err
		}
	}
	for _, j := range work.Journal {
		err := p.s.checkJournal(j.Key)
		if err := p.remove(ctx, j.Key, err, func(r *Report) { r.Journal++ }); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes every version of one object, unless err says why not. What fails is logged once; the error is fatal.
func (p *pass) remove(ctx context.Context, key string, err error, done func(*Report)) error {
	n := 0
	if err == nil && p.first("remove "+key) {
		n, err = p.removeAll(ctx, key)
	}
	switch why := reasonOf(err); {
	case err == nil && n > 0:
		p.count(done)
	case err == nil:
	case fatal(ctx, err):
		return err
	case !p.knows("remove "+why.Detail, why):
		p.tell("remove "+why.Detail, why)
		p.s.o.Logger.Warn("an object that is over could not be deleted", "code", why.Code, "detail", why.Detail)
	}
	return nil
}

func (p *pass) removeAll(ctx context.Context, key string) (n int, err error) {
	versions, err := p.versions(ctx, key)
	if err != nil {
		return 0, err
	}
	for _, v := range versions {
		if v.Key != key {
			continue
		}
		if err := p.s.o.Archive.DeleteVersion(ctx, v.Key, v.Version); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// noticeKey is the object that a verified entry names as its notice, where it is one.
func (s *Sweep) noticeKey(ctx context.Context, token string) (string, error) {
	e, err := s.published(ctx, token)
	if err != nil {
		return "", err
	}
	switch e.Type {
	case export.EraseEntry, export.WithdrawEntry, export.RestrictEntry, export.LiftEntry:
	default:
		return "", refusal(FailedEntry, "an entry of type %q names no notice", e.Type)
	}
	key := export.NoticeKey(e.Destination, e.Node, e.Number)
	if e.Notice == nil || e.Notice.Key != key {
		return "", refusal(FailedEntry, "it names another object than its notice")
	}
	return key, nil
}

func (s *Sweep) checkJournal(key string) error {
	m := journalKey.FindStringSubmatch(key)
	if m == nil || m[1] != s.node {
		return refusal(FailedEntry, "it is no suppression of this node")
	}
	day, err := time.Parse(time.DateOnly, m[2])
	if err != nil {
		return refusal(FailedEntry, "it is no suppression of this node")
	}
	if over := day.AddDate(0, 0, journalDays+1); s.o.Now().Before(over) {
		return refusal(FailedEntry, "a suppression is kept until %s", over.Format(time.DateOnly))
	}
	return nil
}
