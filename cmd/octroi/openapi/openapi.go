// Package openapi is the description of both listeners: what may be sent, and what is answered.
//
// The tests of the program check every answer against it, and that it describes every route and no other.
package openapi

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
)

//go:embed public.yaml private.yaml
var files embed.FS

// Public is the document of the public listener, as JSON.
func Public() ([]byte, error) { return document("public.yaml") }

// Private is the document of the private listener, as JSON.
func Private() ([]byte, error) { return document("private.yaml") }

func document(name string) ([]byte, error) {
	text, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading API description: %w", err)
	}
	var tree any
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading API description %s: %w", name, err)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("writing API description %s: %w", name, err)
	}
	return out, nil
}
