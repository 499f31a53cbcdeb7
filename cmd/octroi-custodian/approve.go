package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
)

// approveFlags are what the data protection officer's machine has: no configuration, no key but the approval key.
type approveFlags struct {
	officerFlags
	key, policies, node string
	retention, yes      bool
	confirm             []string
}

func approveCommand() *cobra.Command {
	var f approveFlags
	c := &cobra.Command{
		Use: "approve REQUEST…", Short: "sign requests, or the retention of the policies, as the data protection officer",
		Long: `Fetches the job of each request from the gateway, shows it, and signs it with the approval key: the custodian then carries out this job and no
other. It needs the approval key, which only the data protection officer's machine has, and a token of the scopes rights:manage and rights:read.

Before each signature it asks for the first 8 characters of the request's id. A script gives them with --yes --confirm.

With --retention it signs how long data is kept, as the folder of policies says: the custodian cuts by its own clock what is over.`,
		Example: `  octroi-custodian approve 3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b --url https://gateway.internal:8081 --token-file dpo.token --key approval.key
  octroi-custodian approve --retention --policies policies --url https://gateway.internal:8081 --token-file dpo.token --key approval.key`,
		RunE: func(c *cobra.Command, requests []string) error {
			if err := f.check(c, requests); err != nil {
				return err
			}
			key, err := keyfile.ReadSigning(f.key, "approval")
			if err != nil {
				return err
			}
			o, err := f.open()
			if err != nil {
				return err
			}
			s := &signature{officer: o, key: key, flags: &f, in: bufio.NewReader(c.InOrStdin()), out: c.OutOrStdout()}
			if f.retention {
				return s.schedule(c.Context())
			}
			for _, request := range requests {
				if err := s.request(c.Context(), request); err != nil {
					return fmt.Errorf("request %s: %w", request, err)
				}
			}
			return nil
		},
	}
	f.add(c)
	return c
}

func (f *approveFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.url, "url", "", "the gateway's private listener, https://host[:port]")
	fs.StringVar(&f.token, "token-file", "", "file of an access token of the scopes rights:manage and rights:read")
	fs.StringVar(&f.key, "key", "", "approval.key")
	fs.StringVar(&f.ca, "ca", "", "PEM file of the listener's certificate authorities, where they are not public")
	fs.BoolVar(&f.plain, "plain", false, "http:// also to another machine, on a network that nobody else is on")
	fs.BoolVar(&f.retention, "retention", false, "sign the retention of --policies")
	fs.StringVar(&f.policies, "policies", "", "folder of the policies, with --retention")
	fs.StringVar(&f.node, "node", "n1", "the gateway's node, with --retention")
	fs.BoolVar(&f.yes, "yes", false, "do not ask; with --confirm")
	fs.StringSliceVar(&f.confirm, "confirm", nil, "the first 8 characters of what is signed; repeat for more")
}

func (f *approveFlags) check(c *cobra.Command, requests []string) error {
	for _, x := range []struct{ name, value string }{{"url", f.url}, {"token-file", f.token}, {"key", f.key}} {
		if x.value == "" {
			return program.Usage(c, "--%s is missing", x.name)
		}
	}
	switch {
	case f.retention != (f.policies != ""):
		return program.Usage(c, "--retention and --policies go together")
	case f.retention && len(requests) > 0:
		return program.Usage(c, "sign either requests or the retention")
	case !f.retention && len(requests) == 0:
		return program.Usage(c, "name the requests to sign")
	case f.yes != (len(f.confirm) > 0):
		return program.Usage(c, "--yes and --confirm go together")
	}
	for _, request := range requests {
		if id, err := uuid.Parse(request); err != nil || id.String() != request {
			return program.Usage(c, "%q is not the id of a request", request)
		}
	}
	return nil
}

// signature shows, asks, signs and sends.
type signature struct {
	officer *officer
	key     ed25519.PrivateKey
	flags   *approveFlags
	in      *bufio.Reader
	out     io.Writer
}

