package export

import (
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// Cut says what is taken out of rows: by custodian and loader alike, so that both end with the same rows.
type Cut struct {
	Devices, Persons map[[16]byte]bool    // pseudonyms at the destination
	Purposes         map[string]bool      // what goes of their rows; nil: the whole row
	Rules            PurposeRules         // what the purposes that stay allow
	Expired          map[string]time.Time // retention: of every row received before the time the purpose goes; beside pseudonyms
}

// CutOf is the cut of a notice.
func CutOf(n Notice) (Cut, error) { panic("not yet") }

// Row applies the cut to row in place. keep is false where no purpose is left; changed says whether anything of it differs.
//
// A row that loses a purpose loses what only that purpose allowed: its grant, fields (treated again as the strongest purpose that stays
// allows), amount, and the pseudonym that no grant rests on any more. A consent's grant rests on the device where the row has one, else on the
// person; a declared basis on the person.
func (c *Cut) Row(row *pseudonymize.Row) (keep, changed bool) { panic("not yet") }
