package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
)

// loggable are the attributes that may be logged. Any other is redacted: a new attribute is named here, by someone who has asked what it can
// hold, or its value never reaches a log (architecture.md invariant 3; the handler fails closed).
var loggable = map[string]bool{
	"address": true, "alarm": true, "attempt": true, "batch": true, "batches": true, "bytes": true, "component": true, "count": true, "cursor": true, "delay": true,
	"destination": true, "duration": true, "entry": true, "error": true, "event_type": true, "file": true, "format": true, "from": true,
	"generation": true, "hour": true, "incident": true, "key": true, "listener": true, "method": true, "node": true, "number": true,
	"object": true, "policy": true, "position": true, "purpose": true, "reason": true, "route": true, "rows": true, "sequence": true,
	"size": true, "skipped": true, "state": true, "status": true, "step": true, "stream": true, "tail": true, "to": true, "version": true, "waiting": true,
}

// personal is text that looks like personal data or a secret, wherever it stands: e-mail, IP addresses, tokens, keys, phone numbers.
var personal = regexp.MustCompile(`(?i)[^\s@"']+@[^\s@"']+|` + // e-mail
	`\b(?:\d{1,3}\.){3}\d{1,3}\b|` + // IPv4
	`\b(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,7}\b|::[0-9a-f:]+|` + // IPv6
	`eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*|` + // JWT
	`AGE-SECRET-KEY-[A-Z0-9-]+|` +
	`octroi-[a-z]+-v1:\S+|` +
	`\+\d{8,15}`) // phone

// word is what may be random text: a device's credential, a pseudonym, a subject's id. random decides.
var word = regexp.MustCompile(`[A-Za-z0-9_-]{20,}`)

const redacted = "[redacted]"

// redactor is a slog handler that lets only loggable attributes through, each value scrubbed.
type redactor struct{ next slog.Handler }

// newLogger logs JSON lines to w.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(redactor{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

func (r redactor) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

func (r redactor) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, scrub(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(redactAttr(a))
		return true
	})
	return r.next.Handle(ctx, clean)
}

func (r redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = redactAttr(a)
	}
	return redactor{r.next.WithAttrs(out)}
}

func (r redactor) WithGroup(name string) slog.Handler { return redactor{r.next.WithGroup(name)} }

func redactAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		var attrs []any
		for _, g := range v.Group() {
			attrs = append(attrs, redactAttr(g))
		}
		return slog.Group(a.Key, attrs...)
	}
	if !loggable[a.Key] {
		return slog.String(scrub(a.Key), redacted)
	}
	switch v.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
		return slog.Attr{Key: a.Key, Value: v}
	case slog.KindString:
		return slog.String(a.Key, scrubAddress(a.Key, v.String()))
	}
	switch x := v.Any().(type) {
	case error:
		return slog.String(a.Key, scrub(x.Error()))
	case fmt.Stringer:
		return slog.String(a.Key, scrub(x.String()))
	case []string:
		out := make([]string, len(x))
		for i, s := range x {
			out[i] = scrub(s)
		}
		return slog.Any(a.Key, out)
	}
	return slog.String(a.Key, redacted)
}

// scrubAddress lets the gateway's own listen addresses through, and names of objects and files; everything else is scrubbed.
func scrubAddress(key, text string) string {
	switch key {
	case "address":
		return text
	case "object", "file", "policy":
		return personal.ReplaceAllString(text, redacted)
	}
	return scrub(text)
}

func scrub(text string) string {
	return word.ReplaceAllStringFunc(personal.ReplaceAllString(text, redacted), func(w string) string {
		if random(w) {
			return redacted
		}
		return w
	})
}

// random says whether a long word is one that nobody thought of: base64 has letters of both cases and digits, hex of 16 bytes and more is nothing
// but digits and a to f. A UUID is let through: events have none of ours in them, batches and incidents have.
func random(w string) bool {
	var upper, lower, digit, other bool
	for i := range len(w) {
		switch c := w[i]; {
		case '0' <= c && c <= '9':
			digit = true
		case 'a' <= c && c <= 'z':
			lower, other = true, other || c > 'f'
		case 'A' <= c && c <= 'Z':
			upper, other = true, other || c > 'F'
		default:
			other = true
		}
	}
	return upper && lower && digit || len(w) >= 32 && !other
}
