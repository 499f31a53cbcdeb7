package subject

import (
	"fmt"
	"io"
	"log/slog"
)

// What this file does: no verb of fmt, no slog handler and no encoder of the standard library shows an identifier, a credential, a
// tag or a key; of a mark, only encoders do. MarshalText serves encoding/json (values and map keys), encoding/xml and slog's text handler.

const (
	opaqueSubject    = "[subject]"
	opaqueIdentifier = "[identifier]"
	opaqueCredential = "[credential]"
	opaqueTag        = "[tag]"
	opaqueMark       = "[mark]"
)

// Format writes "[subject]" for every verb.
func (Subject) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueSubject) }

// LogValue is "[subject]".
func (Subject) LogValue() slog.Value { return slog.StringValue(opaqueSubject) }

// MarshalText is "[subject]".
func (Subject) MarshalText() ([]byte, error) { return []byte(opaqueSubject), nil }

// Format writes "[identifier]" for every verb.
func (Identifier) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueIdentifier) }

// LogValue is "[identifier]".
func (Identifier) LogValue() slog.Value { return slog.StringValue(opaqueIdentifier) }

// MarshalText is "[identifier]".
func (Identifier) MarshalText() ([]byte, error) { return []byte(opaqueIdentifier), nil }

// Format writes "[credential]" for every verb.
func (Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueCredential) }

// LogValue is "[credential]".
func (Credential) LogValue() slog.Value { return slog.StringValue(opaqueCredential) }

// MarshalText is "[credential]": what a client gets is Text.
func (Credential) MarshalText() ([]byte, error) { return []byte(opaqueCredential), nil }

// Format writes "[tag]" for every verb.
func (Tag) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueTag) }

// LogValue is "[tag]".
func (Tag) LogValue() slog.Value { return slog.StringValue(opaqueTag) }

// Format writes "[mark]" for every verb.
func (Mark) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueMark) }

// LogValue is "[mark]".
func (Mark) LogValue() slog.Value { return slog.StringValue(opaqueMark) }

// Format writes "[mark]" for every verb.
func (Remnant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, opaqueMark) }

// LogValue is "[mark]".
func (Remnant) LogValue() slog.Value { return slog.StringValue(opaqueMark) }

// MarshalText is "[tag]".
func (Tag) MarshalText() ([]byte, error) { return []byte(opaqueTag), nil }
