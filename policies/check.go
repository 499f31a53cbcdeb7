package policies

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// check applies the rules that no single key can break. Where events is nil, those about event types are left out: one broken
// file is not to be reported once for every word that depends on it.
func check(drafts []*draft, events *touchpoints, problems *Problems) {
	checkDistinct(drafts)
	languages := languagesOf(drafts, events)
	if len(languages) > MaxLanguages {
		*problems = append(*problems, Problem{
			File:  ".",
			Wrong: fmt.Sprintf("%d languages", len(languages)), Right: fmt.Sprintf("keep to %d", MaxLanguages),
		})
	}
	for _, x := range drafts {
		x.checkBasis()
		x.checkSubject()
		x.checkLinking(drafts)
		x.checkExemption()
		x.checkLanguages(languages, events)
		x.checkTransfers()
		if events != nil {
			x.checkEventTypes(events)
		}
	}
	if events != nil {
		events.checkSource(languages)
		checkCounts(drafts, events)
	}
}

// checkSource: what is said of the source is said in every language, and in no other.
func (e *touchpoints) checkSource(languages []string) {
	if len(e.source) == 0 {
		return
	}
	for _, l := range slices.Sorted(maps.Keys(e.source)) {
		if !slices.Contains(languages, l) {
			e.root.wrong("source", l+" is no language of the policy", "write it in "+strings.Join(languages, ", "))
		}
	}
	for _, l := range languages {
		if e.source[l] == "" {
			e.root.wrong("source", "lacks "+l, "write it in "+strings.Join(languages, ", "))
		}
	}
}

func checkDistinct(drafts []*draft) {
	seen := map[string]string{}
	for _, x := range drafts {
		if first, twice := seen[x.ID]; twice && x.ID != "" {
			x.root.wrong("purpose", fmt.Sprintf("%s has purpose %q already", first, x.ID), "give each purpose one file and its own name")
			continue
		}
		seen[x.ID] = x.root.doc.file
	}
}

func (x *draft) checkBasis() {
	f := x.root
	if x.ID == ChoiceID {
		f.wrong("purpose", fmt.Sprintf("%q is the name of the notice of all consent purposes", ChoiceID), "choose another name")
	}
	if x.Basis == LegitimateInterest && !f.has("assessment") { // GDPR Art. 6(1)(f): the balance must have been struck
		f.wrong("assessment", "is missing for a legitimate interest", "write the reference of the balancing test")
	}
	if x.AutomatedDecisions && x.Basis == LegitimateInterest { // GDPR Art. 22(2): contract, law, or explicit consent
		f.wrong("automated_decisions", "decisions by automated means alone cannot rest on a legitimate interest", "declare another basis, or write false")
	}
	if x.Advertising && (x.Basis == Contract || x.Basis == LegalObligation) { // CJEU C-252/21, 98–102
		f.wrong("advertising", fmt.Sprintf("advertising cannot rest on basis %s", x.Basis), "write basis: consent")
	}
}

// checkSubject: what a purpose without a subject cannot have.
func (x *draft) checkSubject() {
	if !x.SubjectNone {
		return
	}
	if x.Basis == Consent {
		x.root.wrong("subject", "a consent is somebody's", "write subject: required, or declare another basis")
	}
	for _, field := range slices.Sorted(maps.Keys(x.Fields)) {
		if x.Fields[field] == Pseudonymise { // it is made with the subject's key, and one for all would join the rows of a number
			x.root.wrong("fields", fmt.Sprintf("%s: pseudonymise needs a subject", field), "write drop, or subject: required")
		}
	}
}

// checkExemption: what is read from a browser without a choice serves anonymous counts alone (ePrivacy Art. 5(3); consent.md G11).
func (x *draft) checkExemption() {
	if !x.root.has("exemption") {
		return
	}
	if x.Basis != LegitimateInterest && x.Basis != "" {
		x.root.wrong("exemption", fmt.Sprintf("has no meaning for basis %s", x.Basis), "remove it, or write basis: legitimate_interest")
	}
	if !x.SubjectNone {
		x.root.wrong("exemption", "no exemption covers the data of a subject", "write subject: none, or ask for consent")
	}
	if x.Sharing || x.Advertising {
		x.root.wrong("exemption", "no exemption covers sharing or advertising", "remove it, and ask for consent")
	}
}

// checkLinking: the purpose that joins a device to a person lets nothing in by itself, and goes wherever what it joins goes: the erasure of a person
// must find at every destination what was received while linked (GDPR Art. 17(1), 19).
func (x *draft) checkLinking(all []*draft) {
	if x.ID != Linking {
		return
	}
	f := x.root
	if x.Basis != Consent && x.Basis != "" {
		f.wrong("basis", fmt.Sprintf("%q is the purpose that joins a device to a person: it rests on consent alone", Linking), "write basis: consent, or choose another name")
	}
	if len(x.EventTypes) > 0 {
		f.wrong("event_types", "linking lets no event in by itself", "remove it: the events are those of the other consent purposes")
	}
	if len(x.Fields) > 0 {
		f.wrong("fields", "linking allows no field by itself", "remove it: the fields are those of the other consent purposes")
	}
	if x.OnWithdrawal == Stop { // GDPR Art. 17(1)(b): no other ground covers the joining
		f.wrong("on_withdrawal", "stop would keep the person's pseudonym on the device's rows without a ground", "write erase")
	}
	for _, o := range all {
		for _, r := range o.Recipients {
			covered := slices.ContainsFunc(x.Recipients, func(l Recipient) bool { return l.Destination == r.Destination })
			if o.Basis == Consent && !covered && r.Destination != "" {
				f.wrong("recipients", fmt.Sprintf("lacks %s, a recipient of the consent purpose %s", r.Destination, o.ID),
					"add it: a person's erasure must find there what was received while linked")
			}
		}
	}
}

