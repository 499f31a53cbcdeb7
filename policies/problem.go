package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong in a document.
type Problem struct {
	File, Field string // Field is the path of keys, "recipients[0].country"; empty for the whole file
	Line        int    // from 1; 0 where there is no line to name
	Wrong       string // what is wrong
	Right       string // what would be right
}

// String is one line: file:line: field: what is wrong; what would be right.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	return b.String() + p.Wrong + "; " + p.Right
}

// Problems is all that is wrong in a policy, by file and line; it renders one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
}

// choose says what would be right where one of a closed list is: the nearest if there is one near, else all.
func choose(word string, list []string) string {
	if near := nearest(word, list); near != "" {
		return fmt.Sprintf("write %q", near)
	}
	if len(list) == 0 {
		return "remove it"
	}
	return "write one of " + strings.Join(list, ", ")
}

// nearest is the word of the list that a slip of the hand turns into word, or "": at most one edit in three letters.
func nearest(word string, list []string) string {
	if len(word) > 64 {
		return ""
	}
	best, least := "", len(word)/3+1
	for _, candidate := range list {
		if d := distance(strings.ToLower(word), candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with the next (optimal string alignment).
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(replaced, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
