package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// draft is a purpose as its document has it, before the rules that need the other documents.
type draft struct {
	Purpose
	root            fields
	eventTypePlaces []place // as Purpose.EventTypes
}

// readPurpose reads the document of one purpose; nil where it is not even a mapping.
func (d *document) readPurpose(root *value) *draft {
	if root.kind != kindMap {
		d.wrong(root.line, "", "is "+root.kind.String(), "write the keys of a purpose: purpose, version, basis, …")
		return nil
	}
	f := d.object(root, "", "purpose", "version", "basis", "title", "notice", "validity", "minimum_proof", "on_withdrawal",
		"retention", "subject", "sharing", "advertising", "event_types", "fields", "recipients", "transfers", "assessment",
		"roles", "time_precision", "automated_decisions", "exemption")
	x := &draft{root: f}
	x.ID = f.name("purpose", "the purpose's name, such as audience")
	f.missing("version", "version: 1, and one more with every change that an old consent does not cover")
	x.Version = f.number("version", 65535)
	f.missing("basis", "one of "+strings.Join(bases(), ", "))
	x.Basis = Basis(f.among("basis", "", bases()))
	x.readNotice()
	x.readConsentRules()
	f.missing("retention", "how long the data is kept, such as P13M")
	x.Retention = f.period("retention", Period{})
	x.SubjectNone = f.among("subject", "required", []string{"required", "none"}) == "none"
	x.Sharing, x.Advertising = f.flag("sharing"), f.flag("advertising")
	if x.ID != Linking {
		f.missing("event_types", "the event types the purpose needs, or []")
	}
	x.EventTypes, x.eventTypePlaces = f.names("event_types")
	x.readFields()
	f.missing("recipients", "each destination with its name and country, or []")
	x.readRecipients()
	x.Transfers, x.Assessment = f.short("transfers"), f.short("assessment")
	x.readRoles()
	x.TimePrecision = f.precision("time_precision")
	x.AutomatedDecisions = f.flag("automated_decisions")
	x.Exemption = f.short("exemption")
	return x
}

func bases() []string {
	return []string{string(Consent), string(Contract), string(LegalObligation), string(LegitimateInterest)}
}

func (x *draft) readNotice() {
	x.root.missing("title", "a short name in each language")
	x.Titles = x.root.translated("title")
	x.root.missing("notice", "url, and text in each language")
	v := x.root.find("notice", kindMap)
	if v == nil {
		return
	}
	f := x.root.doc.object(v, "notice", "url", "text")
	x.NoticeURL = f.required("url", "where the whole notice stands")
	if x.NoticeURL != "" && !isWebAddress(x.NoticeURL) {
		f.wrong("url", fmt.Sprintf("%q is not a web address", clip(x.NoticeURL)), "write one that begins with https://")
	}
	f.missing("text", "the information of GDPR Art. 13, in each language")
	x.Texts = f.translated("text")
}

// readConsentRules reads what only a consent has, and gives the defaults of C4, C6 and GDPR Art. 17(1).
func (x *draft) readConsentRules() {
	x.OnWithdrawal, x.MinimumProof = Stop, Asserted
	if x.Basis == Consent {
		x.Validity = x.root.period("validity", Period{Months: 6})
		x.MinimumProof, _ = ParseProof(x.root.among("minimum_proof", RegisteredBanner.String(), proofNames[:]))
	} else if x.Basis != "" {
		for _, key := range []string{"validity", "minimum_proof"} {
			if x.root.has(key) {
				x.root.wrong(key, fmt.Sprintf("has no meaning for basis %s", x.Basis), "remove it: only a consent has it")
			}
		}
	}
	if x.Basis == Consent || x.Basis == LegitimateInterest {
		x.OnWithdrawal = Erase
	}
	x.OnWithdrawal = OnWithdrawal(x.root.among("on_withdrawal", string(x.OnWithdrawal), []string{string(Erase), string(Stop)}))
}

func (x *draft) readFields() {
	v := x.root.find("fields", kindMap)
	if v == nil {
		return
	}
	f := x.root.doc.mapping(v, "fields")
	x.Fields = make(map[string]Treatment, len(f.at))
	if len(f.at) > MaxFields {
		x.root.wrong("fields", fmt.Sprintf("has more than %d fields", MaxFields), "keep those the purpose needs")
	}
	names := make([]string, len(treatments))
	for i, t := range treatments {
		names[i] = string(t)
	}
	for _, field := range slices.Sorted(maps.Keys(f.at)) {
		if !isFieldName(field) {
			f.wrong(field, "not a field name", "write letters, digits, _ and ., a letter first, at most 64")
		}
		treatment := Treatment(f.among(field, string(Drop), names))
		if only, why := onlyTreatment(field); only != "" && treatment != Drop && treatment != only {
			f.wrong(field, fmt.Sprintf("%s is not for %s: %s", treatment, field, why), fmt.Sprintf("write %s or drop", only))
		}
		x.Fields[field] = treatment
	}
}

