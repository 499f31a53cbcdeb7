package letter_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/letter"
)

func facts() letter.Facts {
	return letter.Facts{
		Request: "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", Right: "erasure",
		Controller: letter.Controller{Name: "Boutique Example SAS", Address: "1 rue de l'Exemple, 75000 Paris", DPO: "dpo@boutique.example"},
		Received:   time.Date(2026, 1, 31, 23, 30, 0, 0, time.UTC),
		At:         time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC),
		Due:        time.Date(2026, 2, 28, 23, 30, 0, 0, time.UTC),
		Until:      time.Date(2026, 2, 8, 8, 0, 0, 0, time.UTC),
		Asked: map[string]string{
			letter.French:  "à quelle date avez-vous commandé ?",
			letter.English: "on which date did you order?",
		},
		Remains: []letter.Remainder{
			{What: "consent_proofs", Until: time.Date(2031, 8, 1, 0, 0, 0, 0, time.UTC)},
			{What: "import_suppression", Until: time.Date(2026, 5, 2, 0, 0, 0, 0, time.UTC)},
			{What: "key_copies", Until: time.Date(2026, 2, 8, 0, 0, 0, 0, time.UTC)},
			{What: "downstream_unconfirmed"},
		},
	}
}

// written checks what holds for every letter, and answers both texts.
func written(t *testing.T, texts letter.Texts, err error) (french, english string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	french, english = texts[letter.French], texts[letter.English]
	for language, text := range texts {
		if strings.Contains(text, "<no value>") || strings.Contains(text, "{{") || strings.Contains(text, "\n\n\n") || strings.Contains(text, "  ") {
			t.Errorf("%s: something is not filled in:\n%s", language, text)
		}
		for _, part := range []string{"3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", "Boutique Example SAS", "dpo@boutique.example"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: it lacks %q:\n%s", language, part, text)
			}
		}
	}
	has(t, french, "Le 1er février 2026", "le 31 janvier 2026", "Madame, Monsieur,")
	has(t, english, "1 February 2026", "31 January 2026", "Dear Sir or Madam,")
	return french, english
}

func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it lacks %q:\n%s", part, text)
		}
	}
}

func TestAcknowledgement(t *testing.T) {
	f := facts()
	for right, article := range map[string]string{"access": "15", "erasure": "17"} {
		f.Right = right
		texts, err := letter.Acknowledgement(f)
		french, english := written(t, texts, err)
		has(t, french, "article "+article+" du RGPD", "au plus tard le 28 février 2026")
		has(t, english, "Article "+article+" GDPR", "by 28 February 2026")
	}
}

func TestQuestion(t *testing.T) {
	texts, err := letter.Question(facts())
	french, english := written(t, texts, err)
	has(t, french, "à quelle date avez-vous commandé ?", "article 12, paragraphe 6", "suspendu")
	has(t, english, "on which date did you order?", "Article 12(6)", "suspended")
}

func TestExtension(t *testing.T) {
	f := facts()
	for reason, words := range map[string][2]string{
		letter.Complexity:   {"complexité", "complexity"},
		letter.ManyRequests: {"nombre de demandes", "number of requests"},
	} {
		f.Reason = reason
		texts, err := letter.Extension(f)
		french, english := written(t, texts, err)
		has(t, french, words[0], "prolongé", "28 février 2026", "réclamation")
		has(t, english, words[1], "extended", "28 February 2026", "complaint")
	}
	f.Reason = letter.Unfounded
	if _, err := letter.Extension(f); !errors.Is(err, letter.ErrReason) {
		t.Errorf("a denial's reason extends: %v", err)
	}
}

// TestDenial: each reason has its article, and every denial names the complaint and the judicial remedy (GDPR Art. 12(4)).
func TestDenial(t *testing.T) {
	articles := map[string][2]string{
		letter.NotIdentified:  {"article 11, paragraphe 2", "Article 11(2)"},
		letter.Unfounded:      {"article 12, paragraphe 5, point b", "Article 12(5)(b)"},
		letter.Excessive:      {"caractère répétitif", "repetitive character"},
		letter.LegalDuty:      {"article 17, paragraphe 3, point b", "Article 17(3)(b)"},
		letter.LegalClaims:    {"article 17, paragraphe 3, point e", "Article 17(3)(e)"},
		letter.RightsOfOthers: {"article 15, paragraphe 4", "Article 15(4)"},
	}
	seen := map[string]bool{}
	for _, right := range []string{"access", "erasure"} {
		for _, reason := range letter.Denials(right) {
			f := facts()
			f.Right, f.Reason = right, reason
			texts, err := letter.Denial(f)
			french, english := written(t, texts, err)
			has(t, french, articles[reason][0], "réclamation", "article 77", "CNIL", "75334 Paris", "recours juridictionnel", "article 79")
			has(t, english, articles[reason][1], "complaint", "Article 77", "CNIL", "75334 Paris", "judicial remedy", "Article 79")
			seen[reason] = true
		}
	}
	if len(seen) != len(articles) {
		t.Errorf("%d reasons, want %d", len(seen), len(articles))
	}
	for right, reason := range map[string]string{"access": letter.LegalDuty, "erasure": letter.RightsOfOthers} {
		f := facts()
		f.Right, f.Reason = right, reason
		if _, err := letter.Denial(f); !errors.Is(err, letter.ErrReason) {
			t.Errorf("%s denied for %s: %v", right, reason, err)
		}
	}
}

