package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// office is what the data protection officer has: a token, and the approval key.
type office struct {
	*run
	token string
}

// openOffice makes the tokens of everybody who has a part in a customer's rights, each in its holder's folder.
func (r *run) openOffice(ctx context.Context) (o *office, err error) {
	o = &office{run: r}
	if o.token, err = r.tokenFile(ctx, "rights:manage,rights:read", r.path("dpo", "officer.token")); err != nil {
		return nil, err
	}
	if _, err := r.tokenFile(ctx, "custody", r.path("custodian", "custody.token")); err != nil {
		return nil, err
	}
	for _, d := range destinations {
		if _, err := r.tokenFile(ctx, "stream:"+d.name, r.path("warehouse", d.name, "load.token")); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (r *run) tokenFile(ctx context.Context, scope, file string) (token string, err error) {
	if token, err = r.token(ctx, scope, ""); err != nil {
		return "", err
	}
	return token, os.WriteFile(file, []byte(token+"\n"), 0o600)
}

// choose picks ten customers who ask for access, from the whole file, and a hundred others who ask for erasure, from its first half: so that
// there are objects that concern none of them. All have a purchase history that nobody shares, by which their rows are told from others'.
func (r *run) choose() (asking, leaving []customer) {
	histories, shared := r.histories(false), map[string]int{}
	for _, h := range histories {
		shared[historyKey(h)]++
	}
	alone := slices.DeleteFunc(slices.Clone(r.customers), func(c customer) bool { return shared[historyKey(histories[c.card])] > 1 })
	for i := range 10 {
		asking = append(asking, alone[i*len(alone)/10])
	}
	first := slices.DeleteFunc(alone[:len(alone)/2], func(c customer) bool { return slices.Contains(asking, c) })
	for i := range 100 {
		leaving = append(leaving, first[i*len(first)/100])
	}
	return asking, leaving
}

// request is what the gateway says of a request.
type request struct {
	ID     string
	State  string
	Purged time.Time
}

// ask enters the right of each customer, and says that it is them; it answers whose each request is.
func (o *office) ask(ctx context.Context, right string, who []customer) (whose map[string]customer, err error) {
	whose = map[string]customer{}
	for _, c := range who {
		body := map[string]any{"right": right, "subject": map[string]string{"loyalty": c.card}, "language": "en"}
		answer, err := o.call(ctx, http.MethodPost, o.private+"/v1/rights/requests", o.token, body, http.StatusCreated)
		if err != nil {
			return nil, err
		}
		var q request
		if err := json.Unmarshal(answer, &q); err != nil {
			return nil, err
		}
		whose[q.ID] = c
		if _, err := o.call(ctx, http.MethodPost, o.private+"/v1/rights/requests/"+q.ID+"/verify", o.token, map[string]any{}, http.StatusOK); err != nil {
			return nil, err
		}
	}
	return whose, nil
}

// gatewayAway is octroi-custodian's exit code where the gateway does not answer.
const gatewayAway = 3

// approve signs requests. Where the gateway is killed meanwhile, those that it has not taken are signed again.
func (o *office) approve(ctx context.Context, ids []string) error {
	for range 100 {
		args := []string{
			"approve", "--url", "http://" + o.private, "--token-file", o.path("dpo", "officer.token"), "--key", o.path("dpo", "approval.key"), "--yes",
		}
		for _, id := range ids {
			args = append(args, "--confirm", id[:8])
		}
		failed := o.exec(ctx, filepath.Join(o.bin, "octroi-custodian"), append(args, ids...)...)
		if failed == nil {
			return nil
		}
		all, err := o.requests(ctx)
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return all[id].State != "pending" })
		if len(ids) == 0 {
			return nil
		}
		var exit *exec.ExitError
		if !errors.As(failed, &exit) || exit.ExitCode() != gatewayAway {
			return failed
		}
		if err := o.awaitReady(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d requests could not be approved", len(ids))
}

// requests are all that the gateway has.
func (o *office) requests(ctx context.Context) (map[string]request, error) {
	all := map[string]request{}
	for after := ""; ; {
		answer, err := o.call(ctx, http.MethodGet, o.private+"/v1/rights/requests?after="+after, o.token, nil, http.StatusOK)
		if err != nil {
			return nil, err
		}
		var page struct {
			Requests []request
			After    string
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			return nil, err
		}
		for _, q := range page.Requests {
			all[q.ID] = q
		}
		if after = page.After; after == "" {
			return all, nil
		}
	}
}

// patience is how long a right may take.
const patience = 3 * time.Minute

// await does work until every request is completed.
func (o *office) await(ctx context.Context, whose map[string]customer, work func() error) error {
	states := map[string]int{}
	for began := time.Now(); time.Since(began) < patience; {
		all, err := o.requests(ctx)
		if err != nil {
			return err
		}
		states = map[string]int{}
		for id := range whose {
			states[all[id].State]++
		}
		if states["completed"] == len(whose) {
			return nil
		}
		if states["error"] > 0 {
			break
		}
		if err := work(); err != nil {
			return err
		}
	}
	return fmt.Errorf("not all requests are completed: %v; logs are in %s", states, o.path())
}

// wait is a pause.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
