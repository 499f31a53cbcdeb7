package shop

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// text is something in each language.
type text struct{ FR, EN string }

// In is the text in a language.
func (t text) In(language string) string {
	if language == "en" {
		return t.EN
	}
	return t.FR
}

// category is a shelf.
type category struct {
	Name  string // in addresses and events
	Title text
}

// product is something to buy.
type product struct {
	Name     string // in addresses, events and drawings
	Category string
	Title    text
	About    text
	Cents    int64
}

func categories() []category {
	return []category{
		{"tea", text{"Thés et infusions", "Teas and infusions"}},
		{"table", text{"Arts de la table", "Tableware"}},
		{"pantry", text{"Épicerie fine", "Fine foods"}},
	}
}

func products() []product { return slices.Concat(teas(), tableware(), foods()) }

func teas() []product {
	return []product{
		{
			"spring-tea", "tea",
			text{"Thé vert de printemps", "Spring green tea"},
			text{"Première récolte, feuilles entières, notes de châtaigne. Boîte de 100 g.", "First harvest, whole leaves, a taste of chestnut. 100 g tin."},
			1250,
		},
		{
			"smoked-tea", "tea",
			text{"Thé noir fumé", "Smoked black tea"},
			text{"Fumé au bois de pin, rond et long en bouche. Boîte de 100 g.", "Smoked over pine wood, round and long. 100 g tin."},
			1100,
		},
		{
			"verbena", "tea",
			text{"Verveine du Velay", "Velay verbena"},
			text{"Feuilles séchées à l'ombre, sans théine. Boîte de 40 g.", "Leaves dried in the shade, no caffeine. 40 g tin."},
			890,
		},
		{
			"rooibos", "tea",
			text{"Rooibos à l'orange", "Orange rooibos"},
			text{"Doux, sans théine, écorces d'orange. Boîte de 100 g.", "Mild, no caffeine, orange peel. 100 g tin."},
			950,
		},
	}
}

func tableware() []product {
	return []product{
		{
			"teapot", "table",
			text{"Théière en grès", "Stoneware teapot"},
			text{"Tournée à la main, un litre, filtre en inox.", "Thrown by hand, one litre, steel strainer."},
			3800,
		},
		{
			"cup", "table",
			text{"Tasse et sa soucoupe", "Cup and saucer"},
			text{"Porcelaine de Limoges, 18 cl.", "Limoges porcelain, 18 cl."},
			1400,
		},
		{
			"tray", "table",
			text{"Plateau en noyer", "Walnut tray"},
			text{"Noyer français huilé, 40 cm.", "Oiled French walnut, 40 cm."},
			2900,
		},
		{
			"strainer", "table",
			text{"Boule à thé", "Tea ball"},
			text{"Maille fine en inox, pour une tasse.", "Fine steel mesh, for one cup."},
			750,
		},
	}
}

func foods() []product {
	return []product{
		{
			"honey", "pantry",
			text{"Miel de lavande", "Lavender honey"},
			text{"Récolté en Haute-Provence. Pot de 250 g.", "From Haute-Provence. 250 g jar."},
			1080,
		},
		{
			"jam", "pantry",
			text{"Confiture de figues", "Fig jam"},
			text{"Cuite au chaudron, peu sucrée. Pot de 250 g.", "Cooked in a copper pan, little sugar. 250 g jar."},
			690,
		},
		{
			"biscuits", "pantry",
			text{"Sablés au beurre", "Butter biscuits"},
			text{"Beurre de baratte, fleur de sel. Sachet de 150 g.", "Churned butter, sea salt. 150 g bag."},
			720,
		},
		{
			"chocolate", "pantry",
			text{"Chocolat noir 72 %", "Dark chocolate 72%"},
			text{"Fèves de Madagascar. Tablette de 100 g.", "Beans from Madagascar. 100 g bar."},
			840,
		},
	}
}

func findProduct(name string) (product, bool) {
	all := products()
	i := slices.IndexFunc(all, func(p product) bool { return p.Name == name })
	if i < 0 {
		return product{}, false
	}
	return all[i], true
}

func findCategory(name string) (category, bool) {
	all := categories()
	i := slices.IndexFunc(all, func(c category) bool { return c.Name == name })
	if i < 0 {
		return category{}, false
	}
	return all[i], true
}

func inCategory(name string) []product {
	return slices.DeleteFunc(products(), func(p product) bool { return p.Category != name })
}

// maxQuery bounds a search, in bytes.
const maxQuery = 80

// find is every product that holds all of the query's words, in either language, whatever the case and the accents.
func find(query string) []product {
	words := strings.Fields(plain(query))
	if len(words) == 0 {
		return nil
	}
	return slices.DeleteFunc(products(), func(p product) bool {
		c, _ := findCategory(p.Category)
		all := plain(strings.Join([]string{p.Title.FR, p.Title.EN, p.About.FR, p.About.EN, c.Title.FR, c.Title.EN}, " "))
		return slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(all, w) })
	})
}

// plain is text without case and accents.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(s))
}

// cut is at most n bytes of s, whole runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// drawing is the picture of a product. It stands in the page, so that it needs no request and prints.
func drawing(name string) (template.HTML, error) {
	b, err := files.ReadFile("drawings/" + name + ".svg")
	return template.HTML(b), err //nolint:gosec // a file of ours, embedded
}

// amount is a sum as events have it.
func amount(cents int64) map[string]string {
	return map[string]string{"amount": fmt.Sprintf("%d.%02d", cents/100, cents%100), "currency": "EUR"}
}

// price is a sum as a language writes it.
func price(cents int64, language string) string {
	if language == "en" {
		return fmt.Sprintf("€%d.%02d", cents/100, cents%100)
	}
	return fmt.Sprintf("%d,%02d\u00a0€", cents/100, cents%100)
}

// Names are those of the products, as events have them.
func Names() []string {
	var names []string
	for _, p := range products() {
		names = append(names, p.Name)
	}
	return names
}
