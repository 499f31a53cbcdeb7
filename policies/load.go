package policies

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed default/*.yaml presets
var embedded embed.FS

// Default is the policy that comes with the program: service (contract), and the consents audience, linking, marketing and personalisation.
func Default() fs.FS { return below("default") }

// DefaultPreset is the name of Default among the presets.
const DefaultPreset = "default"

// Presets names the policies that come with the program, Default first.
func Presets() []string {
	names := []string{DefaultPreset}
	folders, err := embedded.ReadDir("presets")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range folders {
		names = append(names, f.Name())
	}
	return names
}

// Preset is a policy that comes with the program; ok is false for a name that is not of Presets.
func Preset(name string) (policy fs.FS, ok bool) {
	switch {
	case name == DefaultPreset:
		return Default(), true
	case slices.Contains(Presets(), name):
		return below("presets/" + name), true
	}
	return nil, false
}

func below(folder string) fs.FS {
	sub, err := fs.Sub(embedded, folder)
	if err != nil {
		panic(err) // the names are ours
	}
	return sub
}

// Load reads every *.yaml of fsys but those in folders and those that begin with a dot. On failure the error is a Problems:
// all that is wrong, not the first thing.
func Load(fsys fs.FS) (*Policy, error) {
	var problems Problems
	drafts, events, whole := readAll(fsys, &problems)
	check(drafts, events, &problems)
	if whole {
		checkStops(drafts)
	}
	if len(problems) > 0 {
		problems.sort()
		return nil, problems
	}
	p := &Policy{types: events.types, stages: events.stages, languages: languagesOf(drafts, events), source: events.source}
	slices.SortFunc(drafts, func(a, b *draft) int { return strings.Compare(a.ID, b.ID) })
	for i, x := range drafts {
		x.Index = i
		slices.Sort(x.EventTypes)
		slices.SortFunc(x.Recipients, func(a, b Recipient) int { return strings.Compare(a.Destination, b.Destination) })
		p.purposes = append(p.purposes, &x.Purpose)
	}
	p.index()
	p.composeChoices()
	p.hash = p.canonicalHash()
	return p, nil
}

// readAll reads the files one by one; events is nil where there is no usable document of event types, and whole is false where
// a purpose could not be read at all.
func readAll(fsys fs.FS, problems *Problems) (drafts []*draft, events *touchpoints, whole bool) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		*problems = append(*problems, Problem{File: ".", Wrong: "the folder cannot be read", Right: "check its path and rights"})
		return nil, nil, false
	}
	whole = true
	names := documentNames(entries, problems)
	for _, name := range names {
		doc := &document{file: name, problems: problems}
		root := doc.open(fsys)
		if root == nil {
			whole = whole && name == eventsFile
			continue
		}
		if name == eventsFile {
			events = doc.readEvents(root)
			continue
		}
		x := doc.readPurpose(root)
		if x == nil {
			whole = false
			continue
		}
		drafts = append(drafts, x)
	}
	if !slices.Contains(names, eventsFile) {
		*problems = append(*problems, Problem{File: eventsFile, Wrong: "is missing", Right: "write it with stages and event_types"})
	}
	if len(names) == 0 || len(names) == 1 && names[0] == eventsFile {
		*problems = append(*problems, Problem{File: ".", Wrong: "no purpose", Right: "write one *.yaml for each purpose"})
	}
	return drafts, events, whole
}

// documentNames are the files to read. A name that looks like a document but would be passed over is a problem: a purpose
// that silently is not there refuses its events.
func documentNames(entries []fs.DirEntry, problems *Problems) []string {
	var names []string
	for _, e := range entries {
		name := e.Name()
		ext := path.Ext(name)
		switch {
		case e.IsDir() || strings.HasPrefix(name, "."):
		case ext == ".yaml":
			names = append(names, name)
		case strings.EqualFold(ext, ".yaml"), strings.EqualFold(ext, ".yml"):
			*problems = append(*problems, Problem{File: name, Wrong: "would not be read", Right: "rename it to end in .yaml"})
		}
	}
	if len(names) > MaxPurposes+1 {
		*problems = append(*problems, Problem{
			File:  ".",
			Wrong: fmt.Sprintf("%d files", len(names)), Right: fmt.Sprintf("keep to %d purposes", MaxPurposes),
		})
		return names[:MaxPurposes+1]
	}
	return names
}

// open reads the file into its tree, or says why there is none.
func (d *document) open(fsys fs.FS) *value {
	file, err := fsys.Open(d.file)
	if err != nil {
		d.wrong(0, "", "cannot be opened", "check its rights")
		return nil
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err != nil {
		d.wrong(0, "", "cannot be read", "check that it is a file, and its rights")
		return nil
	}
	if len(content) > MaxFileBytes {
		d.wrong(0, "", fmt.Sprintf("is larger than %d KiB", MaxFileBytes>>10), "shorten it")
		return nil
	}
	return d.parse(content)
}
