package pseudonymize

import (
	"errors"
	"strings"
	"testing"
)

func TestParseMoney(t *testing.T) {
	for _, c := range []struct {
		amount, currency string
		minor            int64
		ok               bool
	}{
		{"12.30", "EUR", 1230, true},
		{"12.3", "EUR", 1230, true},
		{"12", "EUR", 1200, true},
		{"-0.05", "EUR", -5, true},
		{"0", "EUR", 0, true},
		{"1.000", "EUR", 100, true},
		{"1.005", "EUR", 0, false},
		{"500", "JPY", 500, true},
		{"500.5", "JPY", 0, false},
		{"1.234", "TND", 1234, true},
		{"1e3", "EUR", 0, false},
		{"", "EUR", 0, false},
		{".5", "EUR", 0, false},
		{"5.", "EUR", 0, false},
		{"+5", "EUR", 0, false},
		{"--5", "EUR", 0, false},
		{"5", "eur", 0, false},
		{"5", "EURO", 0, false},
		{"5", "QQQ", 0, false},
		{strings.Repeat("9", 13), "EUR", 999999999999900, true},
		{strings.Repeat("9", 14), "EUR", 0, false},
	} {
		m, err := ParseMoney(c.amount, c.currency)
		if c.ok != (err == nil) || (c.ok && (m.Minor != c.minor || m.Currency != c.currency)) {
			t.Errorf("ParseMoney(%q, %q) = %v, %v", c.amount, c.currency, m, err)
		}
		if err != nil && (!errors.Is(err, ErrMoney) || (c.amount != "" && len(c.amount) > 2 && strings.Contains(err.Error(), c.amount))) {
			t.Errorf("ParseMoney(%q, %q): error %q is not ErrMoney or echoes the amount", c.amount, c.currency, err)
		}
	}
}

func FuzzParseMoney(f *testing.F) {
	f.Add("12.30", "EUR")
	f.Add("-0.000", "JPY")
	f.Fuzz(func(t *testing.T, amount, code string) {
		m, err := ParseMoney(amount, code)
		if err == nil && (m.Currency != code || m.Minor > 1e15 || m.Minor < -1e15) {
			t.Fatalf("out of range: %v", m)
		}
	})
}
