package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/spf13/cobra"
)

// maxEvidenceFile bounds a consent record or receipt.
const maxEvidenceFile = 4 << 20

func newVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "check evidence offline: the log, a consent record, a stream, a certificate",
		Long: `Checks evidence with public keys only, offline. It exits with 0 when everything holds, and with 3 when one byte or one record was
changed, removed, added or reordered; the message says which.`,
		Example: `  octroi verify log log-2026-11-21 --key dpo/log.key.pub
  octroi verify record proof.json --key dpo/log.key.pub --signing-key dpo/signing.key.pub
  octroi verify stream octroi-data/objects --destination warehouse --key dpo/signing.key.pub --log log-2026-11-21 --log-key dpo/log.key.pub
  octroi verify certificate certificate.jwt --key dpo/log.key.pub --custodian-key dpo/custodian.key.pub`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { // never exit 0 with nothing verified
			return usageError{fmt.Errorf("say what to verify: log, record, stream or certificate; see `%s --help`", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(newVerifyLogCommand(), newVerifyRecordCommand(), newVerifyStreamCommand(), newVerifyCertificateCommand())
	return cmd
}

// logFlags name the key of an evidence log.
type logFlags struct{ key, node string }

func (l *logFlags) add(cmd *cobra.Command, name string) {
	cmd.Flags().StringVar(&l.key, name, "", "public key of the log (log.key.pub)")
	cmd.Flags().StringVar(&l.node, "node", "n1", "name of the node whose log it is")
}

func (l *logFlags) verifier() (*evidence.Verifier, error) {
	if l.key == "" {
		return nil, usageError{fmt.Errorf("name the log's public key: it is log.key.pub in the folders dpo, custodian and offline")}
	}
	key, err := keyfile.ReadPublic(l.key, "log")
	if err != nil {
		return nil, err
	}
	return evidence.NewVerifier(logOrigin(l.node), key)
}

func newVerifyLogCommand() *cobra.Command {
	var l logFlags
	var older string
	cmd := &cobra.Command{
		Use:   "log DIR",
		Short: "check a downloaded evidence log",
		Long: `Checks a downloaded evidence log: its signed head, every entry, tile and opening. With --older, the file "checkpoint" of an earlier
download that was kept elsewhere, also that nothing logged by then was changed, removed or reordered since.`,
		Example: `  octroi verify log log-2026-11-21 --key dpo/log.key.pub
  octroi verify log log-2026-12-21 --key dpo/log.key.pub --older log-2026-11-21/checkpoint`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := l.verifier()
			if err != nil {
				return err
			}
			var head evidence.Checkpoint
			if older != "" {
				if head, err = readCheckpoint(older, v); err != nil {
					return err
				}
			}
			r, err := verifyLog(args[0], v, head)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the log holds: %d entries, %d openings, signed by %s\n", r.Checkpoint.Size, len(r.Openings), v.Origin())
			return err
		},
	}
	l.add(cmd, "key")
	cmd.Flags().StringVar(&older, "older", "", "checkpoint of an earlier download, to see that the log was not rewritten since")
	return cmd
}

// readCheckpoint reads a head of the log that was kept.
func readCheckpoint(path string, v *evidence.Verifier) (evidence.Checkpoint, error) {
	b, err := readBounded(path, maxEvidenceFile)
	if err != nil {
		return evidence.Checkpoint{}, err
	}
	head, err := v.Open(string(b))
	if err != nil {
		return head, evidenceError{fmt.Errorf("the older head does not hold: %w", err)}
	}
	return head, nil
}

func verifyLog(dir string, v *evidence.Verifier, older evidence.Checkpoint) (evidence.Report, error) {
	if _, err := os.Stat(dir); err != nil {
		return evidence.Report{}, fmt.Errorf("reading the log: %w", err)
	}
	r, err := evidence.VerifySince(os.DirFS(dir), v, older)
	if err != nil {
		return r, evidenceError{fmt.Errorf("the log does not hold: %w", err)}
	}
	return r, nil
}

func newVerifyRecordCommand() *cobra.Command {
	var l logFlags
	var signing string
	cmd := &cobra.Command{
		Use:   "record FILE",
		Short: "check a consent record with its proof, or a receipt",
		Long: `Checks a consent record as GET /v1/consents/proof answers it (JSON), or the receipt that a person was given (a JWT): that the
record is what was logged, byte for byte, and that the log's signed head holds it.`,
		Example: `  octroi verify record proof.json --key dpo/log.key.pub
  octroi verify record receipt.jwt --key dpo/log.key.pub --signing-key dpo/signing.key.pub`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := l.verifier()
			if err != nil {
				return err
			}
			b, err := readBounded(args[0], maxEvidenceFile)
			if err != nil {
				return err
			}
			text, err := verifyRecord(b, v, signing)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	l.add(cmd, "key")
	cmd.Flags().StringVar(&signing, "signing-key", "", "public key of receipts (signing.key.pub), for a receipt")
	return cmd
}

// verifyRecord tells a receipt from a record by its first bytes.
func verifyRecord(b []byte, v *evidence.Verifier, signing string) (string, error) {
	if !bytes.HasPrefix(b, []byte("eyJ")) {
		r, err := consent.ParseProven(b)
		if err == nil {
			err = consent.VerifyProven(r, v)
		}
		if err != nil {
			return "", evidenceError{fmt.Errorf("the record does not hold: %w", err)}
		}
		return fmt.Sprintf("the record holds: entry %d of a log of %d", r.Proof.Index, r.Proof.Size), nil
	}
	if signing == "" {
		return "", usageError{fmt.Errorf("a receipt needs --signing-key: it is signing.key.pub in the folders dpo, custodian and offline")}
	}
	key, err := keyfile.ReadPublic(signing, "signing")
	if err != nil {
		return "", err
	}
	if _, err := consent.VerifyReceipt(strings.TrimSuffix(string(b), "\n"), key, v); err != nil {
		return "", evidenceError{fmt.Errorf("the receipt does not hold: %w", err)}
	}
	return "the receipt holds", nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

func newVerifyStreamCommand() *cobra.Command {
	var l logFlags
	var destination, key, log string
	var entriesOnly bool
	cmd := &cobra.Command{
		Use:   "stream DIR",
		Short: "check a destination's stream in a copy of the bucket",
		Long: `Checks every entry of a destination's stream below DIR (the directory store, or a copy of the bucket): signatures, numbers
without gaps, the chain, and that each object of the stream is there with the bytes that were signed. With --entries-only, DIR
needs no objects. With --log, also that every batch that the evidence log states is in the stream, so that a cut tail is
seen. Download the log first and copy the bucket then: a batch that was sealed a moment ago may not be published yet.`,
		Example: `  octroi verify stream octroi-data/objects --destination warehouse --key dpo/signing.key.pub
  octroi verify stream octroi-data/objects --destination warehouse --key dpo/signing.key.pub --log log --log-key dpo/log.key.pub`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if destination == "" || key == "" {
				return usageError{fmt.Errorf("name the stream with --destination and the gateway's public key with --key")}
			}
			public, err := keyfile.ReadPublic(key, "signing")
			if err != nil {
				return err
			}
			check := export.StreamCheck{Destination: destination, Gateway: public, Objects: !entriesOnly}
			if log != "" {
				v, err := l.verifier()
				if err != nil {
					return err
				}
				r, err := verifyLog(log, v, evidence.Checkpoint{})
				if err != nil {
					return err
				}
				check.Sealed = export.SealedBatches(r.Openings, destination)
			}
			r, err := export.VerifyStream(os.DirFS(args[0]), check)
			if err != nil {
				return evidenceError{fmt.Errorf("the stream does not hold: %w", err)}
			}
			if r.Entries == 0 {
				return evidenceError{fmt.Errorf("the stream to %q has no entry: nothing was verified", destination)}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the stream holds: %d entries to %s, %d rows, %d objects\n", r.Entries, destination, r.Rows, r.Objects)
			return err
		},
	}
	l.add(cmd, "log-key")
	f := cmd.Flags()
	f.StringVar(&destination, "destination", "", "whose stream it is")
	f.StringVar(&key, "key", "", "public key of the stream (signing.key.pub)")
	f.BoolVar(&entriesOnly, "entries-only", false, "do not look at the objects")
	f.StringVar(&log, "log", "", "a downloaded evidence log, to see a cut tail")
	return cmd
}
