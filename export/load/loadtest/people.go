package loadtest

import (
	"encoding/hex"
	"maps"
	"slices"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// Rules are what the purposes of visits allow.
func Rules() export.PurposeRules {
	return export.PurposeRules{
		"audience": {"campaign": policies.Keep, "page": policies.Keep, "own_audience": policies.Keep},
		"quality":  {"page": policies.URLPath, "source": policies.Keep, "own_quality": policies.Keep},
		"service":  {"value": policies.Keep, "medium": policies.Keep, "page": policies.URLPath},
		"linking":  {},
	}
}

// Somebody is the pseudonym of a device (kind 'd') or a person (kind 'p').
func Somebody(kind byte, n int) *[16]byte {
	return &[16]byte{kind, byte(n), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
}

// Visit is an event with what its purposes allow: audience and quality rest on the device where there is one, service on the person; with linking the
// person is whom the device is linked to.
func (g *Gateway) Visit(node string, device, person *[16]byte, purposes ...string) pseudonymize.Row {
	row := g.Rows(node, 1)[0]
	row.Device, row.Person, row.Grants, row.Value = device, person, nil, pseudonymize.Money{}
	row.Properties = map[string]string{"page": "/thanks"}
	for _, p := range purposes {
		grant := pseudonymize.RowGrant{Purpose: p, Version: 1, Basis: policies.Consent, Ref: [16]byte{9, byte(len(row.Grants))}}
		switch p {
		case "service":
			grant.Basis = policies.Contract
			row.Medium, row.Value = "mail", pseudonymize.Money{Minor: 990, Currency: "EUR"}
		case "audience":
			row.Campaign, row.Properties["own_audience"], row.Properties["page"] = "summer", "a", "/thanks?order=1"
		case "quality":
			row.Source, row.Properties["own_quality"] = "search", "q"
		}
		row.Grants = append(row.Grants, grant)
	}
	return row
}

// Notice is about a device, a person or both; without purposes about all that is theirs.
func Notice(device, person *[16]byte, purposes []string, batches ...string) export.Notice {
	n := export.Notice{Version: 1, Batches: batches, Purposes: purposes}
	if device != nil {
		n.Devices = []string{hex.EncodeToString(device[:])}
	}
	if person != nil {
		n.Persons = []string{hex.EncodeToString(person[:])}
	}
	if purposes != nil {
		n.Rules = Rules()
	}
	return n
}

// Cut is what notices leave of rows, one after the other; rows stay as they are.
func Cut(t testing.TB, rows []pseudonymize.Row, notices ...export.Notice) (left []pseudonymize.Row) {
	t.Helper()
	var cuts []export.Cut
	for _, n := range notices {
		cut, err := export.CutOf(n)
		if err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, cut)
	}
	for _, row := range rows {
		row.Grants, row.Properties = slices.Clone(row.Grants), maps.Clone(row.Properties)
		keep := true
		for i := range cuts {
			if keep {
				keep, _ = cuts[i].Row(&row)
			}
		}
		if keep {
			left = append(left, row)
		}
	}
	return left
}

// TextLines are rows as Lines has them.
func TextLines(batches ...[]pseudonymize.Row) (all []string) {
	for _, rows := range batches {
		for _, row := range rows {
			all = append(all, Line(row))
		}
	}
	slices.Sort(all)
	return all
}
