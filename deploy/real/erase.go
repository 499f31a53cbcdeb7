package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"golang.org/x/sync/errgroup"
)

// erase erases customers while every program is killed at random, and compares what all holders have before and after.
func (r *run) erase(ctx context.Context, o *office, leaving []customer) error {
	whose, err := r.erasures(ctx, o, leaving)
	if err != nil {
		return err
	}
	if err := r.loadRest(ctx); err != nil {
		return err
	}
	now := holdings{}
	after, err := r.readAll(ctx, now)
	if err := errors.Join(err, r.readFolders(now)); err != nil {
		return err
	}
	for _, d := range destinations {
		touched := maps.Clone(r.versions[d.name])
		maps.DeleteFunc(touched, func(version string, _ bool) bool { return after[d.name][version] })
		fmt.Printf("%-11s %d of %d objects were touched; no version and no delete marker of them is left\n", d.name+":", len(touched), len(r.versions[d.name]))
	}
	if err := r.compareErased(ctx, now, whose); err != nil {
		return err
	}
	return r.verify(ctx)
}

// erasures lets the programs carry out the erasures, with kills, and checks the certificates; it answers whose requests there were.
func (r *run) erasures(ctx context.Context, o *office, leaving []customer) (whose map[string]customer, err error) {
	gateway := r.serve()
	if err := r.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, gateway.end())
	}
	loaders := r.follow(func(d destination) []string {
		return []string{"--poll", "500ms", "--ack-url", "http://" + r.private, "--ack-token-file", r.path("warehouse", d.name, "load.token")}
	})
	custodian := r.supervise("custodian", filepath.Join(r.bin, "octroi-custodian"), "run", "--config", r.path("custodian", "custodian.yaml"))
	defer func() { err = errors.Join(err, end(append([]*supervised{custodian}, append(loaders, gateway)...))) }()
	if whose, err = o.ask(ctx, "erasure", leaving); err != nil {
		return nil, err
	}
	killed := []doomed{
		{"gateway", []*supervised{gateway}, r.rightsKills}, {"custodian", []*supervised{custodian}, r.rightsKills}, {"loaders", loaders, r.rightsKills},
	}
	start, completed := time.Now(), time.Time{}
	err = r.killing(ctx, time.Second, func() error {
		if err := o.approveInTurn(ctx, ids(whose)); err != nil {
			return err
		}
		err := o.await(ctx, whose, func() error { return wait(ctx, 500*time.Millisecond) })
		completed = time.Now()
		printKills(" before the last erasure was completed", killed...)
		return err
	}, killed...)
	if err != nil {
		return nil, err
	}
	return whose, errors.Join(o.measure(ctx, whose, start, completed), o.certified(ctx, whose), o.again(ctx, leaving))
}

// approveInTurn approves requests in five parts, so that there is always something new while other things are half done.
func (o *office) approveInTurn(ctx context.Context, ids []string) error {
	for part := range slices.Chunk(ids, max(1, len(ids)/5)) {
		if err := errors.Join(o.approve(ctx, part), wait(ctx, 2*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// again sends the purchases and choices of the erased a second time, under new ids, as an import of last night's file would: none is taken.
func (o *office) again(ctx context.Context, leaving []customer) error {
	till, err := o.run.token(ctx, "events:write,consent:write,consent:import", "service")
	if err != nil {
		return err
	}
	notice, err := o.notice(ctx)
	if err != nil {
		return err
	}
	for _, c := range leaving {
		answer, err := o.call(ctx, http.MethodPost, o.public+"/v1/consents?k=cdnow", till, choice(c, notice), http.StatusUnprocessableEntity)
		if err != nil {
			return err
		}
		if !bytes.Contains(answer, []byte(`"code":"erased"`)) {
			return fmt.Errorf("the choice of an erased customer was answered %s", answer)
		}
	}
	gone := func(s sale) bool {
		return slices.ContainsFunc(leaving, func(c customer) bool { return c.card == s.card })
	}
	events := []map[string]any{}
	for _, s := range o.sales {
		if gone(s) {
			events = append(events, purchase(s, "again"))
		}
	}
	for batch := range slices.Chunk(events, 100) {
		answer, err := o.call(ctx, http.MethodPost, o.public+"/v1/events?k=cdnow", till, map[string]any{"batch": batch}, http.StatusAccepted)
		if err != nil {
			return err
		}
		if n := bytes.Count(answer, []byte(`"reason":"erased"`)); n != len(batch) {
			return fmt.Errorf("%d of %d purchases of erased customers were refused", n, len(batch))
		}
	}
	fmt.Printf("an import of their choices and %d purchases was refused\n", len(events))
	return nil
}

// measure prints what the erasures took.
func (o *office) measure(ctx context.Context, whose map[string]customer, start, completed time.Time) error {
	all, err := o.requests(ctx)
	if err != nil {
		return err
	}
	states := map[string]int{}
	var purged time.Time
	for id, q := range all {
		states[q.State]++
		if _, ours := whose[id]; ours && q.Purged.After(purged) {
			purged = q.Purged
		}
	}
	fmt.Printf("%d erasures in %.1f s, kills included: the last object was purged after %.1f s; requests by state: %v\n",
		len(whose), completed.Sub(start).Seconds(), purged.Sub(start).Seconds(), states)
	return nil
}

// certified lets `octroi verify` check the certificates, and holds what each states against the text file.
func (o *office) certified(ctx context.Context, whose map[string]customer) error {
	if err := os.MkdirAll(o.path("certificates"), 0o700); err != nil {
		return err
	}
	histories := o.histories(false)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for id, c := range whose {
		group.Go(func() error {
			if err := o.certificate(ctx, id, c, len(histories[c.card])); err != nil {
				return fmt.Errorf("certificate of %s: %w", id, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Printf("all %d certificates hold, state the rows of the text file, and that the destinations confirmed\n", len(whose))
	return nil
}

func (o *office) certificate(ctx context.Context, id string, c customer, purchases int) error {
	text, err := o.call(ctx, http.MethodGet, o.private+"/v1/rights/requests/"+id+"/certificate", o.token, nil, http.StatusOK)
	if err != nil {
		return err
	}
	file := o.path("certificates", id+".jwt")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	err = o.exec(ctx, filepath.Join(o.bin, "octroi"), "verify", "certificate", file, "--key", o.path("dpo", "log.key.pub"),
		"--custodian-key", o.path("dpo", "custodian.key.pub"))
	if err != nil {
		return err
	}
	stated, err := claims(string(text))
	if err != nil {
		return err
	}
	rows, confirmed := map[string]int{}, map[string]bool{}
	for _, s := range stated.Systems {
		rows[s.Destination] = s.Rows
	}
	for _, f := range stated.Facts.Recipients {
		confirmed[f.Destination] = f.Confirmed
	}
	for _, d := range destinations {
		want := purchases
		if d.consenting && !c.consents {
			want = 0
		}
		switch {
		case rows[d.name] != want:
			return fmt.Errorf("%d rows erased at %s, the customer had %d", rows[d.name], d.name, want)
		case want > 0 && !confirmed[d.name]:
			return fmt.Errorf("%s has not confirmed", d.name)
		}
	}
	return nil
}

// claims are what a certificate says; `octroi verify` has checked it.
func claims(text string) (c proof.Certificate, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return c, errors.New("not a JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(b, &c)
}
