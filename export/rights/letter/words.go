package letter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
)

// Words reads what pages say: words/<language>.json of every language, each into a W. A member that W does not have is an error.
func Words[W any](files fs.FS) (map[string]*W, error) {
	all := map[string]*W{}
	for _, l := range Languages() {
		text, err := fs.ReadFile(files, "words/"+l+".json")
		if err != nil {
			return nil, fmt.Errorf("reading words: %w", err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		all[l] = new(W)
		if err := d.Decode(all[l]); err != nil {
			return nil, fmt.Errorf("reading words of %q: %w", l, err)
		}
	}
	return all, nil
}

// Decimal is a number as the language writes it, by its digits before and after the point, of which there may be none: "1,234.50", "1 234,50".
func Decimal(whole, fraction, language string) string {
	apart, point := ",", "."
	if language == French {
		apart, point = "\u202f", "," // narrow no-break space
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + apart + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + point + fraction
}
