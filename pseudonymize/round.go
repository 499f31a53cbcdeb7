package pseudonymize

import "strings"

// Round is a decimal number such as "4.65" to two significant digits, half away from zero, as short as it can be written: "4.7"; empty where text is no
// such number. There is no exponent, no sign but a minus, and no floating point: 0.15 is a half, and not what a float makes of it.
func Round(text string) string {
	const longest, kept = 32, 2
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if len(text) > longest || whole == "" || (point && fraction == "") || !allDigits(whole) || !allDigits(fraction) {
		return ""
	}
	number := []byte("0" + whole + fraction) // with room for a carry
	places := len(fraction)
	first := 0
	for first < len(number) && number[first] == '0' {
		first++
	}
	if first == len(number) {
		return "0"
	}
	if cut := first + kept; cut < len(number) {
		up := number[cut] >= '5'
		for i := cut; i < len(number); i++ {
			number[i] = '0'
		}
		for i := cut - 1; up; i-- {
			if up = number[i] == '9'; up {
				number[i] = '0'
				continue
			}
			number[i]++
		}
	}
	rounded := strings.TrimLeft(string(number[:len(number)-places]), "0")
	if rounded == "" {
		rounded = "0"
	}
	if rest := strings.TrimRight(string(number[len(number)-places:]), "0"); rest != "" {
		rounded += "." + rest
	}
	if negative {
		rounded = "-" + rounded
	}
	if len(rounded) > longest { // by the carry: it could not be treated again
		return ""
	}
	return rounded
}
