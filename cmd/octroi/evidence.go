package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// The bounds of a downloaded log.
const (
	maxLogFiles = 5_000_000
	maxLogBytes = 64 << 30
)

func newEvidenceCommand() *cobra.Command {
	var url, tokenFile, out string
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "download the evidence log, to verify or keep it elsewhere",
		Long: `Downloads the whole evidence log from a running gateway into a new folder, in the C2SP tlog-tiles layout: a signed checkpoint,
the tiles, the entries, and the openings of the entries that concern no person. The log holds no personal data.

Keep such downloads elsewhere: who holds an older one can prove that the log was not rewritten since. Without a witness
like that, the log proves that it is consistent in itself, and no more.`,
		Example: `  octroi token --name auditor --scope admin > admin.token
  octroi evidence --url http://127.0.0.1:8081 --token-file admin.token --out log-2026-11-21
  octroi verify log log-2026-11-21 --key octroi-data/dpo/log.key.pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" || tokenFile == "" {
				return usageError{errors.New("name the new folder with --out and the token with --token-file")}
			}
			token, err := os.ReadFile(tokenFile)
			if err != nil {
				return fmt.Errorf("reading token: %w", err)
			}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, strings.TrimSuffix(url, "/")+"/v1/evidence/log.tar", nil)
			if err != nil {
				return usageError{fmt.Errorf("--url: %w", err)}
			}
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("asking the gateway: %w", err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the gateway answered %s: it must be its private listener, and the token have the scope admin", resp.Status)
			}
			n, err := unpack(io.LimitReader(resp.Body, maxLogBytes), out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s\nnext: octroi verify log %s --key dpo/log.key.pub\n", n, out, out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "http://127.0.0.1:8081", "the gateway's private listener")
	f.StringVar(&tokenFile, "token-file", "", "file with a token of scope admin")
	f.StringVar(&out, "out", "", "new folder")
	return cmd
}

// unpack writes a tar's regular files below dir, which must not exist; no name leaves it.
func unpack(r io.Reader, dir string) (files int, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, fmt.Errorf("creating folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("opening folder: %w", err)
	}
	defer root.Close()
	archive := tar.NewReader(r)
	for ; files < maxLogFiles; files++ {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, fmt.Errorf("reading the download: %w", err)
		}
		if head.Typeflag == tar.TypeDir {
			files--
			continue
		}
		if head.Typeflag != tar.TypeReg {
			return files, errors.New("the download holds something that is not a file")
		}
		if err := unpackFile(root, head.Name, archive); err != nil {
			return files, err
		}
	}
	return files, fmt.Errorf("the download holds more than %d files", maxLogFiles)
}

func unpackFile(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
