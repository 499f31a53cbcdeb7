package export

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Options say where a bucket is. Secrets come by file only.
type S3Options struct {
	Endpoint    string // https://host[:port], or http:// for a server on this machine or a trusted network
	Region      string // default us-east-1
	Bucket      string
	Credentials string        // path of an AWS credentials file: aws_access_key_id = …, aws_secret_access_key = …, aws_session_token = … (optional)
	CA          string        // path of a PEM file of certificate authorities, where the server's is not a public one
	Timeout     time.Duration // until a request is answered, and between two pieces of an answer; default 30 s
}

// S3 is a bucket, by minio-go. Each object is one PUT with If-None-Match and its hash, so it is stored whole, once, or not at all.
// Requests are not repeated here: the caller's own loop does that, and knows when to give up. It is safe for concurrent use.
type S3 struct {
	core    minio.Core
	bucket  string
	timeout time.Duration
	// Bytes a second below which a PUT is taken for dead; the time it may last grows with its size.
	slowest int64
}

// OpenS3 reads the credentials; it does not reach for the server: see Check.
func OpenS3(o S3Options) (*S3, error) {
	host, secure, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("opening S3: %w", err)
	}
	secret := &credentialsFile{path: o.Credentials}
	if _, err := secret.Retrieve(); err != nil {
		return nil, fmt.Errorf("opening S3: %w", err)
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	transport, err := s3Transport(o)
	if err != nil {
		return nil, fmt.Errorf("opening S3: %w", err)
	}
	client, err := minio.New(host, &minio.Options{
		Creds: credentials.New(secret), Secure: secure, Region: o.Region,
		Transport: patient{transport, o.Timeout}, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("opening S3: %w: endpoint %q is not usable", ErrRefused, o.Endpoint)
	}
	return &S3{core: minio.Core{Client: client}, bucket: o.Bucket, timeout: o.Timeout, slowest: 64 << 10}, nil
}

// credentialsFile reads the credentials again when their file has changed: session tokens expire, keys are rotated, and neither needs a
// restart. It is minio-go's credentials.Provider, called under its lock.
type credentialsFile struct {
	path string
	read time.Time // the file's time when it was read
}

func (f *credentialsFile) Retrieve() (credentials.Value, error) {
	about, err := os.Stat(f.path)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("%w: credentials file: %w", ErrRefused, err)
	}
	secret, err := readCredentials(f.path)
	if err != nil {
		return credentials.Value{}, err
	}
	f.read = about.ModTime() // of before: a change in between is read next time
	return credentials.Value{
		AccessKeyID: secret.id, SecretAccessKey: secret.key, SessionToken: secret.token, SignerType: credentials.SignatureV4,
	}, nil
}

func (f *credentialsFile) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return f.Retrieve()
}

func (f *credentialsFile) IsExpired() bool {
	about, err := os.Stat(f.path)
	return err != nil || !about.ModTime().Equal(f.read)
}

// Put is one PUT. The body's hash is both the payload hash of the signature (SigV4) and the object's stored checksum, so that a
// damaged transfer is refused by the server. On 412 the object is read and compared.
func (s *S3) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (version string, err error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("putting object: reading what is to be stored: %w", err)
	}
	version, err = s.put(ctx, key, body, size, sum)
	switch s3Code(err) {
	case minio.PreconditionFailed:
		return s.same(ctx, key, size, sum)
	case minio.BadDigest, "XAmzContentSHA256Mismatch", minio.InvalidDigest:
		// The transfer or the caller's file: reading the file again tells which.
		if err := copyExactly(io.Discard, body, size, sum); err != nil {
			return "", fmt.Errorf("putting object: %w", err)
		}
		return "", fmt.Errorf("putting object: %w: it was damaged on the way", ErrUnavailable)
	}
	if err != nil {
		return "", fmt.Errorf("putting object: %w", s.sort(ctx, err))
	}
	return version, nil
}

