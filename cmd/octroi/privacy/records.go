package privacy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/consent"
)

// actView is one record as the page shows it.
type actView struct {
	consent.Act
	Word    string // what happened
	Manner  string // how it came
	Quality string // of the proof
	What    []chosenView
}

// chosenView is one purpose of a record.
type chosenView struct {
	Title   string
	Granted bool
	Until   time.Time
	Basis   string
}

// actOf is a record in words.
func (v *visit) actOf(a *consent.Act) actView {
	x := actView{Act: *a, Manner: of(v.words.Methods, a.Method), Quality: of(v.words.Proofs, a.Proof)}
	if x.Word = v.words.Acts[a.Type]; a.State != "" {
		x.Word = of(v.words.Acts, string(a.State))
	}
	for _, p := range a.Purposes {
		c := chosenView{Title: p.ID, Granted: p.Granted, Until: p.ValidUntil, Basis: of(v.words.Bases, string(p.Basis))}
		if known, ok := v.p.o.Policy.Purpose(p.ID); ok {
			c.Title = v.purpose(known).Title
		}
		x.What = append(x.What, c)
	}
	return x
}

// recordPage is one record, with the text that was shown and its receipt.
type recordPage struct {
	actView
	Text      string // byte for byte (C3)
	TextIn    string // its language
	TextFile  string // where the very bytes are
	Index     int64  // of the record's entry in the evidence log
	Size      int64  // of the log under whose head it is proven
	PublicKey []PublicKey
}

// number is the record that the path names.
func (v *visit) number() (uint32, error) {
	n, err := strconv.ParseUint(v.param("number"), 10, 32)
	if err != nil {
		return 0, errNoPage
	}
	return uint32(n), nil
}

// showRecord is one record of whoever the cookie is.
func (v *visit) showRecord() error {
	n, err := v.number()
	if err != nil {
		return err
	}
	if v.site == nil {
		return errNoSite
	}
	act, proven, err := v.p.o.Ledger.Prove(v.person.Device, n)
	if err != nil {
		return err
	}
	r := &recordPage{
		actView: v.actOf(&act), Text: proven.Notice, Index: proven.Proof.Index, Size: proven.Proof.Size, PublicKey: v.p.o.Keys,
	}
	if act.Notice != nil {
		r.TextIn, r.TextFile = act.Notice.Language, "/v1/notices/"+act.Notice.SHA256
	}
	return v.show("record", r)
}

// sendRecord is the receipt (C11), or the record with its proof, as `octroi verify record` reads them.
func (v *visit) sendRecord() error {
	n, err := v.number()
	if err != nil {
		return err
	}
	switch v.param("file") {
	case "receipt.jwt":
		text, err := v.p.o.Ledger.Receipt(v.person.Device, n, v.person.Site)
		if err != nil {
			return err
		}
		return v.send("receipt-"+strconv.FormatUint(uint64(n), 10)+".jwt", "application/jwt", []byte(text))
	case "record.json":
		_, proven, err := v.p.o.Ledger.Prove(v.person.Device, n)
		if err != nil {
			return err
		}
		text, err := json.Marshal(proven)
		if err != nil {
			return fmt.Errorf("writing record: %w", err)
		}
		return v.send("record-"+strconv.FormatUint(uint64(n), 10)+".json", "application/json", text)
	}
	return errNoPage
}

// sendKey is a public key that receipts and certificates are verified with.
func (v *visit) sendKey() error {
	name := v.param("name")
	for _, k := range v.p.o.Keys {
		if k.Name == name {
			return v.send(k.Name, "text/plain; charset=utf-8", []byte(strings.TrimSpace(k.Text)+"\n"))
		}
	}
	return errNoPage
}
