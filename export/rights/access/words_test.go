package access

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

func wordsOf(t *testing.T, language string) *words {
	t.Helper()
	all, err := vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	return all[language]
}

// TestSameWords: what one language can say the other can, with as many places for figures.
func TestSameWords(t *testing.T) {
	fr, en := reflect.ValueOf(*wordsOf(t, letter.French)), reflect.ValueOf(*wordsOf(t, letter.English))
	for i := range fr.NumField() {
		a, ok := fr.Field(i).Interface().(map[string]string)
		if !ok {
			continue
		}
		b := en.Field(i).Interface().(map[string]string)
		if len(a) == 0 || !slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))) {
			t.Errorf("%s differs", fr.Type().Field(i).Name)
		}
		for name := range a {
			if strings.Count(a[name], "%s") != strings.Count(b[name], "%s") {
				t.Errorf("%q has other figures", name)
			}
		}
	}
}

// TestKnownWords: what the policy that comes with the program knows has a word.
func TestKnownWords(t *testing.T) {
	p, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatal(err)
	}
	w := wordsOf(t, letter.French)
	for _, x := range p.EventTypes() {
		if w.Types[x.Name] == "" || w.Channels[x.Channel] == "" {
			t.Errorf("no word for %s or its channel", x.Name)
		}
	}
	for _, field := range p.FieldNames() {
		if w.Fields[field] == "" {
			t.Errorf("no word for field %s", field)
		}
	}
}

func TestForms(t *testing.T) {
	fr, en := wordsOf(t, letter.French), wordsOf(t, letter.English)
	when := time.Date(2026, 3, 1, 23, 5, 0, 0, time.FixedZone("", -3600))
	for _, x := range []struct{ have, want string }{
		{fr.Number(1234567), "1\u202f234\u202f567"},
		{en.Number(1234567), "1,234,567"},
		{en.Number(999), "999"},
		{fr.Money(pseudonymize.Money{Minor: 123450, Currency: "EUR"}), "1\u202f234,50\u00a0€"},
		{en.Money(pseudonymize.Money{Minor: 123450, Currency: "EUR"}), "€1,234.50"},
		{en.Money(pseudonymize.Money{Minor: -5, Currency: "USD"}), "\u2212$0.05"},
		{fr.Money(pseudonymize.Money{Minor: -1200, Currency: "JPY"}), "\u22121\u202f200\u00a0JPY"},
		{en.Money(pseudonymize.Money{Minor: 1234, Currency: "TND"}), "TND\u00a01.234"},
		{decimal(pseudonymize.Money{Minor: math.MinInt64, Currency: "EUR"}), "-92233720368547758.08"},
		{decimal(pseudonymize.Money{Minor: 7, Currency: "???"}), "0.07"},
		{fr.Moment(when), "2 mars 2026, 00:05"},
		{en.Date(when), "2 March 2026"},
		{fr.Month(when), "mars 2026"},
		{fr.Period("P13M"), "13\u00a0mois"},
		{en.Period("P1Y2M3DT4H"), "1\u00a0year, 2\u00a0months, 3\u00a0days and 4\u00a0hours"},
		{en.Period("soon"), "soon"},
		{fr.Country("DE"), "Allemagne"},
		{en.Country("DE"), "Germany"},
		{en.Country("Narnia"), "Narnia"},
		{visible("a\u202eb\x00c\xffd\n"), "a[U+202E]b[U+0000]c\ufffdd\n"},
		{string(mail("dpo@example.org")), "mailto:dpo@example.org"},
		{string(mail("dpo@example.org?bcc=evil@example.org")), ""},
		{tagged("fr-ca"), "fr-CA"},
		{tagged(`" onclick=`), ""},
	} {
		if x.have != x.want {
			t.Errorf("%q, want %q", x.have, x.want)
		}
	}
}

func TestChart(t *testing.T) {
	month := func(y, m int) time.Time { return time.Date(y, time.Month(m), 1, 0, 0, 0, 0, time.UTC) }
	c := newChart(map[time.Time]int{month(2020, 5): 7, month(2024, 12): 1, month(2025, 3): 200, month(2026, 11): 1})
	if c.Earlier != 7 || len(c.Bars) != chartMonths || c.First != month(2024, 12) || c.Last != month(2026, 11) || c.Most != 200 {
		t.Errorf("%+v", c)
	}
	if listed := c.Listed(); len(listed) != 3 || listed[0].Month != c.Last || listed[0].Height != 1 || listed[1].Height != chartBottom-chartTop {
		t.Errorf("%+v", listed)
	}
	if last := c.Bars[len(c.Bars)-1]; last.X+last.Width > chartWidth {
		t.Errorf("the last bar ends at %d", last.X+last.Width)
	}
	if c := newChart(nil); len(c.Bars) != 0 {
		t.Errorf("%+v", c)
	}
}
