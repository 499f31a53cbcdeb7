package letter

import (
	"strconv"
	"time"
)

// Date is the day of t, in UTC, as the language writes it in a letter: "1er mars 2026", "1 March 2026".
func Date(t time.Time, language string) string {
	year, month, day := t.UTC().Date()
	text := strconv.Itoa(day)
	if language != French {
		return text + " " + month.String() + " " + strconv.Itoa(year)
	}
	if day == 1 {
		text += "er"
	}
	months := [...]string{
		"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre",
	}
	return text + " " + months[month-1] + " " + strconv.Itoa(year)
}
