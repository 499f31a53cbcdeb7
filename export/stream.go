package export

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The errors of stream entries.
var (
	ErrSignature = errors.New("stream entry's signature is not the gateway's")
	ErrEntry     = errors.New("stream entry is malformed")
	ErrGap       = errors.New("stream entry is missing")
	ErrChain     = errors.New("stream entry does not follow the one before it")
)

// EntryType says what a stream entry tells its destination.
type EntryType string

// BatchEntry states a shipped batch; entries.go has the other types.
const BatchEntry EntryType = "batch"

// entryMax bounds an entry's text in bytes; a batch entry takes about 1,200, one of hybrid recipients about 8,500.
const entryMax = 64 << 10

// Entry is one numbered statement of a gateway node to one destination: the claims of a JWT (RFC 7519, EdDSA of RFC 8037, typ
// "octroi-stream+jwt" as RFC 8725 section 3.11 asks). Numbers begin at 1 and have no gaps. Previous chains the entries: removing or
// reordering one shows.
//
//	stored form, version 1:  b64url(header) "." b64url(claims) "." b64url(signature)
//	header                   {"alg":"EdDSA","typ":"octroi-stream+jwt"}, these bytes and no others
//	claims                   the JSON below, in this order, without white space; another spelling of the same values is refused
type Entry struct {
	Destination string    `json:"aud"`
	Node        string    `json:"iss"`
	Number      uint64    `json:"num"`
	Type        EntryType `json:"evt"`
	IssuedAt    time.Time `json:"iat"`  // NumericDate, seconds
	Previous    string    `json:"prev"` // SHA-256 (hex) of the entry before, as signed; empty for number 1

	// Exactly one of them: Batch of a batch entry, Replace of a replace entry, Notice of the others.
	Batch   *Batch     `json:"batch,omitempty"`
	Replace *Replace   `json:"replace,omitempty"`
	Notice  *NoticeRef `json:"notice,omitempty"`
}

// Batch describes one shipped object.
type Batch struct {
	ID         string    `json:"id"`
	Key        string    `json:"key"`     // object key
	Version    string    `json:"version"` // S3 version id; empty in a directory
	SHA256     string    `json:"sha256"`  // of the ciphertext, hex
	Size       int64     `json:"size"`    // of the ciphertext, bytes
	Rows       int       `json:"rows"`
	From       time.Time `json:"from"` // of received_at
	To         time.Time `json:"to"`
	Purposes   []string  `json:"purposes"`
	PolicyHash string    `json:"policy"` // hex
	Recipients []string  `json:"recipients"`
	Schema     string    `json:"schema"`
}

// entryClaims is Entry as it stands in the token.
type entryClaims struct {
	Destination string      `json:"aud"`
	Node        string      `json:"iss"`
	Number      uint64      `json:"num"`
	Type        EntryType   `json:"evt"`
	IssuedAt    int64       `json:"iat"`
	Previous    string      `json:"prev"`
	Batch       *batchClaim `json:"batch,omitempty"`

	Replace *replaceClaim `json:"replace,omitempty"`
	Notice  *NoticeRef    `json:"notice,omitempty"`
}

// batchClaim is Batch as it stands in the token: times are RFC 3339 in UTC, to the millisecond.
type batchClaim struct {
	ID         string   `json:"id"`
	Key        string   `json:"key"`
	Version    string   `json:"version"`
	SHA256     string   `json:"sha256"`
	Size       int64    `json:"size"`
	Rows       int      `json:"rows"`
	From       string   `json:"from"`
	To         string   `json:"to"`
	Purposes   []string `json:"purposes"`
	PolicyHash string   `json:"policy"`
	Recipients []string `json:"recipients"`
	Schema     string   `json:"schema"`
}

// replaceClaim is Replace as it stands in the token.
type replaceClaim struct {
	Batch      string      `json:"batch"`
	Of         uint64      `json:"of"`
	Generation int         `json:"generation"`
	Now        *batchClaim `json:"now,omitempty"`
}

const streamMillis = "2006-01-02T15:04:05.000Z"

const streamType = "octroi-stream+jwt"

// entryHeader is the one header an entry may have. Pinning its bytes leaves nothing of a header to interpret: no other algorithm,
// no "none", no key or URL inside the token (RFC 8725 sections 3.1 and 3.11).
var entryHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","typ":"` + streamType + `"}`))