// checkLanguages: a text in one language at least; a consent in every language that any purpose has, because the choice is
// asked in all of them and one that is not understood is not informed (GDPR Art. 4(11)).
func (x *draft) checkLanguages(all []string, events *touchpoints) {
	for _, part := range []struct {
		key   string
		texts map[string]string
	}{{"title", x.Titles}, {"notice.text", x.Texts}} {
		if len(part.texts) == 0 {
			continue // said already
		}
		var lacks []string
		for _, l := range all {
			if part.texts[l] == "" && (x.Basis == Consent || x.Titles[l] != "" || x.Texts[l] != "") {
				lacks = append(lacks, l)
			}
		}
		line := x.root.line
		if v := x.root.at[strings.TrimSuffix(part.key, ".text")]; v != nil {
			line = v.line
		}
		if len(lacks) > 0 {
			x.root.doc.wrong(line, part.key, "lacks "+strings.Join(lacks, ", "), "write it in "+strings.Join(all, ", "))
		}
		if events == nil || events.languages == nil {
			continue
		}
		for _, l := range slices.Sorted(maps.Keys(part.texts)) {
			if !slices.Contains(events.languages, l) {
				x.root.doc.wrong(line, part.key+"."+l, "a language that events.yaml does not list", "list it under languages there, or remove it")
			}
		}
	}
}

// checkTransfers: GDPR Art. 13(1)(f), Art. 44: a recipient outside the European Economic Area needs a safeguard that is named.
func (x *draft) checkTransfers() {
	for _, r := range x.Recipients {
		if isCountry(r.Country) && !slices.Contains(economicArea(), r.Country) && !x.root.has("transfers") {
			x.root.wrong("transfers", fmt.Sprintf("is missing, with a recipient in %s", r.Country),
				"write the safeguard: adequacy decision, standard contractual clauses, …")
			return
		}
	}
}

// economicArea is the European Economic Area: the Union's members, Iceland, Liechtenstein and Norway.
func economicArea() []string {
	return []string{
		"AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IS", "IT", "LI", "LT", "LU", "LV",
		"MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
	}
}

// checkStops asks of each consent purpose that stops what checkStop asks; it needs every purpose.
func checkStops(drafts []*draft) {
	for _, x := range drafts {
		if x.Basis == Consent && x.OnWithdrawal == Stop {
			x.checkStop(drafts)
		}
	}
}

// checkStop: after a withdrawal data may stay only where another ground covers it (GDPR Art. 17(1)(b)): the same type, at the
// same recipient, with every field, under a declared basis.
func (x *draft) checkStop(all []*draft) {
	for _, name := range x.EventTypes {
		for _, r := range x.Recipients {
			if uncovered := x.uncovered(name, r.Destination, all); uncovered != "" {
				x.root.wrong("on_withdrawal", fmt.Sprintf("stop would keep %s at %s without a ground: %s", name, r.Destination, uncovered),
					"write erase, or a purpose with a declared basis that covers the same data")
				return
			}
		}
	}
}

// uncovered says what no declared purpose covers of an event type at a destination, or "".
func (x *draft) uncovered(eventType, destination string, all []*draft) string {
	covered := map[string]int{}
	found := false
	for _, o := range all {
		receives := slices.ContainsFunc(o.Recipients, func(r Recipient) bool { return r.Destination == destination })
		if !o.Basis.Declared() || !receives || !slices.Contains(o.EventTypes, eventType) {
			continue
		}
		found = true
		for field, treatment := range o.Fields {
			covered[field] = max(covered[field], treatment.Reveals())
		}
	}
	if !found {
		return "no purpose with a declared basis covers it"
	}
	for _, field := range slices.Sorted(maps.Keys(x.Fields)) {
		if x.Fields[field].Reveals() > covered[field] {
			return fmt.Sprintf("no purpose with a declared basis covers the field %s", field)
		}
	}
	return ""
}

func (x *draft) checkEventTypes(events *touchpoints) {
	names := make([]string, len(events.types))
	for i, t := range events.types {
		names[i] = t.Name
	}
	for i, name := range x.EventTypes {
		if !slices.Contains(names, name) {
			right := choose(name, names)
			if nearest(name, names) == "" {
				right = "add it to event_types in " + eventsFile
			}
			at := x.eventTypePlaces[i]
			x.root.doc.wrong(at.line, fmt.Sprintf("event_types[%d]", at.index), fmt.Sprintf("%q is no event type", name), right)
		}
	}
}

// checkCounts: the list of purposes of one grant is bounded.
func checkCounts(drafts []*draft, events *touchpoints) {
	count := map[string]int{}
	for _, x := range drafts {
		for _, name := range x.EventTypes {
			count[name]++
		}
	}
	for _, t := range events.types {
		if n := count[t.Name]; n > MaxPurposesPerType {
			events.doc.wrong(0, "event_types."+t.Name, fmt.Sprintf("%d purposes name it", n),
				fmt.Sprintf("keep to %d", MaxPurposesPerType))
		}
	}
}

// languagesOf is the languages that the document of event types lists, else all that any purpose has, by tag.
func languagesOf(drafts []*draft, events *touchpoints) []string {
	if events != nil && len(events.languages) > 0 {
		return events.languages
	}
	all := map[string]bool{}
	for _, x := range drafts {
		for _, texts := range []map[string]string{x.Titles, x.Texts} {
			for l := range texts {
				all[l] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// longer reports whether a is a longer span than b, from a day on which both are counted.
func longer(a, b Period) bool {
	from := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return a.AddTo(from).After(b.AddTo(from))
}

func isWebAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}
