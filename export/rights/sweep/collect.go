package sweep

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// finds are the rows of the access jobs of one round: blocks in one file without a name, so that many jobs take little memory.
type finds struct {
	mu    sync.Mutex
	file  *os.File          // guarded by mu
	end   int64             // guarded by mu
	found map[string]*found // by request; its values are guarded by mu
}

// found is what was found for one request.
type found struct {
	blocks   map[string][]block // by destination
	withheld map[string]int     // rows of the person's devices that name somebody else, by destination
	batches  map[string]bool    // that were read
	objects  int
}

// block is a run of rows, gob encoded.
type block struct{ from, size int64 }

// collecting begins the access jobs of the round: those of which every batch can be read now. The others wait for a later one.
func (p *pass) collecting(work *proof.Work, orders []*order) error {
	p.close()
	p.finds = &finds{found: map[string]*found{}}
	readable := map[string]bool{}
	for _, w := range work.Batches {
		readable[w.ID] = w.Stage != proof.BatchPublish
	}
	for _, o := range orders {
		if o.item.Stage != proof.StageCollect {
			continue
		}
		missing := slices.ContainsFunc(o.item.Batches, func(id string) bool { return !readable[id] })
		if !missing && p.first("collect "+o.request()) {
			p.finds.found[o.request()] = &found{blocks: map[string][]block{}, withheld: map[string]int{}, batches: map[string]bool{}}
		}
	}
	if len(p.finds.found) == 0 {
		return nil
	}
	var err error
	p.finds.file, err = export.Nameless(p.s.o.Temp)
	return err
}

func (f *finds) close() {
	if f.file != nil {
		f.file.Close()
	}
}

func (f *finds) collects(o *order) bool { return f.found[o.request()] != nil }

// take keeps those rows that the jobs show, and counts what they withhold.
func (f *finds) take(orders []*order, destination string, rows []pseudonymize.Row) error {
	for _, o := range orders {
		var own []pseudonymize.Row
		who, others := o.whose[destination], 0
		for i := range rows {
			shown, withheld := who.shows(&rows[i])
			if shown {
				own = append(own, rows[i])
			}
			if withheld {
				others++
			}
		}
		if others > 0 {
			f.withhold(o.request(), destination, others)
		}
		if len(own) == 0 {
			continue
		}
		if err := f.append(o.request(), destination, own); err != nil {
			return fmt.Errorf("keeping rows: %w", err)
		}
	}
	return nil
}

func (f *finds) withhold(request, destination string, rows int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found[request].withheld[destination] += rows
}

func (f *finds) append(request, destination string, rows []pseudonymize.Row) error {
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(rows); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.file.WriteAt(text.Bytes(), f.end)
	if err != nil {
		return err
	}
	of := f.found[request]
	of.blocks[destination] = append(of.blocks[destination], block{f.end, int64(n)})
	f.end += int64(n)
	return nil
}

// looked notes that a batch was read to its end; object says that there was one.
func (f *finds) looked(e *errand, object bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range e.readers {
		of := f.found[o.request()]
		of.batches[e.batch.ID] = true
		if object {
			of.objects++
		}
	}
}

// rows are access.Rows of a request.
func (f *finds) rows(of *found) access.Rows {
	return func(destination string, fn func([]pseudonymize.Row) error) error {
		for _, b := range of.blocks[destination] {
			var rows []pseudonymize.Row
			if err := gob.NewDecoder(io.NewSectionReader(f.file, b.from, b.size)).Decode(&rows); err != nil {
				return fmt.Errorf("reading kept rows: %w", err)
			}
			if err := fn(rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// collect makes the package of an access, where all of its batches were read, and uploads it.
func (p *pass) collect(ctx context.Context, o *order) error {
	of := p.finds.found[o.request()]
	if of == nil || len(of.batches) != len(o.batches) {
		return nil
	}
	f, err := export.Nameless(p.s.o.Temp)
	if err != nil {
		return err
	}
	defer f.Close()
	report, length, err := p.pack(f, o, of)
	if err != nil {
		return err
	}
	err = p.s.o.Gateway.Package(ctx, o.request(), report, f, length)
	if errors.Is(err, ErrRejected) { // another custodian was faster, or it was cancelled
		p.waits()
		return nil
	}
	if err != nil {
		return fmt.Errorf("uploading a package: %w", err)
	}
	// Crash here: the gateway has it and asks no more.
	if err := p.s.memory.complete(o.request(), "", nil, p.s.o.Now().UTC()); err != nil {
		return err
	}
	p.count(func(r *Report) { r.Packages++ })
	return nil
}

// pack writes a package to f and signs what is in it.
func (p *pass) pack(f *os.File, o *order, of *found) (report string, length int64, err error) {
	j := &o.item.Job
	var m access.Material
	if err := json.Unmarshal(o.item.Material, &m); err != nil || m.Request != j.Request {
		return "", 0, refusal(RefusedFacts, "what the gateway knows is missing, or of another request")
	}
	h := sha256.New()
	out := io.WriteCloser(nopCloser{io.MultiWriter(f, h)})
	if j.Recipient != "" {
		r, err := export.ParseRecovery(j.Recipient)
		if err != nil {
			return "", 0, refusal(RefusedFacts, "the package's recipient is not usable")
		}
		if out, err = export.Seal(out, r); err != nil {
			return "", 0, err
		}
	}
	at := p.s.o.Now().UTC()
	counts, err := access.Write(out, m, access.Found{
		Destinations: slices.Sorted(maps.Keys(o.whose)), Rows: p.finds.rows(of), Withheld: of.withheld, Own: o.own(),
		Objects: of.objects, At: at,
	}, cmp.Or(j.Language, "en"))
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return "", 0, fmt.Errorf("writing a package: %w", err)
	}
	if length, err = size(f); err != nil {
		return "", 0, err
	}
	report, err = proof.SignCollected(proof.Collected{
		Version: 1, Request: j.Request, SHA256: hexSum(h), Size: length, Sealed: j.Recipient != "", Objects: of.objects, Rows: counts, At: at,
	}, p.s.o.Key)
	return report, length, err
}

// own are all pseudonyms of the job: also of whoever is signed in, who reads the package.
func (o *order) own() map[[16]byte]bool {
	all := map[[16]byte]bool{}
	for _, w := range o.whose {
		maps.Copy(all, w.devices)
		maps.Copy(all, w.persons)
		maps.Copy(all, w.with)
	}
	return all
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