func (s *S3) put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (version string, err error) {
	inner, cancel := context.WithTimeout(ctx, s.timeout+time.Duration(size/s.slowest)*time.Second)
	defer cancel()
	options := minio.PutObjectOptions{
		ContentType: "application/octet-stream",
		// Spelled so, minio-go sends it as it stands; its own Checksum option would make it a trailer, which not every server takes.
		UserMetadata:         map[string]string{"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum[:])},
		DisableContentSha256: true, // no chunked signature: the hash given below signs the whole payload
		DisableMultipart:     true,
	}
	options.SetMatchETagExcept("*")
	stored, err := s.core.PutObject(inner, s.bucket, key, io.NewSectionReader(seekerAt{body}, 0, size), size, "", hex.EncodeToString(sum[:]), options)
	if err != nil && ctx.Err() == nil && inner.Err() != nil {
		return "", fmt.Errorf("%w: no answer in time", ErrUnavailable)
	}
	return stored.VersionID, err
}

// seekerAt reads a body at an offset, for one reader at a time. It hides Close from minio-go, which would close the caller's file.
type seekerAt struct{ io.ReadSeeker }

func (r seekerAt) ReadAt(p []byte, offset int64) (int, error) {
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	return io.ReadFull(r, p)
}

// same is the version of the object that stands under key already, where it has the same bytes; ErrExists otherwise.
func (s *S3) same(ctx context.Context, key string, size int64, sum [32]byte) (version string, err error) {
	r, version, err := s.get(ctx, key, "")
	if errors.Is(err, ErrNoObject) {
		return "", fmt.Errorf("putting object: %w: it exists and does not exist: another writer may be at work", ErrUnavailable)
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	return version, sameBytes(r, size, sum)
}

// Get reads an object. Read is ErrUnavailable where the transfer stalls for the timeout or ends before its length.
func (s *S3) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	r, _, err := s.get(ctx, key, version)
	return r, err
}

func (s *S3) get(ctx context.Context, key, version string) (r io.ReadCloser, id string, err error) {
	if err := checkKey(key); err != nil {
		return nil, "", err
	}
	body, about, _, err := s.core.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		return nil, "", fmt.Errorf("getting object: %w", s.sort(ctx, err))
	}
	return &transfer{body: body, left: about.Size, caller: ctx}, about.VersionID, nil
}

