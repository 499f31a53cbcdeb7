package consent

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/octroi/octroi/policies"
)

// purposeYAML is a small purpose document. more is indented as top-level keys.
func purposeYAML(id, basis string, version int, types, more string) string {
	return fmt.Sprintf(`purpose: %s
version: %d
basis: %s
title: {en: Title of %[1]s, fr: Titre de %[1]s}
notice:
  url: https://shop.example/privacy
  text:
    en: We use <your data> for %[1]s & nothing else.
    fr: Nous utilisons <vos données> pour %[1]s, rien d'autre.
retention: P13M
event_types: [%[4]s]
fields: {url: url_path, secret: drop}
recipients:
  - {destination: warehouse, name: "Shop data department", country: FR, role: controller}
roles: {controller: Shop, dpo: dpo@shop.example}
%[5]s`, id, version, basis, types, more)
}

// testFiles is a policy with every kind of purpose.
func testFiles() fstest.MapFS {
	files := map[string]string{
		"audience.yaml":  purposeYAML("audience", "consent", 1, "page_view, purchase", "validity: P6M\n"),
		"marketing.yaml": purposeYAML("marketing", "consent", 2, "search", "minimum_proof: snapshot\nvalidity: P3M\n"),
		"personal.yaml":  purposeYAML("personal", "consent", 1, "search", "minimum_proof: asserted\n"),
		"service.yaml":   purposeYAML("service", "contract", 1, "purchase", ""),
		"fraud.yaml":     purposeYAML("fraud", "legitimate_interest", 1, "checkout_start", "assessment: LIA-7\n"),
		"counting.yaml":  purposeYAML("counting", "legitimate_interest", 1, "cart_add", "assessment: LIA-8\nsubject: none\n"),
		"events.yaml": `stages: six-1
languages: [fr, en]
event_types:
  page_view: {channel: web, stage: awareness}
  search: {channel: web, stage: interest}
  cart_add: {channel: web, stage: intent}
  checkout_start: {channel: web, stage: intent}
  purchase: {channel: web, stage: purchase}
`,
	}
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func testPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	p, err := policies.Load(testFiles())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
