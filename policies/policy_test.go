package policies_test

import (
	"testing"

	"github.com/octroi/octroi/policies"
)

func TestDefault(t *testing.T) {
	p, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatalf("loading the default policy:\n%v", err)
	}
	for _, n := range p.NoticeTexts() {
		t.Log(n.ID, n.Version, n.Language, n.SHA256(), len(n.Text), n.Purposes)
	}
	t.Logf("%x", p.Hash())
}
