package shop

import (
	"encoding/json"
	"fmt"
)

// readWords reads what the shop says, by language. Every language says all of it: a page asks for a key, and an unknown one is an error.
func readWords() (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for _, l := range languages {
		b, err := files.ReadFile("words/" + l + ".json")
		if err != nil {
			return nil, err
		}
		words := map[string]string{}
		if err := json.Unmarshal(b, &words); err != nil {
			return nil, fmt.Errorf("reading words of %s: %w", l, err)
		}
		all[l] = words
	}
	return all, nil
}
