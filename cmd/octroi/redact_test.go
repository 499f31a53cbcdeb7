package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLogsHoldNoPersonalData(t *testing.T) {
	canaries := []string{
		"anna@example.org", "203.0.113.77", "2001:db8::17", "eyJhbGciOiJIUzI1NiJ9.e30.x", "+33612345678", "AGE-SECRET-KEY-1QQ", "octroi-lookup-v1:c2VjcmV0",
		"hT3kQ_x9-Zs0aLmPq7VbNw", "00112233445566778899aabbccddeeff", "free text of a visitor",
	}
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelDebug)
	for _, c := range canaries[:len(canaries)-1] {
		log.Info("failed for "+c, "error", errors.New("dial tcp "+c+": refused"), "reason", c, "destination", c)
		log.With("route", c).WithGroup("g").Error("x", slog.Group("key", "reason", c, "other", c))
	}
	// What nobody named as loggable is redacted, whatever it is.
	last := canaries[len(canaries)-1]
	log.Info("x", "body", last, "user", last, "anything", struct{ Name string }{last}, "reason", struct{ Name string }{last})
	log.Log(context.Background(), slog.LevelWarn, "y", slog.Any("state", []any{last}))
	for _, c := range canaries {
		if strings.Contains(out.String(), c) {
			t.Errorf("the log holds %q:\n%s", c, out.String())
		}
	}
	if n := strings.Count(out.String(), redacted); n < len(canaries) {
		t.Errorf("only %d values were redacted", n)
	}
}

func TestLogsHoldWhatOperatorsNeed(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, slog.LevelInfo).Info("listening", "address", "127.0.0.1:8080", "rows", 12, "destination", "warehouse",
		"batch", "0190f5fe-7c00-7a00-89ab-0123456789ab", "step", "github.com/octroi/octroi/collector.(*Collector).postEvents:42",
		"object", "warehouse/events/dt=2026-11-21/hour=18/n1-1-20.0.parquet.age", "error", errors.New("object store is unavailable"))
	for _, want := range []string{"127.0.0.1:8080", `"rows":12`, "hour=18/n1-1-20.0.parquet.age", "0190f5fe-7c00-7a00-89ab-0123456789ab", "(*Collector).postEvents:42", "object store is unavailable"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q: %s", want, out.String())
		}
	}
}
