package export

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// AdoptOptions configure Adopt: one destination of a restored gateway.
type AdoptOptions struct {
	State       *state.Store
	Objects     Objects // S3 answers 403 for what is not there unless the credentials may also list: that ends in ErrRefused
	Node        string
	Destination string
	Gateway     ed25519.PublicKey
	OutboxDir   string // this destination's, as in ShipperOptions: what is sealed, not published, and not there either is lost
	Log         *slog.Logger
	Now         func() time.Time
}

func (o *AdoptOptions) complete() error {
	if o.State == nil || o.Objects == nil || len(o.Gateway) != ed25519.PublicKeySize || o.OutboxDir == "" {
		return fmt.Errorf("%w: state, objects, the gateway's key and the outbox folder are needed", ErrOptions)
	}
	if !streamName.MatchString(o.Destination) || !streamName.MatchString(o.Node) {
		return fmt.Errorf("%w: destination %q and node %q: names hold letters, digits, '_' and '-'", ErrOptions, o.Destination, o.Node)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// adoption is one run of Adopt.
type adoption struct {
	AdoptOptions
	chain Chain // the last entry that state has published
}

// Adopt brings a state that was restored from a backup up to the store: the entries that were published after the backup become its own, so
// that the shipper goes on with the next number. It is called before NewShipper, on a restored gateway only: where the store has another
// entry than state has sealed under the number, the store is right, and what was sealed gets a later number. An entry that state has signed
// must be the store's (ErrChain). adopted counts the entries that state did not have as published.
//
// Of adopted batches the index does not know the subjects: see Index.Unindexed. A batch that was sealed and not published, and whose outbox
// file is gone, is given up with an alarm: only the spool may still have its events. The spool's cursor stays as it is. Each step is one change
// of state, and a call after a crash goes on.
func Adopt(ctx context.Context, o AdoptOptions) (adopted int, err error) {
	if err := o.complete(); err != nil {
		return 0, err
	}
	a := adoption{o, Chain{Destination: o.Destination, Node: o.Node, Gateway: o.Gateway}}
	if err = a.begin(ctx); err == nil {
		adopted, err = a.follow(ctx)
	}
	if err == nil {
		err = a.closeGaps(ctx)
	}
	if err != nil {
		return adopted, fmt.Errorf("adopting the stream to %s: %w", o.Destination, err)
	}
	return adopted, nil
}

// begin finds the last entry that both have.
func (a *adoption) begin(ctx context.Context) error {
	var row streamRow
	err := a.State.View(func(r state.Reader) (err error) {
		if a.chain.Number, err = readPublished(r, a.Destination); err != nil || a.chain.Number == 0 {
			return err
		}
		row, err = readStreamRow(r, a.Destination, a.chain.Number)
		return err
	})
	if err != nil || a.chain.Number == 0 {
		return err
	}
	stored, found, err := a.read(ctx, a.chain.Number)
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("%w: entry %d, which was published: this is another store, or an older copy of it", ErrGap, a.chain.Number)
	case stored != row.Signed:
		return fmt.Errorf("%w: the store has another entry %d than the restored state has published", ErrChain, a.chain.Number)
	}
	a.chain.Previous = EntryHash(row.Signed)
	return nil
}

// read is the store's entry of a number.
func (a *adoption) read(ctx context.Context, number uint64) (text string, found bool, err error) {
	r, err := a.Objects.Get(ctx, EntryKey(a.Destination, a.Node, number), "")
	if errors.Is(err, ErrNoObject) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("reading stream entry %d: %w", number, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, entryMax+1))
	if err != nil {
		return "", false, fmt.Errorf("reading stream entry %d: %w", number, err)
	}
	return string(b), true, nil
}

// follow adopts entry after entry, to the stream's end.
func (a *adoption) follow(ctx context.Context) (adopted int, err error) {
	for {
		number := a.chain.Number + 1
		text, found, err := a.read(ctx, number)
		if err != nil || !found {
			return adopted, err
		}
		e, err := a.chain.Next(text)
		if err == nil {
			err = a.State.Update(ctx, func(t *state.Txn) error { return a.take(t, &e, text) })
		}
		if err != nil {
			return adopted, fmt.Errorf("entry %d: %w", number, err)
		}
		// Crash here: the entry is adopted and marked as published. The next call begins after it.
		adopted++
	}
}

// take makes the store's entry the one of state.
func (a *adoption) take(t *state.Txn, e *Entry, text string) error {
	c, err := readCursor(t, a.Destination)
	if err == nil {
		err = a.makeWay(t, e, text, &c)
	}
	if err != nil {
		return err
	}
	row := streamRow{Format: rowFormat, Signed: text}
	switch {
	case e.Batch != nil:
		row.Batch = e.Batch.ID
		err = a.takeBatch(t, e)
	case e.Replace != nil:
		row.Type, row.Node, row.Batch = e.Type, a.Node, e.Replace.Batch
		err = a.takeReplace(t, e)
	default:
		row.Type, row.Node = e.Type, a.Node
		t.Delete(noticesKey(a.Destination, e.Number))
	}
	if err != nil {
		return err
	}
	c.number = max(c.number, e.Number)
	t.Set(cursorKey(a.Destination), c.encode())
	t.Set(publishedKey(a.Destination), encodeNumber(e.Number))
	return setRow(t, streamKey(a.Destination, e.Number), row)
}

