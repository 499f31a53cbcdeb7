package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/spf13/cobra"
)

func newVerifyCertificateCommand() *cobra.Command {
	var l logFlags
	var custodian string
	cmd := &cobra.Command{
		Use:   "certificate FILE",
		Short: "check a certificate of erasure",
		Long: `Checks a certificate of erasure: that the custodian signed it, and that every fact of the gateway's in it stands in the evidence log
whose head the log's key signed. Then it says in words what the certificate certifies. What the custodian saw in the objects is its
own statement: the key that signed it is the proof.`,
		Example: `  octroi verify certificate certificate.jwt --key dpo/log.key.pub --custodian-key dpo/custodian.key.pub`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := l.verifier()
			if err != nil {
				return err
			}
			if custodian == "" {
				return usageError{errors.New("name the custodian's public key with --custodian-key: it is custodian.key.pub in the folders dpo, gateway/keys and offline")}
			}
			key, err := keyfile.ReadPublic(custodian, "custodian")
			if err != nil {
				return err
			}
			b, err := readBounded(args[0], maxEvidenceFile)
			if err != nil {
				return err
			}
			c, err := proof.VerifyCertificate(strings.TrimSuffix(string(b), "\n"), key, v)
			if err != nil {
				return evidenceError{fmt.Errorf("the certificate does not hold: %w", err)}
			}
			return printCertificate(cmd.OutOrStdout(), &c)
		},
	}
	l.add(cmd, "key")
	cmd.Flags().StringVar(&custodian, "custodian-key", "", "public key of the custodian (custodian.key.pub)")
	return cmd
}

// originWords says who asked for an erasure.
func originWords(o proof.Origin) string {
	switch o {
	case proof.ByPerson:
		return "the person, by the cookie of the device"
	case proof.ByDPO:
		return "the data protection officer"
	case proof.ByWithdrawal:
		return "a withdrawal of consent"
	}
	return "the end of the retention"
}

// printCertificate says what a certificate certifies.
func printCertificate(w io.Writer, c *proof.Certificate) error {
	of := "everything of one subject"
	if len(c.Purposes) > 0 {
		of = "what rested on " + strings.Join(c.Purposes, ", ")
	}
	fmt.Fprintf(w, "the certificate holds: erasure %s\n\n", c.Request)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, values...))
	}
	row("of", "%s", of)
	row("asked for by", "%s", originWords(c.Origin))
	f := &c.Facts
	for _, x := range []struct {
		name string
		at   time.Time
		what string
	}{
		{"received", f.Received, ""},
		{"suppressed", f.Suppressed, "nothing more was sealed"},
		{"severed", f.Severed, "the key that leads to the subject was overwritten"},
		{"spool gone", f.SpoolGone, "nothing that waited at the gateway was left"},
		{"purged", f.Purged, "every version of every former object was deleted"},
		{"completed", c.Completed, ""},
	} {
		if !x.at.IsZero() {
			row(x.name, "%s", strings.TrimSuffix(timeWords(x.at)+": "+x.what, ": "))
		}
	}
	for _, s := range c.Systems {
		row("in "+s.Destination, "%d objects looked at, %d rewritten, %d deleted; %d rows erased, %d reduced; %d versions deleted",
			s.Objects, s.Rewritten, s.Deleted, s.Rows, s.Reduced, s.Versions)
	}
	for _, r := range f.Recipients {
		row("told "+r.Destination, "%s", confirmationWords(&r))
	}
	for _, x := range f.Exceptions {
		row("remains", "%s", exceptionWords(x))
	}
	row("method", "%s", c.Method)
	row("signed by", "custodian key %s", c.Custodian)
	if c.Approved != "" {
		row("approval", "SHA-256 %s", c.Approved)
	}
	return t.Flush()
}

func timeWords(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

func confirmationWords(r *proof.Confirmation) string {
	switch {
	case r.Number == 0:
		return "it never received a row"
	case r.Confirmed:
		return fmt.Sprintf("entry %d of its stream, confirmed %s", r.Number, timeWords(r.At))
	}
	return fmt.Sprintf("entry %d of its stream, not confirmed", r.Number)
}

func exceptionWords(x proof.Exception) string {
	words := map[string]string{
		proof.RemainsConsentProofs: "proofs of consent, without the person",
		proof.RemainsSuppression:   "keyed hashes, so that no import or backup brings the person back",
		proof.RemainsKeyCopies:     "copies of the key",
		proof.RemainsDownstream:    "recipients that have not confirmed",
	}[x.What]
	if x.Count > 0 {
		words = fmt.Sprintf("%d %s", x.Count, words)
	}
	if !x.Until.IsZero() {
		words += ", until " + timeWords(x.Until)
	}
	if x.Basis != "" {
		words += " (" + x.Basis + ")"
	}
	return words
}
