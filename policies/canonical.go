package policies

import (
	"crypto/sha256"
	"encoding/json"
)

// canonical is what the hash of a policy is over: the SHA-256 of this struct as JSON, version 1. encoding/json writes struct
// fields in their order and map keys sorted; lists that are sets are sorted by Load; every default is written out; comments,
// quoting and the names of files do not occur. So two policies have one hash exactly when they say the same.
//
//	{"format":"octroi-policy/1","languages":[…],"stages":[…],"event_types":[{…}],"purposes":[{…}]}
//
// A field that a later version adds takes omitempty, so that policies without it keep their hash.
type canonical struct {
	Format    string             `json:"format"`
	Languages []string           `json:"languages"`
	Stages    []string           `json:"stages"`
	Types     []canonicalType    `json:"event_types"`
	Purposes  []canonicalPurpose `json:"purposes"`
	Source    map[string]string  `json:"source,omitempty"`
}

type canonicalType struct {
	Name    string `json:"name"`
	Channel string `json:"channel"`
	Stage   string `json:"stage"`
}

type canonicalPurpose struct {
	ID            string               `json:"purpose"`
	Version       int                  `json:"version"`
	Basis         Basis                `json:"basis"`
	Titles        map[string]string    `json:"title"`
	NoticeURL     string               `json:"notice_url"`
	Texts         map[string]string    `json:"notice_text"`
	Validity      string               `json:"validity"`
	MinimumProof  string               `json:"minimum_proof"`
	OnWithdrawal  OnWithdrawal         `json:"on_withdrawal"`
	Retention     string               `json:"retention"`
	SubjectNone   bool                 `json:"subject_none"`
	Sharing       bool                 `json:"sharing"`
	Advertising   bool                 `json:"advertising"`
	EventTypes    []string             `json:"event_types"`
	Fields        map[string]Treatment `json:"fields"`
	Recipients    []canonicalRecipient `json:"recipients"`
	Assessment    string               `json:"assessment"`
	Transfers     string               `json:"transfers"`
	Roles         map[string]string    `json:"roles"`
	TimePrecision int64                `json:"time_precision_seconds"`
	Automated     bool                 `json:"automated_decisions,omitempty"`
	Exemption     string               `json:"exemption,omitempty"`
}

type canonicalRecipient struct {
	Destination string `json:"destination"`
	Name        string `json:"name"`
	Country     string `json:"country"`
	Role        string `json:"role"`
}

func (p *Policy) canonicalHash() [32]byte {
	c := canonical{Format: "octroi-policy/1", Languages: p.languages, Stages: p.stages, Source: p.source}
	for _, t := range p.types {
		c.Types = append(c.Types, canonicalType{t.Name, t.Channel, t.Stage})
	}
	for _, x := range p.purposes {
		c.Purposes = append(c.Purposes, x.canonical())
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings, numbers and booleans always encode
	}
	return sha256.Sum256(encoded)
}

func (p *Purpose) canonical() canonicalPurpose {
	c := canonicalPurpose{
		ID: p.ID, Version: p.Version, Basis: p.Basis, Titles: p.Titles, NoticeURL: p.NoticeURL, Texts: p.Texts,
		Validity: p.Validity.String(), MinimumProof: p.MinimumProof.String(), OnWithdrawal: p.OnWithdrawal,
		Retention: p.Retention.String(), SubjectNone: p.SubjectNone, Sharing: p.Sharing, Advertising: p.Advertising,
		EventTypes: p.EventTypes, Fields: map[string]Treatment{}, Assessment: p.Assessment, Transfers: p.Transfers, Roles: p.Roles,
		TimePrecision: int64(p.TimePrecision.Seconds()), Automated: p.AutomatedDecisions, Exemption: p.Exemption,
	}
	for field, treatment := range p.Fields {
		if treatment != Drop { // a field that is dropped is one that is not named
			c.Fields[field] = treatment
		}
	}
	for _, r := range p.Recipients {
		c.Recipients = append(c.Recipients, canonicalRecipient(r))
	}
	return c
}