// List asks for pages of a thousand keys.
func (s *S3) List(ctx context.Context, prefix, after string, fn func(key string, size int64) error) error {
	for object := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true}) {
		if object.Err != nil {
			return fmt.Errorf("listing objects: %w", s.sort(ctx, object.Err))
		}
		if object.Key <= after || strings.HasSuffix(object.Key, "/") { // a server may ignore start-after; others list folders
			continue
		}
		if err := fn(object.Key, object.Size); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Versions asks for pages of a thousand versions. Keys that are none of ours are left out.
func (s *S3) Versions(ctx context.Context, prefix string, fn func(ObjectVersion) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	last, seen := "", map[string]bool{} // the greatest key and its versions: versitygw repeats the last key of a page on the next
	for v := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
		if v.Err != nil {
			return fmt.Errorf("listing versions: %w", s.sort(ctx, v.Err))
		}
		if v.Key > last {
			last = v.Key
			clear(seen)
		}
		if v.Key == last {
			if seen[v.VersionID] {
				continue
			}
			seen[v.VersionID] = true
		}
		if !strings.HasPrefix(v.Key, prefix) || checkKey(v.Key) != nil {
			continue
		}
		if err := fn(ObjectVersion{Key: v.Key, Version: v.VersionID, Marker: v.IsDeleteMarker, Current: v.IsLatest, Size: v.Size}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// DeleteVersion asks again with the right to bypass GOVERNANCE where the plain request is refused, and then for what keeps the version.
func (s *S3) DeleteVersion(ctx context.Context, key, version string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if version == "" {
		return fmt.Errorf("deleting version: %w: no version of %q was named, and a delete without one keeps the bytes", ErrRefused, key)
	}
	for _, bypass := range []bool{false, true} {
		err := s.core.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{VersionID: version, GovernanceBypass: bypass})
		switch code := s3Code(err); {
		case err == nil, code == minio.NoSuchKey, code == minio.NoSuchVersion:
			return nil
		case code != minio.AccessDenied && code != "InvalidRequest": // the second is MinIO's
			return fmt.Errorf("deleting version: %w", s.sortDelete(ctx, err))
		case bypass:
			return s.keeper(ctx, key, version)
		}
	}
	return nil
}

// sortDelete is sort, but for 405: that is no answer about one version.
func (s *S3) sortDelete(ctx context.Context, err error) error {
	if err = s.sort(ctx, err); errors.Is(err, ErrNoObject) {
		return fmt.Errorf("%w: the server lets nobody delete: use a bucket that can be written", ErrRefused)
	}
	return err
}

// keeper says why a version may not be deleted: its legal hold, its own retention or the bucket's, or else that the right is missing. What it may
// not ask, it takes for not the reason.
func (s *S3) keeper(ctx context.Context, key, version string) error {
	hold, err := s.core.GetObjectLegalHold(ctx, s.bucket, key, minio.GetObjectLegalHoldOptions{VersionID: version})
	if err == nil && hold != nil && *hold == minio.LegalHoldEnabled {
		return fmt.Errorf("deleting version: %w: it is under a legal hold: lift it (aws s3api put-object-legal-hold)", ErrLocked)
	}
	var mode string
	own, until, err := s.core.GetObjectRetention(ctx, s.bucket, key, version)
	if err == nil && own != nil && until != nil {
		mode = fmt.Sprintf("%s until %s", *own, until.UTC().Format(time.RFC3339))
	} else if lock, err := s.Lock(ctx); err == nil && lock.Mode != "" {
		mode = fmt.Sprintf("%s for %d days", lock.Mode, lock.Days)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.HasPrefix(mode, Governance):
		return fmt.Errorf("deleting version: %w: %s: grant these credentials s3:BypassGovernanceRetention", ErrLocked, mode)
	case mode != "":
		return fmt.Errorf("deleting version: %w: %s: nobody can delete it before; end the bucket's default retention, so that it keeps no others",
			ErrLocked, mode)
	}
	return fmt.Errorf("deleting version: %w: grant these credentials s3:DeleteObjectVersion on the bucket (AccessDenied)", ErrRefused)
}

// AbortUploads takes the first page of uploads until there is none, since ending them moves the pages.
func (s *S3) AbortUploads(ctx context.Context, prefix string) (aborted int, err error) {
	if err := checkPrefix(prefix); err != nil {
		return 0, err
	}
	if prefix == "" {
		return 0, fmt.Errorf("aborting uploads: %w: no prefix: the uploads of others would end too", ErrRefused)
	}
	for {
		page, err := s.core.ListMultipartUploads(ctx, s.bucket, prefix, "", "", "", 0)
		if err != nil {
			return aborted, fmt.Errorf("listing uploads: %w", s.sort(ctx, err))
		}
		before := aborted
		for _, u := range page.Uploads {
			if !strings.HasPrefix(u.Key, prefix) {
				continue
			}
			err := s.core.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID)
			if s3Code(err) == minio.NoSuchUpload {
				continue // another was faster
			}
			if err != nil {
				return aborted, fmt.Errorf("aborting upload: %w", s.sort(ctx, err))
			}
			aborted++
		}
		if !page.IsTruncated {
			return aborted, nil
		}
		if aborted == before {
			return aborted, fmt.Errorf("aborting uploads: %w: it goes on listing uploads that have ended", ErrUnavailable)
		}
	}
}

// Lock asks for the bucket's object lock. A server that knows of no such thing has none.
func (s *S3) Lock(ctx context.Context) (ObjectLock, error) {
	_, mode, validity, unit, err := s.core.GetObjectLockConfig(ctx, s.bucket)
	if noObjectLock(err) {
		return ObjectLock{}, nil
	}
	if err != nil {
		return ObjectLock{}, fmt.Errorf("reading default retention of bucket %q: %w", s.bucket, s.sort(ctx, err))
	}
	if mode == nil || *mode == "" || validity == nil {
		return ObjectLock{}, nil
	}
	lock := ObjectLock{Mode: string(*mode), Days: int(min(*validity, 1<<20))}
	if unit != nil && *unit == minio.Years {
		lock.Days *= 366
	}
	return lock, nil
}

// noObjectLock: the answer is that the bucket has none, or that the server has no such thing.
func noObjectLock(err error) bool {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) || answer.Code == minio.NoSuchBucket {
		return false
	}
	return slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, answer.StatusCode)
}