// makeWay leaves, under the number of the store's entry, nothing that state has sealed but the same statement. That may have had a later
// number: then the backup was restored before, and the gateway went on without what was lost.
func (a *adoption) makeWay(t *state.Txn, e *Entry, text string, c *cursorRow) error {
	row, there, err := a.row(t, e.Number)
	switch {
	case err != nil:
		return err
	case there && row.Signed != "" && row.Signed != text:
		return fmt.Errorf("%w: the restored state has signed another one", ErrChain)
	case there && (row.Signed != "" || row.states(e)):
		return nil
	case there:
		c.number++
		if err := a.move(t, row, e.Number, c.number); err != nil {
			return err
		}
	}
	for number := e.Number + 1; number <= c.number; number++ {
		row, there, err := a.row(t, number)
		if err != nil {
			return err
		}
		if there && row.Signed == "" && row.states(e) {
			return a.move(t, row, number, e.Number)
		}
	}
	return nil
}

// row is state's entry of a number; there is false where it has none.
func (a *adoption) row(r getter, number uint64) (row streamRow, there bool, err error) {
	if _, err := r.Get(streamKey(a.Destination, number)); errors.Is(err, state.ErrNotFound) {
		return row, false, nil
	}
	row, err = readStreamRow(r, a.Destination, number)
	return row, err == nil, err
}

// states says whether the row, which is not signed, is of the same statement as e.
func (row *streamRow) states(e *Entry) bool {
	switch {
	case row.kind() != e.Type:
		return false
	case e.Batch != nil:
		return row.Batch == e.Batch.ID
	case e.Replace != nil:
		return row.Batch == e.Replace.Batch && row.Replace != nil && row.Replace.Generation == e.Replace.Generation
	}
	return row.Notice != nil && row.Notice.SHA256 == e.Notice.SHA256
}

// takeBatch keeps the batch of an entry. State may have its intent, and then it has its index.
func (a *adoption) takeBatch(t *state.Txn, e *Entry) error {
	id, err := ParseBatchID(e.Batch.ID)
	if err != nil {
		return err
	}
	row, err := readBatchRow(t, id)
	fresh := errors.Is(err, ErrNoBatch)
	switch {
	case fresh:
		row = BatchRow{Format: rowFormat, Destination: a.Destination, Node: a.Node, Number: e.Number, Unindexed: true}
	case err != nil:
		return err
	case row.Number != e.Number || row.Batch.SHA256 != e.Batch.SHA256:
		return fmt.Errorf("%w: the restored state has sealed its batch otherwise", ErrChain)
	}
	row.Batch = *e.Batch
	if err := row.readKey(); err != nil {
		return err
	}
	if err := reuse(t, a.Destination, row.Last+1); err != nil {
		return err
	}
	if fresh {
		if row.Leaf, err = prove(t, coreOf("adopt", &row, e.Number, a.Now())); err != nil {
			return err
		}
		t.Set(unindexedKey(id), []byte{})
	}
	return setRow(t, batchKey(id), row)
}

// takeReplace makes the batch what a replace entry states, unless state itself has entered it.
func (a *adoption) takeReplace(t *state.Txn, e *Entry) error {
	id, err := ParseBatchID(e.Replace.Batch)
	if err != nil {
		return err
	}
	row, err := readBatchRow(t, id)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrChain, err)
	case row.Stated == e.Number:
		return nil
	case row.StatedBy() != e.Replace.Of || row.Empty:
		return fmt.Errorf("%w: it replaces what is not the batch's present object", ErrChain)
	}
	row.apply(e.Replace, e.Number)
	if !row.Empty && row.Batch.Key != row.key(row.Generation) {
		return fmt.Errorf("%w: object key", ErrEntry)
	}
	core := coreOf("adopt", &row, e.Number, a.Now())
	core.Of, core.Generation = e.Replace.Of, e.Replace.Generation
	if _, err := prove(t, core); err != nil {
		return err
	}
	if row.Empty {
		t.Delete(unindexedKey(id))
	}
	return setRow(t, batchKey(id), row)
}

// batchName reads the end of a key as BatchKey writes it.
var batchName = regexp.MustCompile(`/dt=([0-9-]{10}/hour=[0-9]{2})/([A-Za-z0-9_-]+(?:\.r[0-9]{1,12})?)-([0-9]{12,19})-([0-9]{12,19})\.([0-9]{1,9})\.parquet\.age$`)

