package proof

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of lists and numbers; a text's bound is its kind's.
const (
	maxDestinations = 64
	maxPurposes     = 64 // policies.MaxPurposes
	maxRequests     = 1000
	maxVersions     = 2000
	maxCount        = 1 << 40
	maxText         = 200 // bytes of an actor, a method, a basis
)

var (
	// RFC 9562, version 4, lower case.
	requestID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	digest    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	pseudonym = regexp.MustCompile(`^[0-9a-f]{32}$`)
	batchID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	name      = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) // of a node, destination, purpose, count or reason
	recipient = regexp.MustCompile(`^age1[a-z0-9]{20,}$`)
	objectKey = regexp.MustCompile(`^[A-Za-z0-9=_-][A-Za-z0-9=._/-]*$`)
	versionID = regexp.MustCompile(`^[!-~]*$`)
	keyID     = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// malformed names the field that is not as it must be; it never holds its content.
func malformed(field string) error { return fmt.Errorf("%w: %s", ErrStatement, field) }

// field is one condition of a statement's shape.
type field struct {
	name string
	ok   bool
}

// all is the error of the first field that is wrong.
func all(fields ...field) error {
	for _, f := range fields {
		if !f.ok {
			return malformed(f.name)
		}
	}
	return nil
}

// isKey says whether s is an object's key as export makes them, isVersion whether it is the id of a version. Their lengths are compared here: a
// pattern that counts to 900 is slow.
func isKey(s string) bool { return len(s) <= 900 && objectKey.MatchString(s) }

func isVersion(s string) bool { return len(s) <= 1000 && versionID.MatchString(s) }

// whole says whether t is a time in UTC and of whole units: it has one spelling.
func whole(t time.Time, unit time.Duration) bool {
	_, offset := t.Zone()
	return t.Unix() > 0 && t.Year() < 10000 && offset == 0 && t.Equal(t.Truncate(unit))
}

// wholeOrNone is whole of a time that may be missing.
func wholeOrNone(t time.Time, unit time.Duration) bool { return t.IsZero() || whole(t, unit) }

// stamp is a time of signing as statements have it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// set says whether list is sorted, without repeats, no longer than most, and of texts of the form.
func set(list []string, form *regexp.Regexp, most int) bool {
	return len(list) <= most && ascending(list, strings.Compare) && !slices.ContainsFunc(list, func(s string) bool { return !form.MatchString(s) })
}

// ascending says whether each element of list is above the one before it.
func ascending[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// counts says whether every count is one, under a name of the form.
func counts(of map[string]int, form *regexp.Regexp, most int) bool {
	for key, n := range of {
		if !form.MatchString(key) || !count(n) {
			return false
		}
	}
	return len(of) <= most
}

func count(n int) bool { return n >= 0 && n <= maxCount }

// plain says whether s is a short text without control characters.
func plain(s string) bool {
	control := func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }
	return len(s) <= maxText && !strings.ContainsFunc(s, control)
}
