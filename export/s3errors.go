package export

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// codeText is a server's error code as far as it is one: letters and digits.
func codeText(code string) string {
	for _, r := range code {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return "(no code)"
		}
	}
	return code[:min(len(code), 60)]
}

// sortNetwork sorts what happened below HTTP. Certificates and protocols need an operator; all else may pass.
func sortNetwork(err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		dial      *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("%w: its certificate is of an unknown authority: give the authority's PEM file", ErrRefused)
	case errors.As(err, &name), errors.As(err, &verify):
		return fmt.Errorf("%w: its certificate is not valid for this endpoint: correct the endpoint or the certificate", ErrRefused)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%w: it does not speak TLS there: correct the endpoint's scheme or port", ErrRefused)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: no answer in time", ErrUnavailable)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w: %w", ErrUnavailable, dial)
	}
	return fmt.Errorf("%w: the connection broke off", ErrUnavailable)
}

// s3Secret is what a credentials file holds. It formats as "[credentials]".
type s3Secret struct{ id, key, token string }

func (s3Secret) String() string   { return "[credentials]" }
func (s3Secret) GoString() string { return "[credentials]" }

// readCredentials reads an AWS credentials file of one profile. Errors name the file and the line, never what stands there.
func readCredentials(file string) (s s3Secret, err error) {
	about, err := os.Stat(file)
	if err != nil {
		return s, fmt.Errorf("%w: credentials file: %w", ErrRefused, err)
	}
	if about.Mode().Perm()&0o077 != 0 {
		return s, fmt.Errorf("%w: credentials file %q can be read by others: chmod 600 it", ErrRefused, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return s, fmt.Errorf("%w: credentials file: %w", ErrRefused, err)
	}
	number, profiles := 0, 0
	for line := range bytes.Lines(text) {
		number++
		name, value, found := strings.Cut(strings.TrimSpace(string(line)), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name == "" && !found, strings.HasPrefix(name, "#"), strings.HasPrefix(name, ";"):
		case strings.HasPrefix(name, "[") && profiles == 0:
			profiles++
		case name == "aws_access_key_id" && s.id == "" && value != "":
			s.id = value
		case name == "aws_secret_access_key" && s.key == "" && value != "":
			s.key = value
		case name == "aws_session_token" && s.token == "" && value != "":
			s.token = value
		default:
			return s3Secret{}, fmt.Errorf("%w: credentials file %q, line %d: expected aws_access_key_id, aws_secret_access_key or "+
				"aws_session_token, = and a value, once each", ErrRefused, file, number)
		}
	}
	if s.id == "" || s.key == "" {
		return s3Secret{}, fmt.Errorf("%w: credentials file %q: aws_access_key_id or aws_secret_access_key is missing", ErrRefused, file)
	}
	return s, nil
}