func TestErased(t *testing.T) {
	f := facts()
	texts, err := letter.Erased(f)
	french, english := written(t, texts, err)
	has(t, french, "article 19", "1er août 2031", "2 mai 2026", "8 février 2026", "pas encore confirmé", "les clés")
	has(t, english, "Article 19", "1 August 2031", "2 May 2026", "8 February 2026", "not confirmed it yet", "the keys")

	f.Partial, f.Remains = true, nil
	texts, err = letter.Erased(f)
	french, english = written(t, texts, err)
	if strings.Contains(french+english, "les clés") || strings.Contains(french+english, "What remains") {
		t.Errorf("an erasure of some purposes that leaves nothing says more:\n%s%s", french, english)
	}
	has(t, french, "pour d'autres finalités")

	f.Remains = []letter.Remainder{{What: "everything"}}
	if _, err := letter.Erased(f); !errors.Is(err, letter.ErrFacts) {
		t.Errorf("an unknown remainder: %v", err)
	}
	f.Remains = []letter.Remainder{{What: "key_copies"}}
	if _, err := letter.Erased(f); !errors.Is(err, letter.ErrFacts) {
		t.Errorf("a remainder without an end: %v", err)
	}
}

func TestReady(t *testing.T) {
	f := facts()
	f.Right = "access"
	texts, err := letter.Ready(f)
	french, english := written(t, texts, err)
	has(t, french, "jusqu'au 8 février 2026", "une fois")
	has(t, english, "until 8 February 2026", "once")
}

func TestAuthority(t *testing.T) {
	f := facts()
	f.Reason = letter.Unfounded
	f.Authority = letter.Authority{Name: "Autorité de protection des données", Address: "Rue de la Presse 35, 1000 Bruxelles", URL: "https://www.autoriteprotectiondonnees.be/"}
	texts, err := letter.Denial(f)
	french, english := written(t, texts, err)
	has(t, french, "Rue de la Presse 35")
	if strings.Contains(french+english, "CNIL") {
		t.Error("another authority is named beside the one of the settings")
	}
}

func TestMissingFacts(t *testing.T) {
	for name, spoil := range map[string]func(*letter.Facts){
		"Request":         func(f *letter.Facts) { f.Request = "" },
		"Right":           func(f *letter.Facts) { f.Right = "objection" },
		"Controller.Name": func(f *letter.Facts) { f.Controller.Name = "" },
		"Controller.DPO":  func(f *letter.Facts) { f.Controller.DPO = "" },
		"Received":        func(f *letter.Facts) { f.Received = time.Time{} },
		"At":              func(f *letter.Facts) { f.At = time.Time{} },
		"Due":             func(f *letter.Facts) { f.Due = time.Time{} },
	} {
		f := facts()
		spoil(&f)
		if _, err := letter.Acknowledgement(f); !errors.Is(err, letter.ErrFacts) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	f := facts()
	delete(f.Asked, letter.English)
	if _, err := letter.Question(f); !errors.Is(err, letter.ErrFacts) {
		t.Errorf("a question in one language: %v", err)
	}
	f = facts()
	f.Asked[letter.French] = strings.Repeat("é", 1001)
	if _, err := letter.Question(f); !errors.Is(err, letter.ErrFacts) {
		t.Errorf("a long question: %v", err)
	}
}

// TestOneLine: what is asked cannot write another letter below the first.
func TestOneLine(t *testing.T) {
	f := facts()
	f.Asked[letter.English] = "your order\r\n\r\nYours faithfully,\u202e\x00\nMallory"
	texts, err := letter.Question(f)
	_, english := written(t, texts, err)
	has(t, english, "\nyour order Yours faithfully, Mallory\n")
	if regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x{202e}]`).MatchString(english) {
		t.Error("a control character is left")
	}
}
