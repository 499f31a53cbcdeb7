package openapi_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/octroi/octroi/cmd/octroi/openapi"
)

func TestDocumentsAreOpenAPI(t *testing.T) {
	for name, document := range map[string]func() ([]byte, error){"public": openapi.Public, "private": openapi.Private} {
		text, err := document()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := doc.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if doc.OpenAPI != "3.1.0" {
			t.Errorf("%s is OpenAPI %s", name, doc.OpenAPI)
		}
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				if op.Summary == "" || op.Responses.Len() == 0 {
					t.Errorf("%s: %s %s has no summary or no answer", name, method, path)
				}
			}
		}
	}
}
