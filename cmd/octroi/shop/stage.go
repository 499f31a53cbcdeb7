package shop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Backstage is what the demo's showman sees and no site does: both sides of the gateway at once. It asks the private listener where an event is, and
// looks into the folders that the data teams loaded. It changes nothing.
type Backstage struct {
	Private string   // URL of the gateway's private listener
	Token   string   // with scope admin
	Cookies []string // names under which the gateway keeps its credential
	Loaded  string   // folder with one folder a destination, NDJSON

	mu    sync.Mutex
	files map[string]loadedFile // by path; guarded by mu
}

// loadedFile is what a loaded file holds. A loader never changes one in place: a new content is a new file under the name.
type loadedFile struct {
	size    int64
	changed time.Time
	rows    map[string]json.RawMessage // by event id
}

// The bounds of what is looked at.
const (
	maxFiles    = 64       // kept
	maxFile     = 16 << 20 // bytes of one
	maxRows     = 60       // that the panel may ask for at once
	traceWithin = 5 * time.Second
)

// found is a row where it lies, or where it would.
type found struct {
	Destination string          `json:"destination"`
	EventID     string          `json:"event_id"`
	Batch       string          `json:"batch,omitempty"`
	Object      string          `json:"object,omitempty"`
	Row         json.RawMessage `json:"row,omitempty"` // none: it is not there
}

// Names of destinations and batches, as the gateway makes them: nothing else becomes a path.
var (
	destinationName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	batchName       = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

var errNobody = errors.New("the gateway knows nobody by this")

// trace asks the gateway where an event is, and looks there. whose is {"device":…} or {"subject":…}.
func (b *Backstage) trace(ctx context.Context, whose map[string]any) ([]found, error) {
	body, err := json.Marshal(whose)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, traceWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.Private+"/v1/trace", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+b.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	defer resp.Body.Close()
	var at struct {
		Destinations []struct {
			Name    string `json:"name"`
			EventID string `json:"event_id"`
			Batches []struct{ ID, Key string }
		}
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, errNobody
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("tracing: the gateway answered %d", resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&at); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	var out []found
	for _, d := range at.Destinations {
		for _, x := range d.Batches {
			if row := b.row(d.Name, x.ID, d.EventID); row != nil {
				out = append(out, found{d.Name, d.EventID, x.ID, x.Key, row})
			}
		}
	}
	return out, nil
}

// row is a loaded row; nil where it is not there.
func (b *Backstage) row(destination, batch, event string) json.RawMessage {
	if !destinationName.MatchString(destination) || !batchName.MatchString(batch) {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(b.Loaded, destination, "events", "dt=*", "hour=*", batch+".ndjson"))
	if err != nil || len(paths) == 0 {
		return nil
	}
	about, err := os.Stat(paths[0])
	if err != nil || about.Size() > maxFile {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f, known := b.files[paths[0]]
	if !known || f.size != about.Size() || !f.changed.Equal(about.ModTime()) {
		f = loadedFile{about.Size(), about.ModTime(), readLoaded(paths[0])}
		if b.files == nil || len(b.files) >= maxFiles {
			b.files = map[string]loadedFile{}
		}
		b.files[paths[0]] = f
	}
	return f.rows[event]
}

func readLoaded(path string) map[string]json.RawMessage {
	rows := map[string]json.RawMessage{}
	text, err := os.ReadFile(path)
	if err != nil {
		return rows // gone meanwhile
	}
	for line := range bytes.Lines(text) {
		var row struct {
			ID string `json:"event_id"`
		}
		if json.Unmarshal(line, &row) == nil && row.ID != "" {
			rows[row.ID] = bytes.TrimSpace(line)
		}
	}
	return rows
}

// servePanelTrace says what became of an event of this browser, or of an order of this session.
func (s *Shop) servePanelTrace(w http.ResponseWriter, r *http.Request) {
	var in struct{ ID, Order string }
	if !readJSON(w, r, &in) {
		return
	}
	whose := map[string]any{"site": s.o.Site, "id": cmp.Or(in.ID, in.Order)}
	if in.Order != "" {
		known := false
		s.sessions.look(r, func(x *session) {
			if x == nil {
				return
			}
			var o Order
			if o, known = x.order(in.Order); known {
				whose["subject"] = o.Subject
			}
		})
		if !known {
			writeJSON(w, map[string]any{"state": "unknown"})
			return
		}
	} else if whose["device"] = s.credential(r); whose["device"] == "" {
		writeJSON(w, map[string]any{"state": "unknown"})
		return
	}
	rows, err := s.o.Stage.trace(r.Context(), whose)
	switch {
	case errors.Is(err, errNobody):
		writeJSON(w, map[string]any{"state": "unknown"})
	case err != nil:
		s.o.Log.Error("the panel cannot trace", "error", err)
		http.Error(w, "the gateway does not answer", http.StatusBadGateway)
	case len(rows) == 0:
		writeJSON(w, map[string]any{"state": "waiting"})
	default:
		writeJSON(w, map[string]any{"state": "loaded", "rows": rows})
	}
}

// credential is the gateway's cookie. It comes to the shop because cookies go by host name and not by port (RFC 6265 section 8.5), here as wherever
// gateway and site share a host.
func (s *Shop) credential(r *http.Request) string {
	for _, name := range s.o.Stage.Cookies {
		if k, err := r.Cookie(name); err == nil {
			return k.Value
		}
	}
	return ""
}

// servePanelRows says which rows that the panel has seen are still there. An event id is an HMAC of 128 bits: nobody asks for one not seen.
func (s *Shop) servePanelRows(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Rows []struct {
			Destination, Batch string
			EventID            string `json:"event_id"`
		}
	}
	if !readJSON(w, r, &in) {
		return
	}
	if len(in.Rows) > maxRows {
		http.Error(w, "too many rows", http.StatusRequestEntityTooLarge)
		return
	}
	out := make([]found, len(in.Rows))
	for i, x := range in.Rows {
		out[i] = found{Destination: x.Destination, EventID: x.EventID, Batch: x.Batch, Row: s.o.Stage.row(x.Destination, x.Batch, x.EventID)}
	}
	writeJSON(w, map[string]any{"rows": out})
}

// readJSON reads a body of JSON. The type is asked for because a page of another origin cannot send it unasked.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); media != "application/json" {
		http.Error(w, "not JSON", http.StatusUnsupportedMediaType)
		return false
	}
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // of our own making; a client that is gone needs none
}
