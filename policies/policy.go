// Package policies reads the purposes of processing and decides what each allows.
//
// A policy is a folder: one YAML document per purpose, and one (events.yaml) that lists the event types with their channel and
// stage. Load parses and validates all of it at once and reports everything that is wrong, not the first thing; Default is the
// policy that comes with the program and the example to start from. A Policy is immutable and safe for concurrent use. The
// package does no I/O but through the fs.FS it is given.
//
// What is decided here is decided once: a key that is not known, a purpose without a text, a recipient without a name or a
// consent purpose that would keep data after a withdrawal is an error of the policy, not a surprise of the gateway.
package policies

import "slices"

// Mask is a set of purposes by their Index in one Policy. It is never stored: indexes change with the policy.
type Mask uint64

// The limits of one policy. A Mask has room for MaxPurposes; a stored grant has room for MaxPurposesPerType.
const (
	MaxPurposes        = 64
	MaxPurposesPerType = 16
	MaxEventTypes      = 256
	MaxFields          = 64 // of one purpose
	MaxRecipients      = 16 // of one purpose
	MaxLanguages       = 32 // of one policy
	MaxFileBytes       = 128 << 10
	MaxFileLines       = 2000     // the parser's time grows with their square
	MaxTextBytes       = 16 << 10 // one notice text
)

// Policy is one validated set of documents.
type Policy struct {
	purposes  []*Purpose // by ID; Index is the position
	byID      map[string]*Purpose
	types     []*EventType // by Name
	byName    map[string]*EventType
	stages    []string
	languages []string // the first is the fallback
	source    map[string]string
	choices   []NoticeText // as languages; empty where no purpose rests on consent
	fields    map[string]*fieldMasks
	names     []string // keys of fields, in order
	receives  map[string]Mask
	hash      [32]byte
}

// fieldMasks says, for one field, which purposes treat it how; the index is what Treatment.Reveals answers.
type fieldMasks [len(treatments)]Mask

// Hash is the SHA-256 of the policy's canonical content. It travels in Grant, receipt, Event and stream.
func (p *Policy) Hash() [32]byte { return p.hash }

// Purposes lists the purposes by ID; the slice is shared and read-only.
func (p *Policy) Purposes() []*Purpose { return p.purposes }

// Purpose finds a purpose by its id.
func (p *Policy) Purpose(id string) (*Purpose, bool) { x, ok := p.byID[id]; return x, ok }

// EventType finds an event type by its name.
func (p *Policy) EventType(name string) (*EventType, bool) { x, ok := p.byName[name]; return x, ok }

// EventTypes lists the event types by name; the slice is shared and read-only.
func (p *Policy) EventTypes() []*EventType { return p.types }

// Stages lists the stages of a journey in order; the slice is shared and read-only.
func (p *Policy) Stages() []string { return p.stages }

// Languages lists the languages every consent can be asked in, the fallback first; the slice is shared and read-only.
func (p *Policy) Languages() []string { return p.languages }

// Source says in each language where the data comes from (GDPR Art. 15(1)(g)); empty where the policy does not say. It is shared and read-only.
func (p *Policy) Source() map[string]string { return p.source }

// Exempt lists, by name, the event types that may be sent without a choice: those that a purpose with an Exemption names. Where a consent purpose names
// one as well, that purpose holds only after its choice: before it, the event is the exempt purpose's alone, with its fields and nobody's pseudonym. The
// caller owns the list.
func (p *Policy) Exempt() []string {
	var exempt Mask
	for _, x := range p.purposes {
		if x.Exemption != "" {
			exempt |= x.Bit()
		}
	}
	names := []string{}
	for _, t := range p.types {
		if t.Purposes&exempt != 0 {
			names = append(names, t.Name)
		}
	}
	return names
}

// Rules are the fields that each purpose lets through, with their treatment; a purpose without any has an empty map. The caller owns them.
func (p *Policy) Rules() map[string]map[string]Treatment {
	rules := make(map[string]map[string]Treatment, len(p.purposes))
	for _, x := range p.purposes {
		fields := make(map[string]Treatment, len(x.Fields))
		for field, t := range x.Fields {
			if t != Drop {
				fields[field] = t
			}
		}
		rules[x.ID] = fields
	}
	return rules
}

// Retention is how long a purpose's data is kept; ok is false for an unknown purpose.
func (p *Policy) Retention(purpose string) (period Period, ok bool) {
	x, ok := p.byID[purpose]
	if !ok {
		return Period{}, false
	}
	return x.Retention, true
}

// RecipientOf is the set of purposes whose data destination receives.
func (p *Policy) RecipientOf(destination string) Mask { return p.receives[destination] }

// Treatment is the most revealing treatment that the purposes in m have for field; Drop where none names it.
func (p *Policy) Treatment(m Mask, field string) Treatment {
	masks, ok := p.fields[field]
	if !ok {
		return Drop
	}
	for rank := len(masks) - 1; rank > 0; rank-- {
		if masks[rank]&m != 0 {
			return treatments[rank]
		}
	}
	return Drop
}

// FieldNames lists every field that some purpose treats otherwise than by Drop, by name; the slice is shared and read-only.
func (p *Policy) FieldNames() []string { return p.names }

// index builds what the questions above are answered from. The purposes are sorted and numbered already.
func (p *Policy) index() {
	p.byID = make(map[string]*Purpose, len(p.purposes))
	p.byName = make(map[string]*EventType, len(p.types))
	p.fields = map[string]*fieldMasks{}
	p.receives = map[string]Mask{}
	for _, t := range p.types {
		p.byName[t.Name] = t
	}
	for _, purpose := range p.purposes {
		p.byID[purpose.ID] = purpose
		for _, name := range purpose.EventTypes {
			p.byName[name].Purposes |= purpose.Bit()
		}
		for _, r := range purpose.Recipients {
			p.receives[r.Destination] |= purpose.Bit()
		}
		for field, treatment := range purpose.Fields {
			if treatment == Drop {
				continue
			}
			if p.fields[field] == nil {
				p.fields[field] = new(fieldMasks)
				p.names = append(p.names, field)
			}
			p.fields[field][treatment.Reveals()] |= purpose.Bit()
		}
	}
	slices.Sort(p.names)
}
