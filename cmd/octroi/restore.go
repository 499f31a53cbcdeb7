package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize/subject"
	"github.com/spf13/cobra"
)

// maxIdentityBytes bounds an identity file.
const maxIdentityBytes = 64 << 10

// maxBackupWindow bounds the memory that a backup's compression asks for; sealBackup's needs 4 MiB.
const maxBackupWindow = 16 << 20

func newRestoreCommand() *cobra.Command {
	var path, stateFile, slotFile, identityFile string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "put a gateway's state and slot file back from backups",
		Long: `Writes state and slot file from two files of "octroi backup" to where octroi.yaml says, which must be empty, and
checks them: the sum, every row, the evidence log's tree, and that slots and keys are this state's. It is all or nothing. The
keys folder must be there already, from the safe. Start the gateway afterwards with "octroi serve".

What a restore means:
  - Before it listens, the gateway reads the object store: batches and stream entries that were published after the backup become
    its own again, and every erasure and withdrawal of the suppression journal is carried out anew. The erased stay erased, and
    what was withdrawn with "on_withdrawal: erase" stays withdrawn.
  - Consents, declarations, requests, and withdrawals of other purposes recorded after the backup are lost. Persons are asked
    again; declare and import again.
  - The evidence log goes on from the backup. Heads (checkpoints) that were signed after it are no longer part of it: keep
    downloads of the lost part ("octroi evidence"), and expect "verify log --older" to say so.
  - Spool and outbox are in no backup. If the old ones are still there, leave them where they are: what they hold is shipped. If
    not, events that were accepted and not yet shipped are lost.
  - Use the slot file that was copied next after the state: an older one does not open with it. By a later one, keys of persons who
    were erased in between are gone, and with them what tells their rows: what the custodian had not yet rewritten of these stays,
    and the log names the requests (alarm).`,
		Example: `  octroi restore --config gateway/octroi.yaml --identity offline/identity.txt \
    --state n1-20261121T101112Z-state.zst.age --slots n1-20261121T101500Z-slots.zst.age`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stateFile == "" || slotFile == "" || identityFile == "" {
				return usageError{errors.New("name the backups with --state and --slots, and the identity of R with --identity")}
			}
			r, err := prepareRestore(path, identityFile)
			if err != nil {
				return err
			}
			found, err := r.run(stateFile, slotFile)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored and verified: %d subjects, an evidence log of %d entries\nnext: octroi serve --config %s\n",
				found.subjects, found.leaves, path)
			return err
		},
	}
	configFlag(cmd, &path)
	f := cmd.Flags()
	f.StringVar(&stateFile, "state", "", "backup of the state")
	f.StringVar(&slotFile, "slots", "", "backup of the slot file, not older than the state's")
	f.StringVar(&identityFile, "identity", "", "identity of R, from the offline safe")
	return cmd
}

// restored is the file beside the state folder that says that serve must adopt the stream and replay the journal before it listens. JSON v1.
type restored struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
}

// restoredFile is where restored lies.
func (c *Config) restoredFile() string { return c.path(c.State) + ".restored" }