var (
	entryText  = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)
	streamName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	batchID    = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$`)
	batchFile  = regexp.MustCompile(`^events/dt=(\d{4}-\d{2}-\d{2})/hour=([01]\d|2[0-3])/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\.parquet\.age$`)
	hexDigest  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	versionID  = regexp.MustCompile(`^[!-~]*$`)
)

// GetExpirationTime, GetIssuedAt, GetNotBefore, GetIssuer, GetSubject and GetAudience make entryClaims jwt.Claims. An entry has no end:
// it is a statement about the past.
func (c *entryClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }

func (c *entryClaims) GetIssuedAt() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.IssuedAt, 0)), nil
}
func (c *entryClaims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }
func (c *entryClaims) GetIssuer() (string, error)              { return c.Node, nil }
func (c *entryClaims) GetSubject() (string, error)             { return "", nil }
func (c *entryClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Destination}, nil
}

func (c *entryClaims) signingText() (text string, err error) {
	claims, err := json.Marshal(c)
	return entryHeader + "." + base64.RawURLEncoding.EncodeToString(claims), err
}

// SignEntry is the signed text of e. An entry that VerifyEntry would refuse is ErrEntry. The same entry and key give the same text.
func SignEntry(e Entry, key ed25519.PrivateKey) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("signing stream entry: %w: no signing key", ErrEntry)
	}
	if err := e.check(); err != nil {
		return "", fmt.Errorf("signing stream entry: %w", err)
	}
	c := e.claims()
	text, err := c.signingText()
	if err != nil {
		return "", fmt.Errorf("signing stream entry: %w", err)
	}
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key)
	if err != nil {
		return "", fmt.Errorf("signing stream entry: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// VerifyEntry checks signature (EdDSA only), typ, audience, number > 0 and shape: ErrSignature or ErrEntry. It does not check the
// chain: see Chain.
func VerifyEntry(token, destination string, key ed25519.PublicKey) (Entry, error) {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return Entry{}, fmt.Errorf("verifying stream entry: %w: no public key of the gateway", ErrSignature)
	case len(token) > entryMax:
		return Entry{}, fmt.Errorf("verifying stream entry: %w: longer than %d bytes", ErrEntry, entryMax)
	case !entryText.MatchString(token): // base64 decoders skip line breaks: the same entry would have many hashes
		return Entry{}, fmt.Errorf("verifying stream entry: %w", ErrEntry)
	case !strings.HasPrefix(token, entryHeader+"."):
		return Entry{}, fmt.Errorf("verifying stream entry: %w: header is not that of %s", ErrSignature, streamType)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(), jwt.WithAudience(destination))
	var c entryClaims
	_, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return Entry{}, fmt.Errorf("verifying stream entry: %w: it is for another destination than %q", ErrEntry, destination)
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Entry{}, fmt.Errorf("verifying stream entry: %w", ErrEntry) // the cause would quote the token
	case err != nil:
		return Entry{}, fmt.Errorf("verifying stream entry: %w", ErrSignature)
	}
	// One text for one meaning: duplicate, unknown or reordered members end here.
	if text, err := c.signingText(); err != nil || !strings.HasPrefix(token, text+".") {
		return Entry{}, fmt.Errorf("verifying stream entry: %w: claims are not in canonical form", ErrEntry)
	}
	e, err := c.entry()
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return Entry{}, fmt.Errorf("verifying stream entry: %w", err)
	}
	return e, nil
}

// EntryHash is what the next entry's Previous holds: SHA-256 of the entry as signed, hex.
func EntryHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Chain checks one node's entries one after another. Its zero Number begins at entry 1; a caller that kept Number and Previous resumes.
// It is not safe for concurrent use.
type Chain struct {
	Destination string
	Node        string
	Gateway     ed25519.PublicKey
	Number      uint64 // the last entry that was checked
	Previous    string // its EntryHash
}

// Next checks that token is the entry after the last one (ErrChain otherwise) and moves on to it.
func (c *Chain) Next(token string) (Entry, error) {
	e, err := VerifyEntry(token, c.Destination, c.Gateway)
	switch {
	case err != nil:
		return Entry{}, err
	case e.Node != c.Node:
		return Entry{}, fmt.Errorf("%w: it is of node %q, not of %q", ErrChain, e.Node, c.Node)
	case e.Number != c.Number+1:
		return Entry{}, fmt.Errorf("%w: its number is %d, not %d", ErrChain, e.Number, c.Number+1)
	case e.Previous != c.Previous:
		return Entry{}, fmt.Errorf("%w: it was signed after another entry %d than the one here", ErrChain, c.Number)
	}
	c.Number, c.Previous = e.Number, EntryHash(token)
	return e, nil
}

// EntryKey is the object key of an entry: <destination>/stream/<node>/<number, 12 digits>.jws.
func EntryKey(destination, node string, number uint64) string {
	return fmt.Sprintf("%s/stream/%s/%012d.jws", destination, node, number)
}

// BatchKey is the object key of a batch (architecture.md "Batches, stream, index"):
// <destination>/events/dt=YYYY-MM-DD/hour=HH/<node>-<first, 12 digits>-<last>.<generation>.parquet.age.
func BatchKey(destination, node string, hour time.Time, first, last uint64, generation int) string {
	return fmt.Sprintf("%s/events/%s/%s-%012d-%012d.%d.parquet.age", destination, hour.UTC().Format("dt=2006-01-02/hour=15"), node, first, last, generation)
}

// Partition is the date (YYYY-MM-DD) and hour (HH) of receipt, in UTC, that the object key holds.
func (b *Batch) Partition() (date, hour string) {
	_, file, _ := strings.Cut(b.Key, "/")
	m := batchFile.FindStringSubmatch(file)
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}

func (e *Entry) check() error {
	switch {
	case !streamName.MatchString(e.Destination), !streamName.MatchString(e.Node):
		return fmt.Errorf("%w: destination or node", ErrEntry)
	case e.Number == 0 || e.Number >= 1e12:
		return fmt.Errorf("%w: number", ErrEntry)
	case (e.Number == 1) != (e.Previous == ""), e.Previous != "" && !hexDigest.MatchString(e.Previous):
		return fmt.Errorf("%w: hash of the entry before", ErrEntry)
	case e.IssuedAt.Unix() <= 0:
		return fmt.Errorf("%w: time of issue", ErrEntry)
	}
	return e.checkStatement()
}

func (b *Batch) check(destination string) error {
	file, ok := strings.CutPrefix(b.Key, destination+"/")
	m := batchFile.FindStringSubmatch(file)
	switch {
	case !ok || m == nil:
		return fmt.Errorf("%w: object key", ErrEntry)
	case !batchID.MatchString(b.ID), !versionID.MatchString(b.Version):
		return fmt.Errorf("%w: batch id or version", ErrEntry)
	case !hexDigest.MatchString(b.SHA256), !hexDigest.MatchString(b.PolicyHash):
		return fmt.Errorf("%w: a hash is not 64 lower-case hex digits", ErrEntry)
	case b.Size <= 0 || b.Rows <= 0:
		return fmt.Errorf("%w: size or rows", ErrEntry)
	case b.To.Before(b.From):
		return fmt.Errorf("%w: time range", ErrEntry)
	case len(b.Purposes) == 0 || len(b.Recipients) == 0 || b.Schema == "":
		return fmt.Errorf("%w: purposes, recipients or schema are missing", ErrEntry)
	}
	if _, err := time.Parse(time.DateOnly, m[1]); err != nil {
		return fmt.Errorf("%w: object key", ErrEntry)
	}
	return nil
}

func (e *Entry) claims() *entryClaims {
	c := &entryClaims{
		Destination: e.Destination, Node: e.Node, Number: e.Number, Type: e.Type,
		IssuedAt: e.IssuedAt.Unix(), Previous: e.Previous, Notice: e.Notice,
	}
	c.Batch = e.Batch.claim()
	if r := e.Replace; r != nil {
		c.Replace = &replaceClaim{Batch: r.Batch, Of: r.Of, Generation: r.Generation, Now: r.Now.claim()}
	}
	return c
}

// claim is nil for no batch.
func (b *Batch) claim() *batchClaim {
	if b == nil {
		return nil
	}
	return &batchClaim{
		ID: b.ID, Key: b.Key, Version: b.Version, SHA256: b.SHA256, Size: b.Size, Rows: b.Rows,
		From: b.From.UTC().Format(streamMillis), To: b.To.UTC().Format(streamMillis),
		Purposes: b.Purposes, PolicyHash: b.PolicyHash, Recipients: b.Recipients, Schema: b.Schema,
	}
}

func (c *entryClaims) entry() (e Entry, err error) {
	e = Entry{
		Destination: c.Destination, Node: c.Node, Number: c.Number, Type: c.Type,
		IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), Previous: c.Previous, Notice: c.Notice,
	}
	if e.Batch, err = c.Batch.batch(); err != nil {
		return Entry{}, err
	}
	if r := c.Replace; r != nil {
		now, err := r.Now.batch()
		if err != nil {
			return Entry{}, err
		}
		e.Replace = &Replace{Batch: r.Batch, Of: r.Of, Generation: r.Generation, Now: now}
	}
	return e, nil
}

// batch is nil for no claim.
func (c *batchClaim) batch() (*Batch, error) {
	if c == nil {
		return nil, nil
	}
	from, err1 := time.Parse(streamMillis, c.From)
	to, err2 := time.Parse(streamMillis, c.To)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("%w: time range", ErrEntry)
	}
	return &Batch{
		ID: c.ID, Key: c.Key, Version: c.Version, SHA256: c.SHA256, Size: c.Size, Rows: c.Rows, From: from, To: to,
		Purposes: c.Purposes, PolicyHash: c.PolicyHash, Recipients: c.Recipients, Schema: c.Schema,
	}, nil
}

// UnmarshalJSON reads claims strictly.
func (c *entryClaims) UnmarshalJSON(text []byte) error {
	type plain entryClaims // without this method
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(c))
}
