package rights

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// servant is a custodian that obeys and checks nothing: what the gateway checks is what is tested here. It really decrypts, cuts, puts and deletes.
type servant struct {
	w    *world
	name string
	read int // objects
}

// serve does all that the gateway asks for now.
func (s *servant) serve(ctx context.Context) error {
	work, err := s.w.work()
	if err != nil {
		return err
	}
	items := map[string]*proof.Item{}
	for i := range work.Items {
		items[work.Items[i].Job.Request] = &work.Items[i]
	}
	for i := range work.Batches {
		if err := s.batch(ctx, &work.Batches[i], items); err != nil {
			return fmt.Errorf("batch %s: %w", work.Batches[i].ID, err)
		}
	}
	for id, item := range items {
		switch item.Stage {
		case proof.StageCollect:
			err = s.collect(ctx, item, work)
		case proof.StageCertify:
			err = s.certify(ctx, item)
		}
		if err != nil {
			return fmt.Errorf("item %s: %w", id, err)
		}
	}
	return nil
}

func (s *servant) batch(ctx context.Context, b *proof.WorkBatch, items map[string]*proof.Item) error {
	switch b.Stage {
	case proof.BatchRewrite:
		report, err := s.rewrite(ctx, b, items)
		if err != nil {
			return err
		}
		return s.report(ctx, b, report)
	case proof.BatchPurge:
		text, err := s.purge(ctx, b)
		if err != nil {
			return err
		}
		id, err := export.ParseBatchID(b.ID)
		if err != nil {
			return err
		}
		return s.w.purgedBatch(ctx, id, text)
	}
	return nil
}

func (s *servant) report(ctx context.Context, b *proof.WorkBatch, report proof.Rewrite) error {
	text, err := proof.SignRewrite(report, custodianKey)
	if err != nil {
		return err
	}
	id, err := export.ParseBatchID(b.ID)
	if err != nil {
		return err
	}
	_, err = s.w.rewritten(ctx, id, text)
	return err
}

// stated is the batch of a signed entry.
func (s *servant) stated(text string) (export.Entry, error) {
	for _, x := range s.w.exits {
		if e, err := export.VerifyEntry(text, x.Destination.Name(), signingKey.Public().(ed25519.PublicKey)); err == nil {
			return e, nil
		}
	}
	return export.Entry{}, export.ErrEntry
}

func (s *servant) rows(ctx context.Context, b *export.Batch) (rows []pseudonymize.Row, err error) {
	s.read++
	return readBatchRows(ctx, s.w.archive, b, s.w.identities("custodian"))
}

func readBatchRows(ctx context.Context, from export.Objects, b *export.Batch, ids export.Identities) (rows []pseudonymize.Row, err error) {
	body, err := from.Get(ctx, b.Key, b.Version)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	plain, err := export.Unseal(body, ids)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		return nil, err
	}
	err = export.DecodeRows(bytes.NewReader(text), int64(len(text)), func(some []pseudonymize.Row) error {
		rows = append(rows, slices.Clone(some)...)
		return nil
	})
	return rows, err
}

// rewrite cuts a batch for all items, and puts what is left.
func (s *servant) rewrite(ctx context.Context, b *proof.WorkBatch, items map[string]*proof.Item) (r proof.Rewrite, err error) {
	entry, err := s.stated(b.Entry)
	if err != nil {
		return r, err
	}
	batch := entry.Object()
	rows, err := s.rows(ctx, batch)
	if err != nil {
		return r, err
	}
	r = proof.Rewrite{Version: 1, Batch: b.ID, Before: batch.SHA256, Scanned: len(rows), Cut: map[string]proof.Cut{}, At: s.w.now().UTC()}
	changed := false
	for _, request := range b.Items {
		var n proof.Cut
		cut, err := cutOf(items[request], entry.Destination, s.w.now())
		if err != nil {
			return r, err
		}
		rows = cutRows(&cut, rows, &n)
		r.Cut[request] = n
		changed = changed || n != proof.Cut{}
	}
	if !changed {
		r.Unchanged = true
		return r, nil
	}
	id, err := export.ParseBatchID(b.ID)
	if err != nil {
		return r, err
	}
	claim, err := s.w.claim(ctx, id, s.name)
	if err != nil {
		return r, err
	}
	r.Generation = claim.Generation
	if len(rows) > 0 {
		r.Now, err = s.put(ctx, entry.Destination, batch, claim.Key, rows)
	}
	return r, err
}

