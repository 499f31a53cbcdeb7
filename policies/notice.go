package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// ChoiceID is the ID of the text of all consent purposes together; no purpose may be called so.
const ChoiceID = "choice"

// NoticeText is one exact information text in one language (GDPR Art. 13). Its hash is what a consent record names (C3).
type NoticeText struct {
	ID       string   // ChoiceID for the text of all consent purposes together, else the purpose's id
	Version  string   // of every purpose in it: "audience.1+marketing.2"
	Language string   // BCP 47
	URL      string   // of the whole notice; for a choice, that of its first purpose
	Text     string   // exact bytes as shown
	Purposes []string // ids, in order
}

// SHA256 is the lower-case hex hash of Text.
func (n NoticeText) SHA256() string {
	sum := sha256.Sum256([]byte(n.Text))
	return hex.EncodeToString(sum[:])
}

// ChoiceNotice is the text a banner shows: all consent purposes, in order, each under its title, in one language. A language
// that the policy lacks falls back to its main part (fr-CA to fr), then to the policy's first. It is the zero NoticeText where no
// purpose rests on consent. Its slice is shared and read-only.
func (p *Policy) ChoiceNotice(language string) NoticeText {
	if len(p.choices) == 0 {
		return NoticeText{}
	}
	return p.choices[max(0, matchLanguage(p.languages, language))]
}

// InformationNotice is one purpose's text, as given to a person under a declared basis. The language falls back as in
// ChoiceNotice, and to any that the purpose has; ok is false for an unknown purpose.
func (p *Policy) InformationNotice(purpose, language string) (notice NoticeText, ok bool) {
	x, ok := p.byID[purpose]
	if !ok {
		return NoticeText{}, false
	}
	has := slices.DeleteFunc(slices.Clone(p.languages), func(l string) bool { return x.Texts[l] == "" })
	return x.notice(has[max(0, matchLanguage(has, language))]), true
}

// NoticeTexts lists every text of the policy, for publication: choices first, each by language.
func (p *Policy) NoticeTexts() []NoticeText {
	texts := slices.Clone(p.choices)
	for _, x := range p.purposes {
		for _, language := range p.languages {
			if x.Texts[language] != "" {
				texts = append(texts, x.notice(language))
			}
		}
	}
	return texts
}

func (p *Purpose) notice(language string) NoticeText {
	return NoticeText{
		ID: p.ID, Version: p.versioned(), Language: language, URL: p.NoticeURL,
		Text: p.Texts[language], Purposes: []string{p.ID},
	}
}

// versioned is the purpose with its version, as a notice's version names it.
func (p *Purpose) versioned() string { return p.ID + "." + strconv.Itoa(p.Version) }

// composeChoices joins the texts of the consent purposes, one notice per language. Art. 7(2) GDPR: each purpose stays
// distinguishable, under its own title.
func (p *Policy) composeChoices() {
	for _, language := range p.languages {
		var parts, versions []string
		n := NoticeText{ID: ChoiceID, Language: language}
		for _, x := range p.purposes {
			if x.Basis != Consent {
				continue
			}
			if n.URL == "" {
				n.URL = x.NoticeURL
			}
			parts = append(parts, x.Titles[language]+"\n\n"+x.Texts[language])
			versions = append(versions, x.versioned())
			n.Purposes = append(n.Purposes, x.ID)
		}
		if len(parts) == 0 {
			return
		}
		n.Text, n.Version = strings.Join(parts, "\n\n"), strings.Join(versions, "+")
		p.choices = append(p.choices, n)
	}
}

// maxLanguageBytes bounds a language tag: RFC 5646 §4.4.1 asks for room for 35.
const maxLanguageBytes = 35

// matchLanguage finds wanted among languages: the tag itself, else ever shorter parts of it (RFC 4647 §3.4); -1 for none.
func matchLanguage(languages []string, wanted string) int {
	if len(wanted) > maxLanguageBytes {
		return -1
	}
	for wanted != "" {
		for i, l := range languages {
			if strings.EqualFold(l, wanted) {
				return i
			}
		}
		wanted = wanted[:max(0, strings.LastIndexByte(wanted, '-'))]
	}
	return -1
}
