package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
	"github.com/spf13/cobra"
)

// A backup file is age(zstd(content)) to the recipient R of the configuration, named <node>-<UTC time>-<part>.zst.age. The two parts are never in one
// file: who has both, and R, has every subject's key with what it seals; an erasure is complete when the last copy of the slots is gone.
const (
	partState = "state" // consent/state draws it
	partSlots = "slots" // pseudonymize/subject draws it
)

// backupName is what a gateway may call a backup: it becomes a file's name.
var backupName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}-[0-9]{8}T[0-9]{6}Z-(state|slots)\.zst\.age$`)

// backupRoutes adds the two parts of a backup to the private listener.
func (g *gateway) backupRoutes(app fiber.Router) {
	turn := make(chan struct{}, 1) // one at a time: each reads a whole disk's worth
	part := func(name string, write func(context.Context, io.Writer) error) fiber.Handler {
		return g.scoped(collector.ScopeBackup, func(c *fiber.Ctx) error {
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }()
			default:
				c.Set(fiber.HeaderRetryAfter, "60")
				return c.Status(fiber.StatusServiceUnavailable).SendString("another backup is being taken\n")
			}
			return g.serveBackup(c, name, write)
		})
	}
	app.Get("/v1/backup/state", part(partState, g.state.Backup))
	app.Get("/v1/backup/slots", part(partSlots, g.subjects.CopySlots))
}

// serveBackup answers one part. It goes through an unnamed file, of ciphertext only: an answer whose length is not known beforehand could end early
// unseen, since nobody but R's holder can read it.
func (g *gateway) serveBackup(c *fiber.Ctx, part string, write func(context.Context, io.Writer) error) error {
	if g.config.Backup.Recipient == "" {
		return c.Status(fiber.StatusConflict).SendString("octroi.yaml names no backup.recipient\n")
	}
	recipients, err := export.ParseRecovery(g.config.Backup.Recipient)
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(g.config.path(g.config.State)), ".octroi-backup-*")
	if err != nil {
		return fmt.Errorf("backing up %s: %w", part, err)
	}
	err = os.Remove(out.Name()) // a process that is killed leaves nothing
	if err == nil {
		err = sealBackup(out, recipients, func(w io.Writer) error { return write(c.UserContext(), w) })
	}
	var size int64
	if err == nil {
		size, err = out.Seek(0, io.SeekEnd)
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("backing up %s: %w", part, err), out.Close())
	}
	g.log.Info("backup sealed", "object", part, "bytes", size)
	name := fmt.Sprintf("%s-%s-%s.zst.age", g.config.Node, time.Now().UTC().Format("20060102T150405Z"), part)
	c.Set(fiber.HeaderContentType, fiber.MIMEOctetStream)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	return c.SendStream(out, int(size)) // fasthttp closes it
}

// sealBackup writes what write writes, compressed and encrypted.
func sealBackup(w io.Writer, r export.Recipients, write func(io.Writer) error) error {
	sealed, err := export.Seal(w, r)
	if err != nil {
		return err
	}
	packed, err := zstd.NewWriter(sealed, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if err := write(packed); err != nil {
		return err
	}
	return errors.Join(packed.Close(), sealed.Close())
}

func newBackupCommand() *cobra.Command {
	var url, tokenFile, into string
	var slots bool
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "take an encrypted copy of the gateway's state, or of its slot file",
		Long: `Downloads a copy of a running gateway's state into a new file below a folder: consents, subjects, evidence log, requests, stream
positions, of one moment. With --slots it downloads the slot file instead, which holds every subject's key.

Both are encrypted to backup.recipient of octroi.yaml (R): only its identity, which lies in the offline safe, opens them.
Neither holds spool or outbox: an event that was accepted and not yet shipped is on the gateway's disk alone.

Take the state first and the slots after it: slots fit every state that was copied before. Keep the two in different places,
and few copies of the slots for a short time (rights.slot_copies): a person who is erased can be read again until the last
of them that was taken before is gone. Keep the keys folder's copies with R.`,
		Example: `  octroi token --name backup --scope backup --life 8784h > backup.token
  octroi backup --token-file backup.token --into /mnt/backup/state
  octroi backup --token-file backup.token --into /mnt/other/slots --slots
  find /mnt/other/slots -name '*-slots.zst.age' -mtime +7 -delete`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if into == "" || tokenFile == "" {
				return usageError{errors.New("name the folder with --into and the token with --token-file")}
			}
			part := partState
			if slots {
				part = partSlots
			}
			file, size, err := fetchBackup(cmd.Context(), strings.TrimSuffix(url, "/")+"/v1/backup/"+part, tokenFile, into)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", file, size)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "http://127.0.0.1:8081", "the gateway's private listener")
	f.StringVar(&tokenFile, "token-file", "", "file with a token of scope backup")
	f.StringVar(&into, "into", "", "folder for the new file")
	f.BoolVar(&slots, "slots", false, "the slot file instead of the state")
	return cmd
}

// fetchBackup downloads one part into a file that has its name only when it is whole and on disk.
func fetchBackup(ctx context.Context, url, tokenFile, into string) (path string, size int64, err error) {
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return "", 0, fmt.Errorf("reading token: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, usageError{fmt.Errorf("--url: %w", err)}
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, fmt.Errorf("asking the gateway: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("the gateway answered %s: %s", resp.Status, refusedBackup(resp.StatusCode))
	}
	_, disposition, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	name := disposition["filename"]
	if err != nil || !backupName.MatchString(name) || resp.ContentLength <= 0 {
		return "", 0, errors.New("the answer is no backup: is --url the gateway's private listener")
	}
	path = filepath.Join(into, name)
	size, err = saveNew(path, resp.Body)
	if err == nil && size != resp.ContentLength {
		err = errors.Join(fmt.Errorf("downloading backup: %d bytes of %d", size, resp.ContentLength), os.Remove(path))
	}
	return path, size, err
}

func refusedBackup(status int) string {
	switch status {
	case http.StatusConflict:
		return "write backup.recipient into octroi.yaml, the public key of R"
	case http.StatusServiceUnavailable:
		return "another backup is being taken, or the state does not read: see the gateway's log"
	}
	return "it must be its private listener, and the token have the scope backup"
}

// saveNew writes r into a new file and syncs it; a file that is there is not overwritten, and of a copy that fails nothing is left.
func saveNew(path string, r io.Reader) (size int64, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("saving %s: it exists already", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".octroi-*.part") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("saving %s: %w", path, err)
	}
	size, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("saving %s: %w", path, err), os.Remove(f.Name()))
	}
	return size, nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
