package pseudonymize

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func TestRound(t *testing.T) {
	for text, want := range map[string]string{
		"4": "4", "4.6": "4.6", "4.65": "4.7", "4.64": "4.6", "-4.65": "-4.7", "4.649999": "4.6",
		"0": "0", "-0": "0", "0.000": "0", "000": "0", "007": "7", "1.0": "1", "10": "10", "10.40": "10", "10.5": "11",
		"123456": "120000", "125000": "130000", "124999.9": "120000", "99.5": "100", "9.96": "10", "0.995": "1", "999999": "1000000",
		"0.001234": "0.0012", "0.00125": "0.0013", "-0.00099999": "-0.001", "0.15": "0.15", "1.005": "1",
		"9999999999999999999999999999999": "10000000000000000000000000000000", "99999999999999999999999999999999": "",
		"": "", ".5": "", "5.": "", "+5": "", "--5": "", "-": "", ".": "", "1e3": "", "1,5": "", "0x10": "", " 4": "", "4 ": "", "4.6.1": "",
		"NaN": "", "Inf": "", "٤": "", "4/5": "", "a@b.example": "", "111111111111111111111111111111111": "",
	} {
		if got := Round(text); got != want {
			t.Errorf("%q is rounded to %q, want %q", text, got, want)
		}
	}
}

// FuzzRound holds Round against exact arithmetic: within half a unit of the second significant digit, and a half goes away from zero.
func FuzzRound(f *testing.F) {
	for _, text := range []string{"4.65", "-0.00125", "99.5", "123456", "0.0", "00100.00500"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Round(text)
		if got == "" {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		rounded, well := new(big.Rat).SetString(got)
		if !ok || !well || strings.ContainsAny(text+got, "eE+_/") {
			t.Fatalf("%q is rounded to %q", text, got)
		}
		if digits := strings.TrimLeft(strings.Replace(strings.TrimPrefix(got, "-"), ".", "", 1), "0"); len(strings.TrimRight(digits, "0")) > 2 {
			t.Fatalf("%q is rounded to %q: more than two digits", text, got)
		}
		abs := new(big.Rat).Abs(exact)
		if abs.Sign() == 0 {
			if got != "0" {
				t.Fatalf("%q is rounded to %q", text, got)
			}
			return
		}
		unit, ten := big.NewRat(1, 1), big.NewRat(10, 1)
		for hundred := big.NewRat(100, 1); new(big.Rat).Quo(abs, unit).Cmp(hundred) >= 0; {
			unit.Mul(unit, ten)
		}
		for new(big.Rat).Quo(abs, unit).Cmp(ten) < 0 {
			unit.Quo(unit, ten)
		}
		units := new(big.Rat).Add(new(big.Rat).Quo(abs, unit), big.NewRat(1, 2))
		whole := new(big.Int).Quo(units.Num(), units.Denom())
		want := new(big.Rat).Mul(new(big.Rat).SetInt(whole), unit)
		if want.Cmp(new(big.Rat).Abs(rounded)) != 0 || rounded.Sign() != exact.Sign() {
			t.Fatalf("%q is rounded to %q, want %s", text, got, fmt.Sprint(want))
		}
	})
}
