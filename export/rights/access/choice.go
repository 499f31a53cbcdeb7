package access

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/consent"
)

// choice is a Consent with what its record says.
type choice struct {
	Consent
	ID, Site, Method string
	Notice           consent.NoticeRef
	Text             string               // as shown
	until            map[string]time.Time // purpose → end of validity
}

// recorded is what is read of a consent's record; consent.Proven draws the rest.
type recorded struct {
	Core struct {
		ID       string             `json:"record_id"`
		Site     string             `json:"site"`
		Notice   *consent.NoticeRef `json:"notice"`
		Purposes []struct {
			ID         string    `json:"id"`
			ValidUntil time.Time `json:"valid_until"`
		} `json:"purposes"`
		Event struct {
			Method string `json:"method"`
		} `json:"event"`
	} `json:"core"`
}

// readChoices reads the records of the consents, oldest first.
func readChoices(consents []Consent) ([]choice, error) {
	choices := make([]choice, len(consents))
	for i, c := range consents {
		c.Purposes = orEmpty(c.Purposes)
		choices[i] = choice{Consent: c, until: map[string]time.Time{}}
		if len(c.Proven) == 0 {
			choices[i].Proven = json.RawMessage("null")
			continue
		}
		var p struct {
			Record recorded `json:"record"`
			Text   string   `json:"notice_text"`
		}
		if err := json.Unmarshal(c.Proven, &p); err != nil {
			return nil, fmt.Errorf("%w: record of consent %d", ErrMaterial, i+1)
		}
		x, core := &choices[i], &p.Record.Core
		x.ID, x.Site, x.Method, x.Text = core.ID, core.Site, core.Event.Method, p.Text
		if core.Notice != nil {
			x.Notice = *core.Notice
		}
		for _, purpose := range core.Purposes {
			x.until[purpose.ID] = purpose.ValidUntil
		}
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return a.Time.Compare(b.Time) })
	return choices, nil
}
