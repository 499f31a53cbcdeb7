package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Status is what a folder holds.
type Status struct {
	Destination, Format       string
	Nodes                     []NodeStatus // by name
	Batches, Rows, Duplicates uint64       // ever loaded
}

// NodeStatus is how far one node's stream was applied.
type NodeStatus struct {
	Node    string
	Number  uint64 // last entry
	At      time.Time
	Failure string // why it stands still before the next entry; "" where it does not
	Since   time.Time
}

// ReadStatus reads a folder's state: ErrLocked while a loader has it, fs.ErrNotExist where nothing was loaded.
func ReadStatus(folder string) (s Status, err error) {
	path := filepath.Join(folder, ownFolder, "state.db")
	if _, err := os.Stat(path); err != nil {
		return s, fmt.Errorf("reading status of %s: %w", folder, err)
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	defer lock.release()
	db, err := openBolt(path, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return s, fmt.Errorf("reading status: opening %s: %w", path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error { return s.read(tx) })
	if err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	return s, nil
}

func (s *Status) read(tx *bolt.Tx) error {
	about := tx.Bucket(bucketAbout)
	if about == nil {
		return fs.ErrNotExist
	}
	s.Destination, s.Format = string(about.Get([]byte("destination"))), string(about.Get([]byte("format")))
	nodes := map[string]*NodeStatus{}
	at := func(node []byte) *NodeStatus {
		if nodes[string(node)] == nil {
			nodes[string(node)] = &NodeStatus{Node: string(node)}
		}
		return nodes[string(node)]
	}
	err := errors.Join(
		eachJSON(tx.Bucket(bucketPosition), func(node []byte, p position) { at(node).Number, at(node).At = p.Number, p.At }),
		eachJSON(tx.Bucket(bucketFailure), func(node []byte, f failure) { at(node).Failure, at(node).Since = f.Text, f.At }),
		eachJSON(tx.Bucket(bucketOutput), func(_ []byte, o output) {
			s.Batches, s.Rows, s.Duplicates = s.Batches+1, s.Rows+uint64(o.Rows), s.Duplicates+uint64(o.Duplicates)
		}),
	)
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		s.Nodes = append(s.Nodes, *nodes[name])
	}
	return err
}

func eachJSON[T any](b *bolt.Bucket, fn func(key []byte, value T)) error {
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, text []byte) error {
		var value T
		if err := json.Unmarshal(text, &value); err != nil {
			return err
		}
		fn(key, value)
		return nil
	})
}
