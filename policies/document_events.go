package policies

import (
	"fmt"
	"maps"
	"slices"
)

// eventsFile is the one document that is no purpose.
const eventsFile = "events.yaml"

// touchpoints is what the document of event types says.
type touchpoints struct {
	stages    []string
	languages []string // as wished; nil where the document does not say
	types     []*EventType
	source    map[string]string
	root      fields
	doc       *document
}

// readEvents reads the document of event types; nil where it is not even a mapping.
func (d *document) readEvents(root *value) *touchpoints {
	if root.kind != kindMap {
		d.wrong(root.line, "", "is "+root.kind.String(), "write the keys stages, languages, source and event_types")
		return nil
	}
	f := d.object(root, "", "stages", "languages", "source", "event_types")
	e := &touchpoints{doc: d, root: f}
	known := e.readStages(f)
	e.readLanguages(f)
	e.source = f.translated("source")
	f.missing("event_types", "each event type with its channel, such as page_view: {channel: web}")
	v := f.find("event_types", kindMap)
	if v == nil {
		return e
	}
	types := d.mapping(v, "event_types")
	if len(types.at) > MaxEventTypes {
		f.wrong("event_types", fmt.Sprintf("has more than %d types", MaxEventTypes), "use fields to tell events apart")
	}
	for _, name := range slices.Sorted(maps.Keys(types.at)) {
		if !isName(name) {
			types.wrong(name, "not a name", nameRule)
		}
		e.types = append(e.types, e.readType(name, types.at[name], known))
	}
	return e
}

// readType reads one event type; known maps a type to its stage in the preset.
func (e *touchpoints) readType(name string, v *value, known map[string]string) *EventType {
	f := e.doc.object(v, join("event_types", name), "channel", "stage")
	f.missing("channel", "the channel such events come by, such as web or store")
	t := &EventType{
		Name:    name,
		Channel: f.among("channel", OtherChannel, channels[:]),
		Stage:   f.among("stage", known[name], e.stages),
	}
	if t.Stage == "" && !f.has("stage") && !f.none {
		f.wrong("stage", "is missing, and the preset does not know the type", choose("", e.stages))
	}
	return t
}

// readStages reads the name of a preset, or a list of a policy's own stages.
func (e *touchpoints) readStages(f fields) (known map[string]string) {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
		if p.name == defaultPreset {
			e.stages, known = p.stages, p.of
		}
	}
	if v := f.at["stages"]; v != nil && v.kind == kindList {
		own, _ := f.names("stages")
		if len(own) < 2 || len(own) > 12 {
			f.wrong("stages", fmt.Sprintf("has %d stages", len(own)), "write 2 to 12, or the name of a preset")
		}
		e.stages = own
		return nil
	}
	chosen := f.among("stages", defaultPreset, names)
	for _, p := range presets() {
		if p.name == chosen {
			e.stages, known = p.stages, p.of
		}
	}
	return known
}

// readLanguages reads the languages that every consent must be asked in, the fallback first.
func (e *touchpoints) readLanguages(f fields) {
	list := f.find("languages", kindList)
	if list == nil {
		return
	}
	if len(list.items) > MaxLanguages {
		f.wrong("languages", fmt.Sprintf("has more than %d languages", MaxLanguages), "shorten it")
		return
	}
	var languages []string
	for i, v := range list.items {
		switch {
		case !isLanguage(v.text):
			f.doc.wrong(v.line, fmt.Sprintf("languages[%d]", i), "not a language", "write a BCP 47 tag such as fr or pt-BR")
		case slices.Contains(languages, v.text):
			f.doc.wrong(v.line, fmt.Sprintf("languages[%d]", i), fmt.Sprintf("%q is in the list already", v.text), "remove it")
		default:
			languages = append(languages, v.text)
		}
	}
	if len(languages) == len(list.items) { // a list with a slip in it says nothing about the texts of the purposes
		e.languages = languages
	}
}