// onlyTreatment is, for the fields that Octroi knows, the one treatment but Drop that they may have.
func onlyTreatment(field string) (only Treatment, why string) {
	switch field {
	case "ip":
		return TruncateIP, "an address is never stored whole (C9)"
	case "user_agent":
		return UAFamily, "of a user agent only the family is stored (C9)"
	case "url", "referrer":
		return URLPath, "an address is stored without query and fragment (C9)"
	case "value", "campaign", "source", "medium":
		return Keep, "it is a column of its own"
	}
	return "", ""
}

func isFieldName(s string) bool {
	for i, r := range []byte(s) {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		other := '0' <= r && r <= '9' || r == '_' || r == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

func (x *draft) readRecipients() {
	list := x.root.find("recipients", kindList)
	if list == nil {
		return
	}
	if len(list.items) > MaxRecipients {
		x.root.wrong("recipients", fmt.Sprintf("has more than %d recipients", MaxRecipients), "split the purpose")
		return
	}
	for i, v := range list.items {
		f := x.root.doc.object(v, fmt.Sprintf("recipients[%d]", i), "destination", "name", "country", "role")
		r := Recipient{
			Destination: f.name("destination", "a destination of the gateway's configuration"),
			Name:        f.required("name", "the legal name, as persons may read it"),
			Country:     f.required("country", "the country of establishment, such as FR"),
			Role:        f.among("role", "processor", []string{"controller", "processor", "joint"}),
		}
		if slices.ContainsFunc(x.Recipients, func(o Recipient) bool { return o.Destination == r.Destination && r.Destination != "" }) {
			f.wrong("destination", fmt.Sprintf("%q is a recipient already", r.Destination), "name each destination once")
		}
		if r.Country != "" && !isCountry(r.Country) {
			f.wrong("country", fmt.Sprintf("%q is not a country", clip(r.Country)), "write its two letters of ISO 3166-1, such as FR")
		}
		x.Recipients = append(x.Recipients, r)
	}
}

func isCountry(code string) bool {
	r, err := language.ParseRegion(code)
	return err == nil && r.IsCountry() && len(code) == 2 && r.Canonicalize().String() == code
}

// readRoles reads who answers for the purpose (GDPR Art. 30(1)(a)).
func (x *draft) readRoles() {
	v := x.root.find("roles", kindMap)
	if v == nil {
		return
	}
	known := []string{"controller", "joint_controller", "processor", "representative", "dpo"}
	f := x.root.doc.object(v, "roles", known...)
	for _, role := range known {
		if who := f.short(role); who != "" {
			if x.Roles == nil {
				x.Roles = make(map[string]string, len(known))
			}
			x.Roles[role] = who
		}
	}
}

// translated reads a mapping of languages to texts.
func (f fields) translated(key string) map[string]string {
	v := f.find(key, kindMap)
	if v == nil {
		return nil
	}
	in := f.doc.mapping(v, join(f.path, key))
	texts := make(map[string]string, len(in.at))
	for _, tag := range slices.Sorted(maps.Keys(in.at)) {
		if !isLanguage(tag) {
			in.wrong(tag, "not a language", "write a BCP 47 tag such as fr or pt-BR")
			continue
		}
		if text := in.text(tag); text != "" {
			texts[tag] = text
		}
	}
	if len(in.at) == 0 {
		f.wrong(key, "names no language", "write a text in at least one language, such as fr: …")
	}
	return texts
}

func isLanguage(tag string) bool {
	t, err := language.Parse(tag)
	return err == nil && len(tag) <= maxLanguageBytes && t.String() == tag && t != language.Und
}

// precision reads how exact event times stay: a part of a day, from a second.
func (f fields) precision(key string) time.Duration {
	text := f.text(key)
	if text == "" {
		return time.Second
	}
	const day = 24 * time.Hour
	p, seconds, err := parseDuration(text)
	d := time.Duration(p.Days)*day + time.Duration(p.Hours)*time.Hour + time.Duration(p.Minutes)*time.Minute +
		time.Duration(seconds)*time.Second
	if err != nil || p.Years != 0 || p.Months != 0 || d <= 0 || d > day || day%d != 0 {
		f.wrong(key, fmt.Sprintf("%q is not a part of a day", clip(text)), "write one such as PT1S, PT1M, PT15M, PT1H or P1D")
		return time.Second
	}
	return d
}