// cutRows cuts rows in place, and counts.
func cutRows(cut *export.Cut, rows []pseudonymize.Row, n *proof.Cut) []pseudonymize.Row {
	kept := rows[:0]
	for i := range rows {
		keep, changed := cut.Row(&rows[i])
		switch {
		case !keep:
			n.Erased++
			continue
		case changed:
			n.Reduced++
		}
		kept = append(kept, rows[i])
	}
	return kept
}

// cutOf is what an item takes at a destination.
func cutOf(item *proof.Item, destination string, now time.Time) (export.Cut, error) {
	if item.Job.Origin == proof.ByRetention {
		schedule, err := proof.VerifySchedule(item.Approval, approvalKey.Public().(ed25519.PublicKey))
		if err != nil {
			return export.Cut{}, err
		}
		cut := export.Cut{Expired: map[string]time.Time{}, Rules: schedule.Rules}
		for _, p := range item.Job.Purposes {
			cut.Expired[p] = now // the gateway offers only what is over
		}
		return cut, nil
	}
	n := export.Notice{Version: 1, Purposes: item.Job.Purposes, Rules: item.Job.Rules}
	for _, w := range item.Job.Destinations {
		if w.Destination == destination {
			n.Devices, n.Persons = w.Devices, w.Persons
		}
	}
	return export.CutOf(n)
}

// put seals rows under a claimed key for the recipients of the batch.
func (s *servant) put(ctx context.Context, destination string, was *export.Batch, key string, rows []pseudonymize.Row) (*export.Batch, error) {
	var object bytes.Buffer
	sealed, err := export.Seal(&object, s.w.recipients(destination))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(export.EncodeRows(sealed, rows), sealed.Close()); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(object.Bytes())
	version, err := s.w.archive.Put(ctx, key, bytes.NewReader(object.Bytes()), int64(object.Len()), sum)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Key, now.Version, now.SHA256, now.Size, now.Rows = key, version, hex.EncodeToString(sum[:]), int64(object.Len()), len(rows)
	now.From, now.To, now.Purposes = rows[0].ReceivedAt, rows[0].ReceivedAt, nil
	for _, row := range rows {
		if row.ReceivedAt.Before(now.From) {
			now.From = row.ReceivedAt
		}
		if row.ReceivedAt.After(now.To) {
			now.To = row.ReceivedAt
		}
		for _, g := range row.Grants {
			now.Purposes = append(now.Purposes, g.Purpose)
		}
	}
	now.Purposes = slices.Compact(slices.Sorted(slices.Values(now.Purposes)))
	return &now, nil
}

// purge deletes every other generation of a batch.
func (s *servant) purge(ctx context.Context, b *proof.WorkBatch) (string, error) {
	entry, err := s.stated(b.Entry)
	if err != nil {
		return "", err
	}
	replaced, err := s.stated(b.Replaced)
	if err != nil {
		return "", err
	}
	p := proof.Purge{Version: 1, Batch: b.ID, Verified: s.w.now().UTC()}
	if now := entry.Object(); now != nil {
		p.Current = now.Key
	}
	old := replaced.Object().Key
	name := old[:strings.LastIndexByte(strings.TrimSuffix(old, ".parquet.age"), '.')+1]
	err = s.w.archive.Versions(ctx, name, func(v export.ObjectVersion) error {
		if v.Key == p.Current {
			return nil
		}
		p.Deleted = append(p.Deleted, proof.Gone{Key: v.Key, Version: v.Version, Marker: v.Marker})
		return s.w.archive.DeleteVersion(ctx, v.Key, v.Version)
	})
	if err != nil {
		return "", err
	}
	slices.SortFunc(p.Deleted, proof.Gone.Compare)
	return proof.SignPurge(p, custodianKey)
}

