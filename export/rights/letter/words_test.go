package letter_test

import (
	"testing"
	"testing/fstest"

	"github.com/octroi/octroi/export/rights/letter"
)

func TestWords(t *testing.T) {
	type words struct{ Yes string }
	files := func(en string) fstest.MapFS {
		return fstest.MapFS{"words/fr.json": {Data: []byte(`{"yes":"oui"}`)}, "words/en.json": {Data: []byte(en)}}
	}
	all, err := letter.Words[words](files(`{"yes":"yes"}`))
	if err != nil || len(all) != 2 || all[letter.French].Yes != "oui" || all[letter.English].Yes != "yes" {
		t.Errorf("%v, %v", all, err)
	}
	wrong := map[string]fstest.MapFS{
		"another member": files(`{"yes":"yes","no":"no"}`), "no JSON": files(`yes`), "a language lacks": {"words/fr.json": {Data: []byte(`{"yes":"oui"}`)}},
	}
	for name, f := range wrong {
		if all, err := letter.Words[words](f); err == nil {
			t.Errorf("%s: %v", name, all)
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, x := range []struct{ whole, fraction, en, fr string }{
		{"0", "", "0", "0"},
		{"123", "4", "123.4", "123,4"},
		{"1234", "", "1,234", "1\u202f234"},
		{"1234567", "50", "1,234,567.50", "1\u202f234\u202f567,50"},
	} {
		if en, fr := letter.Decimal(x.whole, x.fraction, letter.English), letter.Decimal(x.whole, x.fraction, letter.French); en != x.en || fr != x.fr {
			t.Errorf("%s and %s: %q, %q", x.whole, x.fraction, en, fr)
		}
	}
}