// isRestored says whether the state was restored and has not been brought up to the object store since.
func (c *Config) isRestored() (bool, error) {
	_, err := os.Lstat(c.restoredFile())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// endRestore says that the state is up to the object store.
func (c *Config) endRestore() error {
	if err := os.Remove(c.restoredFile()); err != nil {
		return fmt.Errorf("ending restore: %w", err)
	}
	return syncFolder(filepath.Dir(c.restoredFile()))
}

// restore is one run of `octroi restore`.
type restore struct {
	config *Config
	keys   *Keys
	ids    export.Identities

	state, slots, mark string // paths
}

func prepareRestore(config, identity string) (*restore, error) {
	c, err := ReadConfig(config)
	if err != nil {
		return nil, err
	}
	k, err := ReadKeys(c.path(c.Keys))
	if err != nil {
		return nil, fmt.Errorf("reading keys: put them back from the safe first:\n%w", err)
	}
	f, err := os.Open(identity)
	if err != nil {
		return nil, fmt.Errorf("reading identity: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIdentityBytes))
	if err != nil {
		return nil, fmt.Errorf("reading identity: %w", err)
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		return nil, err
	}
	return &restore{c, k, ids, c.path(c.State), c.path(c.Slots), c.restoredFile()}, nil
}

// restoredFigures is what was found in what was restored.
type restoredFigures struct {
	subjects int
	leaves   int64
}

// run restores both parts. What it writes before an error it removes; what was there before, it leaves.
func (r *restore) run(stateFile, slotFile string) (found restoredFigures, err error) {
	if err := r.checkEmpty(); err != nil {
		return found, err
	}
	defer func() {
		if err != nil && !errors.Is(err, state.ErrLocked) { // what a gateway has opened meanwhile is its own
			err = errors.Join(err, r.undo())
		}
	}()
	if err := r.writeMark(); err != nil {
		return found, err
	}
	// Crash here: the mark stands and there is no state: the next restore begins anew, and a gateway that is started adopts the store as
	// one that was restored from nothing.
	if err := r.restoreSlots(slotFile); err != nil {
		return found, fmt.Errorf("restoring slot file from %s: %w", slotFile, err)
	}
	// Crash here: slots without a state, which no gateway takes (subject.ErrSlotFile); the next restore replaces them.
	err = r.unseal(stateFile, func(content io.Reader) error { return state.Restore(r.state, r.keys.State, content) })
	if err != nil {
		return found, fmt.Errorf("restoring from %s: %w", stateFile, err)
	}
	// Crash here: everything is in place, with the mark; the gateway checks again what comes now.
	return r.verify()
}

// checkEmpty refuses places that hold something. Slots beside a mark and no state are those of a restore that was cut off.
func (r *restore) checkEmpty() error {
	entries, err := os.ReadDir(r.state)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading state folder: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: move it away if it is to be replaced", r.state)
	}
	cutOff, err := r.config.isRestored()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(r.slots); !errors.Is(err, os.ErrNotExist) && !cutOff {
		return fmt.Errorf("%s exists: move it away if it is to be replaced, and keep it: it may be newer than the backup", r.slots)
	}
	return nil
}

func (r *restore) writeMark() error {
	text, err := json.Marshal(restored{1, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.mark), 0o700); err != nil {
		return fmt.Errorf("marking the restore: %w", err)
	}
	if err := os.Remove(r.mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("marking the restore: %w", err)
	}
	if err := writeNew(r.mark, text, 0o600); err != nil {
		return fmt.Errorf("marking the restore: %w", err)
	}
	return syncFolder(filepath.Dir(r.mark))
}

func (r *restore) restoreSlots(file string) error {
	if err := os.MkdirAll(filepath.Dir(r.slots), 0o700); err != nil {
		return err
	}
	if err := os.Remove(r.slots); err != nil && !errors.Is(err, os.ErrNotExist) { // of a restore that was cut off: see checkEmpty
		return err
	}
	return r.unseal(file, func(content io.Reader) error {
		_, err := saveNew(r.slots, content)
		return err
	})
}

// unseal gives the content of a backup file to read.
func (r *restore) unseal(file string, read func(io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sealed, err := export.Unseal(f, r.ids)
	if err != nil {
		return err
	}
	content, err := zstd.NewReader(sealed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxBackupWindow))
	if err != nil {
		return err
	}
	defer content.Close()
	return read(content)
}

// verify opens what was restored as the gateway will.
func (r *restore) verify() (found restoredFigures, err error) {
	s, err := state.Open(state.Options{Dir: r.state, Key: r.keys.State})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	subjects, err := subject.OpenRegistry(subject.Options{
		State: s, SlotFile: r.slots, LookupKey: r.keys.Lookup, SuppressionKey: r.keys.Suppression,
	})
	if err != nil {
		return found, fmt.Errorf("the two backups do not fit: %w", err)
	}
	found.leaves, _, err = s.Tree()
	found.subjects = subjects.Count()
	return found, errors.Join(err, subjects.Close())
}

// undo removes what was written, which was not there before; the mark goes last.
func (r *restore) undo() error {
	entries, err := os.ReadDir(r.state)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, e := range entries { // the folder itself may have been there, empty
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.state, e.Name())))
	}
	for _, file := range []string{r.slots, r.mark} {
		if gone := os.Remove(file); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
