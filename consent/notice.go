package consent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
)

// published is a text that was shown, with every notice that it was the text of; the last is the newest. Its row, JSON v1, is written
// once and only ever gains notices: a record may name it for as long as the record lives (C3; GDPR Art. 7(1)).
type published struct {
	Version int               `json:"v"`
	Text    string            `json:"text"`
	Notices []publishedNotice `json:"notices"`
}

// publishedNotice is one notice with that text: a purpose may get a new version without a new text.
type publishedNotice struct {
	ID       string         `json:"id"`
	Version  string         `json:"version"`
	Language string         `json:"language"`
	URL      string         `json:"url,omitempty"`
	Purposes []string       `json:"purposes"`
	Versions map[string]int `json:"versions"` // of the purposes
}

const (
	publishedVersion = 1
	noticePrefix     = "n/"
)

// publish stores the policy's texts and reads all that were ever published.
func (l *Ledger) publish(ctx context.Context) error {
	l.notices = map[string]*published{}
	err := l.state.View(func(r state.Reader) error {
		return r.Scan([]byte(noticePrefix), func(key, row []byte) error {
			p := new(published)
			if err := json.Unmarshal(row, p); err != nil || p.Version != publishedVersion || len(p.Notices) == 0 {
				return ErrStored
			}
			l.notices[string(key[len(noticePrefix):])] = p
			return nil
		})
	})
	if err != nil {
		return err
	}
	changed := map[string]bool{}
	for _, n := range l.policy.NoticeTexts() {
		hash := n.SHA256()
		p := l.notices[hash]
		if p == nil {
			p = &published{Version: publishedVersion, Text: n.Text}
			l.notices[hash] = p
		}
		if p.add(l.noticeOf(n)) {
			changed[hash] = true
		}
	}
	for hash := range changed { // each on its own: a change of state is bounded
		err := l.state.Update(ctx, func(t *state.Txn) error {
			t.Set([]byte(noticePrefix+hash), canonical(l.notices[hash]))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) noticeOf(n policies.NoticeText) publishedNotice {
	x := publishedNotice{n.ID, n.Version, n.Language, n.URL, n.Purposes, make(map[string]int, len(n.Purposes))}
	for _, id := range n.Purposes {
		if p, ok := l.policy.Purpose(id); ok {
			x.Versions[id] = p.Version
		}
	}
	return x
}

// add makes x the newest notice of the text; false where it was already.
func (p *published) add(x publishedNotice) bool {
	same := func(y publishedNotice) bool { return bytes.Equal(canonical(x), canonical(y)) }
	i := slices.IndexFunc(p.Notices, same)
	if i >= 0 && i == len(p.Notices)-1 {
		return false
	}
	if i >= 0 {
		p.Notices = slices.Delete(p.Notices, i, i+1)
	}
	p.Notices = append(p.Notices, x)
	return true
}

func (x *publishedNotice) ref(hash string) NoticeRef {
	return NoticeRef{ID: x.ID, Version: x.Version, URL: x.URL, Language: x.Language, SHA256: hash}
}

// resolve finds the published notice that a post names: by the hash of the text and, where the text was that of several, by what else it says of
// it. ErrUnknownNotice (C3).
func (l *Ledger) resolve(ref *NoticeRef) (*publishedNotice, error) {
	p := l.notices[ref.SHA256]
	if p == nil {
		return nil, ErrUnknownNotice
	}
	for i := len(p.Notices) - 1; i >= 0; i-- {
		x := &p.Notices[i]
		if (ref.ID == "" || ref.ID == x.ID) && (ref.Version == "" || ref.Version == x.Version) &&
			(ref.Language == "" || ref.Language == x.Language) {
			return x, nil
		}
	}
	return nil, ErrUnknownNotice
}

// NoticeText is a published text by its hash (lower-case hex), byte for byte as published, also when the policy has moved on.
// ErrUnknownNotice where there is none.
func (l *Ledger) NoticeText(sha256 string) (policies.NoticeText, error) {
	p := l.notices[sha256]
	if p == nil {
		return policies.NoticeText{}, ErrUnknownNotice
	}
	x := p.Notices[len(p.Notices)-1]
	n := policies.NoticeText{
		ID: x.ID, Version: x.Version, Language: x.Language, URL: x.URL, Text: p.Text, Purposes: slices.Clone(x.Purposes),
	}
	if n.SHA256() != sha256 {
		return policies.NoticeText{}, fmt.Errorf("reading notice: %w", ErrStored)
	}
	return n, nil
}