func (s *signature) request(ctx context.Context, request string) error {
	j, err := s.officer.job(ctx, request)
	if err != nil {
		return err
	}
	now, err := s.officer.standing(ctx, request)
	if err != nil {
		return err
	}
	if err := showJob(s.out, j, now); err != nil {
		return err
	}
	if err := s.confirmed("request", request); err != nil {
		return err
	}
	approval, err := proof.Approve(*j, s.key)
	if err != nil {
		return err
	}
	if err := s.officer.approve(ctx, request, approval); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "approved %s\n", request)
	return err
}

// rightWords name a right with its article.
func rightWords(r proof.Right) string {
	if r == proof.Access {
		return "access (GDPR Art. 15)"
	}
	return "erasure (GDPR Art. 17)"
}

func originWords(o proof.Origin) string {
	return map[proof.Origin]string{
		proof.ByPerson: "the person, by the cookie of the device", proof.ByDPO: "the data protection officer",
		proof.ByWithdrawal: "a withdrawal of consent", proof.ByRetention: "the end of the retention",
	}[o]
}

// showJob shows what would be signed, and where it stands.
func showJob(w io.Writer, j *proof.Job, now *standing) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	of := "everything"
	if len(j.Purposes) > 0 {
		of = strings.Join(j.Purposes, ", ")
	}
	fmt.Fprintf(t, "request\t%s\n  right\t%s\n  of\t%s\n  by\t%s\n  received\t%s\n", j.Request, rightWords(j.Right), of, originWords(j.Origin),
		j.Received.UTC().Format("2006-01-02 15:04 UTC"))
	if j.Recipient != "" {
		fmt.Fprintf(t, "  sealed to\t%s\n", j.Recipient)
	}
	for _, purpose := range slices.Sorted(maps.Keys(j.Rules)) {
		if !slices.Contains(j.Purposes, purpose) {
			fmt.Fprintf(t, "  rows keep for %s\t%s\n", purpose, strings.Join(slices.Sorted(maps.Keys(j.Rules[purpose])), ", "))
		}
	}
	for _, d := range j.Destinations {
		fmt.Fprintf(t, "  at %s\t%d devices, %d persons\n", d.Destination, len(d.Devices), len(d.Persons))
	}
	fmt.Fprintf(t, "  reaches\t%d pseudonyms at %d destinations\n", j.Pseudonyms(), len(j.Destinations))
	if now != nil {
		fmt.Fprintf(t, "  stands\t%s, due %s (%d days), %d batches known to hold rows\n", now.State, now.Due.UTC().Format(time.DateOnly), now.DaysLeft, now.Batches)
	}
	return t.Flush()
}

// confirmed asks for the first characters of what is signed; all of them do as well.
func (s *signature) confirmed(what, id string) error {
	want := id[:8]
	if s.flags.yes {
		if slices.Contains(s.flags.confirm, want) || slices.Contains(s.flags.confirm, id) {
			return nil
		}
		return fmt.Errorf("%w: --confirm does not hold the first 8 characters of the %s", errUnsure, what)
	}
	fmt.Fprintf(s.out, "type the first 8 characters of the %s to sign it: ", what)
	line, err := s.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	if strings.TrimSpace(line) != want {
		return fmt.Errorf("%w: what was typed is not %s; a script gives --yes --confirm %s", errUnsure, want, want)
	}
	return nil
}

// schedule signs the retention of a folder of policies.
func (s *signature) schedule(ctx context.Context) error {
	p, err := policies.Load(os.DirFS(s.flags.policies))
	if err != nil {
		return fmt.Errorf("%w: policies in %s:\n%w", errConfig, s.flags.policies, err)
	}
	x := proof.NewSchedule(s.flags.node, p, time.Now())
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "policy\t%s\nnode\t%s\n", x.Policy, x.Node)
	for _, purpose := range slices.Sorted(maps.Keys(x.Retention)) {
		fmt.Fprintf(t, "  %s\tkept %s\n", purpose, x.Retention[purpose])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := s.confirmed("policy", x.Policy); err != nil {
		return err
	}
	approval, err := proof.ApproveSchedule(x, s.key)
	if err != nil {
		return err
	}
	if err := s.officer.schedule(ctx, approval); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, "the retention is approved")
	return err
}
