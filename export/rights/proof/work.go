package proof

import (
	"time"
)

// Work is what the gateway asks of the custodian: GET /v1/custody/work. Nothing in it is believed that the custodian can check itself.
type Work struct {
	Node    string       `json:"node"`
	Time    time.Time    `json:"time"`
	Items   []Item       `json:"items"`
	Batches []WorkBatch  `json:"batches"`
	Notices []OldNotice  `json:"notices,omitempty"` // acknowledged by all: to be deleted
	Journal []OldJournal `json:"journal,omitempty"` // suppressions that are over: to be deleted
}

// The stages of an item.
const (
	StageCollect = "collect" // access: make the package
	StageRewrite = "rewrite" // erasure: cut the rows
	StageCertify = "certify" // erasure: everything is observed, sign the certificate
)

// Item is one open job.
type Item struct {
	Job      Job      `json:"job"`
	Approval string   `json:"approval,omitempty"` // of the job, or of the schedule
	Stage    string   `json:"stage"`
	Batches  []string `json:"batches"`            // ids of all batches concerned, those that are done included
	Material []byte   `json:"material,omitempty"` // access: what the gateway itself knows, JSON of access.Material
	Facts    *Facts   `json:"facts,omitempty"`    // certify
}

// WorkBatch is a batch of some items.
type WorkBatch struct {
	ID       string   `json:"id"`
	Entry    string   `json:"entry"`              // signed text of the stream entry that states its present object
	Replaced string   `json:"replaced,omitempty"` // stage purge: signed text of the entry that stated the object before
	Stage    string   `json:"stage"`              // rewrite | publish | purge | done
	Items    []string `json:"items"`              // requests that still want it rewritten, or purged
}

// The stages of a batch.
const (
	BatchRewrite = "rewrite" // read, cut, put, report
	BatchPublish = "publish" // reported; wait for the replace entry
	BatchPurge   = "purge"   // the replace entry is published: delete every other version and prove it
	BatchDone    = "done"
)

// OldNotice is a notice object that every loader has acknowledged.
type OldNotice struct {
	Entry string `json:"entry"` // signed text of its stream entry
}

// OldJournal is a suppression whose time is over.
type OldJournal struct {
	Key string `json:"key"`
}