// Check asks for the bucket, its versioning and its default retention, which must let erasure through, and writes a probe twice: the second,
// other bytes under the same key, must be refused, or the store ignores If-None-Match and would let a repeat overwrite an object.
func (s *S3) Check(ctx context.Context) error {
	// Not HEAD: its answers have no body and so no code to tell a wrong key from a missing bucket.
	versioning, err := s.core.GetBucketVersioning(ctx, s.bucket)
	if err != nil {
		return fmt.Errorf("checking bucket %q: %w", s.bucket, s.sort(ctx, err))
	}
	if !versioning.Enabled() {
		return fmt.Errorf("checking bucket %q: %w: its versioning is off: turn it on (aws s3api put-bucket-versioning --bucket %s "+
			"--versioning-configuration Status=Enabled)", s.bucket, ErrRefused, s.bucket)
	}
	lock, err := s.Lock(ctx)
	if err == nil {
		err = lock.within(ErasureDeadline) // GDPR Art. 17: nothing is stored that could not be erased
	}
	if err != nil {
		return fmt.Errorf("checking bucket %q: %w", s.bucket, err)
	}
	for _, text := range []string{"octroi may write here\n", "and is refused a second time\n"} {
		_, err := s.put(ctx, "octroi-check/write", strings.NewReader(text), int64(len(text)), sha256.Sum256([]byte(text)))
		if s3Code(err) == minio.PreconditionFailed {
			return nil
		}
		if err != nil {
			return fmt.Errorf("checking that bucket %q can be written: %w", s.bucket, s.sort(ctx, err))
		}
	}
	return fmt.Errorf("checking bucket %q: %w: the server ignores If-None-Match: use a store that honours it "+
		"(Amazon S3, MinIO, Ceph, versitygw)", s.bucket, ErrRefused)
}

func s3Code(err error) string {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return ""
	}
	if answer.StatusCode == http.StatusPreconditionFailed {
		return minio.PreconditionFailed // also of servers and proxies that answer without a body
	}
	return answer.Code
}

const s3Rights = "s3:GetObject, s3:PutObject, s3:ListBucket, s3:GetBucketVersioning and s3:GetBucketObjectLockConfiguration on the bucket; " +
	"the custodian's also s3:GetObjectVersion, s3:DeleteObjectVersion, s3:ListBucketVersions, s3:ListBucketMultipartUploads, s3:AbortMultipartUpload"

// s3Hints are the next steps for the answers an operator can act on.
var s3Hints = map[string]string{
	"AccessDenied":                 "access denied: grant these credentials " + s3Rights,
	"AllAccessDisabled":            "access to the account is disabled: ask the provider",
	"InvalidAccessKeyId":           "unknown access key: correct aws_access_key_id in the credentials file",
	"XAdminUserNotFound":           "unknown access key: correct aws_access_key_id in the credentials file", // versitygw's
	"SignatureDoesNotMatch":        "wrong secret: correct aws_secret_access_key in the credentials file",
	"InvalidToken":                 "invalid session token: renew aws_session_token in the credentials file",
	"ExpiredToken":                 "expired session token: renew aws_session_token in the credentials file",
	"RequestTimeTooSkewed":         "this machine's clock is wrong: set it",
	"AuthorizationHeaderMalformed": "wrong region: correct the region setting",
	"PermanentRedirect":            "the bucket is elsewhere: correct endpoint and region",
	"NoSuchBucket":                 "there is no such bucket: create it, with versioning on, or correct its name",
	"InvalidBucketName":            "the bucket's name is not one: correct it",
	"NotImplemented":               "the server cannot do what is needed: a PUT with If-None-Match, and versions (Amazon S3, MinIO, Ceph, versitygw can)",
	"EntityTooLarge":               "the server takes no object of this size in one PUT: lower the batch size",
}

// sort turns an error of minio-go into one of Objects. Only codes are passed on, never messages or bodies: some servers quote the
// access key or the signed text in theirs.
func (s *S3) sort(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRefused) { // ours: no answer in time, the credentials file
		return err
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return sortNetwork(err)
	}
	code := codeText(answer.Code)
	switch {
	case code == "NoSuchKey", code == "NoSuchVersion", code == "MethodNotAllowed" && answer.StatusCode == http.StatusMethodNotAllowed:
		return ErrNoObject // the last one is how a delete marker answers
	case s3Hints[code] != "":
		return fmt.Errorf("%w: %s (%s)", ErrRefused, s3Hints[code], code)
	case answer.StatusCode >= 500, answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusRequestTimeout,
		code == "ConditionalRequestConflict", code == "OperationAborted", code == "RequestTimeout":
		return fmt.Errorf("%w: it answered %d %s", ErrUnavailable, answer.StatusCode, code)
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%w: %s (%s)", ErrRefused, s3Hints["AccessDenied"], code)
	}
	return fmt.Errorf("%w: it answered %d %s", ErrRefused, answer.StatusCode, code)
}
