package policies_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/octroi/octroi/policies"
)

// TestREADMETreatments: the README's table lists every treatment, the most revealing first.
func TestREADMETreatments(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\| treatment of a field \|.*?\n\n`).Find(readme)
	var listed []policies.Treatment
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(table, -1) {
		listed = append(listed, policies.Treatment(row[1]))
	}
	want := []policies.Treatment{
		policies.Keep, policies.URLPath, policies.UAFamily, policies.TruncateIP, policies.Round, policies.Pseudonymise, policies.Drop,
	}
	if !slices.Equal(listed, want) || !slices.IsSortedFunc(listed, func(a, b policies.Treatment) int { return b.Reveals() - a.Reveals() }) {
		t.Errorf("the README lists %v, want %v", listed, want)
	}
}