// collect makes an access package.
func (s *servant) collect(ctx context.Context, item *proof.Item, work *proof.Work) error {
	report, object, err := s.makePackage(ctx, item, work)
	if err != nil {
		return err
	}
	text, err := proof.SignCollected(report, custodianKey)
	if err != nil {
		return err
	}
	return s.w.receive(ctx, item.Job.Request, text, bytes.NewReader(object))
}

func (s *servant) makePackage(ctx context.Context, item *proof.Item, work *proof.Work) (r proof.Collected, object []byte, err error) {
	var m access.Material
	if err := decode(item.Material, &m); err != nil {
		return r, nil, err
	}
	found := access.Found{Own: map[[16]byte]bool{}, At: s.w.now()}
	rows := map[string][]pseudonymize.Row{}
	for _, whose := range item.Job.Destinations {
		found.Destinations = append(found.Destinations, whose.Destination)
		for _, text := range slices.Concat(whose.Devices, whose.Persons, whose.With) {
			b, err := hex.DecodeString(text)
			if err != nil {
				return r, nil, err
			}
			found.Own[[16]byte(b)] = true
		}
	}
	for i := range work.Batches {
		b := &work.Batches[i]
		if !slices.Contains(item.Batches, b.ID) {
			continue
		}
		entry, err := s.stated(b.Entry)
		if err != nil {
			return r, nil, err
		}
		all, err := s.rows(ctx, entry.Object())
		if err != nil {
			return r, nil, err
		}
		found.Objects++
		for _, row := range all {
			if own := found.Own; row.Device != nil && own[*row.Device] && (row.Person == nil || own[*row.Person]) || m.Kind == "person" && row.Person != nil && own[*row.Person] {
				rows[entry.Destination] = append(rows[entry.Destination], row)
			}
		}
	}
	if found.Objects != len(item.Batches) {
		return r, nil, fmt.Errorf("%d of %d batches were offered", found.Objects, len(item.Batches))
	}
	found.Rows = func(destination string, fn func([]pseudonymize.Row) error) error { return fn(rows[destination]) }
	var zip bytes.Buffer
	counts, err := access.Write(&zip, m, found, "en")
	if err != nil {
		return r, nil, err
	}
	sum := sha256.Sum256(zip.Bytes())
	return proof.Collected{
		Version: 1, Request: item.Job.Request, SHA256: hex.EncodeToString(sum[:]), Size: int64(zip.Len()), Objects: found.Objects,
		Rows: counts, At: s.w.now().UTC(),
	}, zip.Bytes(), nil
}

// certify signs whatever the gateway offers.
func (s *servant) certify(ctx context.Context, item *proof.Item) error {
	text, err := s.certificate(item, nil)
	if err != nil {
		return err
	}
	return s.w.certify(ctx, item.Job.Request, text)
}

func (s *servant) certificate(item *proof.Item, forge func(*proof.Certificate)) (string, error) {
	j := &item.Job
	c := proof.Certificate{
		Version: 1, Node: j.Node, Request: j.Request, Right: j.Right, Origin: j.Origin, Purposes: j.Purposes, Facts: *item.Facts,
		Method: "rewritten by version", Completed: s.w.now().UTC(),
	}
	if item.Approval != "" {
		c.Approved = proof.Digest(item.Approval)
	}
	for _, x := range item.Facts.Recipients {
		c.Systems = append(c.Systems, proof.System{Destination: x.Destination, Objects: 1, Rewritten: 1, Rows: 1, Versions: 1})
	}
	if forge != nil {
		forge(&c)
	}
	return proof.SignCertificate(c, custodianKey)
}