// readKey sets what the object key of a batch tells.
func (row *BatchRow) readKey() error {
	bad := fmt.Errorf("%w: object key is not one of node %q", ErrEntry, row.Node)
	m := batchName.FindStringSubmatch(row.Batch.Key)
	if m == nil {
		return bad
	}
	hour, err := time.Parse("2006-01-02/hour=15", m[1])
	if err != nil {
		return bad
	}
	row.Hour, row.Name = hour, ""
	if m[2] != row.Node {
		row.Name = m[2]
	}
	row.First, _ = strconv.ParseUint(m[3], 10, 64) // digits in bounds, by the expression
	row.Last, _ = strconv.ParseUint(m[4], 10, 64)
	row.Generation, _ = strconv.Atoi(m[5])
	if row.key(row.Generation) != row.Batch.Key || row.Name != "" && !strings.HasPrefix(row.Name, row.Node+".r") {
		return bad
	}
	return nil
}

// move gives an entry that is not signed another number.
func (a *adoption) move(t *state.Txn, row streamRow, from, to uint64) error {
	if row.Signed != "" {
		return fmt.Errorf("%w: stream entry %d is signed before the one before it", ErrRow, from)
	}
	if row.kind().carriesNotices() {
		object, err := t.Get(noticesKey(a.Destination, from))
		if err != nil {
			return fmt.Errorf("reading notices: %w", err)
		}
		t.Set(noticesKey(a.Destination, to), object)
		t.Delete(noticesKey(a.Destination, from))
		row.Notice.Key, row.Notices = NoticeKey(a.Destination, a.Node, to), 1
	} else if err := a.moveBatch(t, row, from, to); err != nil {
		return err
	}
	t.Delete(streamKey(a.Destination, from))
	return setRow(t, streamKey(a.Destination, to), row)
}

// moveBatch gives a batch's statement another number; 0 gives the batch up.
func (a *adoption) moveBatch(t *state.Txn, row streamRow, from, to uint64) error {
	id, err := ParseBatchID(row.Batch)
	if err != nil {
		return fmt.Errorf("%w: batch of stream entry %d", ErrRow, from)
	}
	batch, err := readBatchRow(t, id)
	if err != nil {
		return err
	}
	core := coreOf("move", &batch, to, a.Now())
	core.Of = from
	if _, err := prove(t, core); err != nil {
		return err
	}
	switch {
	case to == 0:
		t.Delete(batchKey(id)) // its rows in the index are then those of a draft that was given up
		return nil
	case row.kind() == ReplaceEntry:
		batch.Stated = to
	default:
		batch.Number = to
	}
	return setRow(t, batchKey(id), batch)
}

// closeGaps gives up what is sealed after the stream's end and can no longer be put, and closes the gaps in the numbers.
func (a *adoption) closeGaps(ctx context.Context) error {
	var c cursorRow
	err := a.State.View(func(r state.Reader) (err error) {
		c, err = readCursor(r, a.Destination)
		return err
	})
	if err != nil || c.number == a.chain.Number {
		return err
	}
	free := a.chain.Number + 1
	for number := free; number <= c.number; number++ {
		kept := false
		err := a.State.Update(ctx, func(t *state.Txn) (err error) {
			kept, err = a.settle(t, number, free)
			return err
		})
		if err != nil {
			return fmt.Errorf("sealed entry %d: %w", number, err)
		}
		// Crash here: the numbers have a gap below the last one. The next call passes over it.
		if kept {
			free++
		}
	}
	err = a.State.Update(ctx, func(t *state.Txn) error {
		c, err := readCursor(t, a.Destination)
		c.number = free - 1
		t.Set(cursorKey(a.Destination), c.encode())
		return err
	})
	if err != nil {
		return fmt.Errorf("moving the stream's end: %w", err)
	}
	return nil
}

// settle moves one entry down to the free number, or gives it up.
func (a *adoption) settle(t *state.Txn, number, free uint64) (kept bool, err error) {
	row, there, err := a.row(t, number)
	if err != nil || !there {
		return false, err
	}
	if row.kind() == BatchEntry && row.Signed == "" {
		_, err := os.Stat(filepath.Join(a.OutboxDir, row.Batch+".age"))
		if errors.Is(err, fs.ErrNotExist) {
			t.OnCommit(func() {
				a.Log.Error("a sealed batch was not published before the backup's gateway was lost, and its file is gone", "alarm", true,
					"destination", a.Destination, "number", number, "batch", row.Batch)
			})
			t.Delete(streamKey(a.Destination, number))
			return false, a.moveBatch(t, row, number, 0)
		}
		if err != nil {
			return false, fmt.Errorf("looking for outbox file: %w", err)
		}
	}
	if number == free {
		return true, nil
	}
	return true, a.move(t, row, number, free)
}
