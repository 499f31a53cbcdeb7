package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/octroi/octroi/export/s3test/freeport"
)

// destination is one of the run's two: warehouse holds those who consent, accounting holds everyone, under the contract.
type destination struct {
	name, format string
	consenting   bool // it holds only those
}

var destinations = []destination{{"warehouse", "parquet", true}, {"accounting", "ndjson", false}}

// bucket is a real S3 server with a versioned bucket.
type bucket struct {
	endpoint string
	client   *minio.Client
	process  *exec.Cmd
}

const (
	bucketName = "octroi-real"
	accessKey  = "real-access"
	secretKey  = "real-secret-of-a-server-that-lives-for-minutes"
)

func startBucket(program, dir string) (*bucket, error) {
	for _, d := range []string{"objects", "versions"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "versitygw.log"))
	if err != nil {
		return nil, err
	}
	b := &bucket{endpoint: address, process: exec.Command(program, "--port", address, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "objects"))}
	b.process.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	b.process.Stdout, b.process.Stderr = log, log
	if err := b.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the S3 server %s: %w (make installs it)", program, err)
	}
	if b.client, err = minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, "")}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if _, err = net.Dial("tcp", address); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := b.client.MakeBucket(ctx, bucketName, minio.MakeBucketOptions{}); err != nil {
		return nil, fmt.Errorf("making the bucket: %w", err)
	}
	return b, b.client.EnableVersioning(ctx, bucketName)
}

func (b *bucket) stop() {
	_ = b.process.Process.Kill()
	_ = b.process.Wait()
}

// install creates the installation: the product's own init, then the run's policy (validity of two years, no age limit), S3, small
// batches, and seconds where a site has minutes.
func (r *run) install(ctx context.Context) (err error) {
	if r.public, err = freeport.Address(); err != nil {
		return err
	}
	if r.private, err = freeport.Address(); err != nil {
		return err
	}
	err = r.exec(ctx, filepath.Join(r.bin, "octroi"), "init", "--dir", r.path(), "--site", "cdnow", "--origin", "http://"+r.public,
		"--jurisdiction", "US", "--interval", "1s")
	if err != nil {
		return err
	}
	for _, dir := range []string{r.path("gateway", "keys"), r.path("warehouse"), r.path("custodian")} {
		secret := "[default]\naws_access_key_id = " + accessKey + "\naws_secret_access_key = " + secretKey + "\n"
		if err := os.WriteFile(filepath.Join(dir, "s3-credentials"), []byte(secret), 0o600); err != nil {
			return err
		}
	}
	s3 := func(credentials string) string {
		return fmt.Sprintf("s3:\n    endpoint: http://%s\n    bucket: %s\n    credentials: %s", r.bucket.endpoint, bucketName, credentials)
	}
	err = errors.Join(
		edit(r.path("gateway", "octroi.yaml"), "127.0.0.1:8080", r.public, "127.0.0.1:8081", r.private, "directory: ../objects", s3("keys/s3-credentials"),
			"    too_old: P7D\n", "", "interval: 1s", "interval: 1s\n    max_rows: 500", "dir: spool", "dir: spool\n  segment_age: 1s", "notices: 24h", "notices: 1s"),
		edit(r.path("gateway", "policies", "audience.yaml"), "validity: P6M", "validity: P24M", "retention: P13M", "retention: P36M"),
		edit(r.path("custodian", "custodian.yaml"), "127.0.0.1:8081", r.private, "directory: ../objects", s3("s3-credentials"), "poll: 5s", "poll: 500ms"),
	)
	if err != nil {
		return err
	}
	return r.exec(ctx, filepath.Join(r.bin, "octroi"), "check", "--config", r.path("gateway", "octroi.yaml"))
}

// edit replaces pairs of texts in a file; each must be there.
func edit(file string, pairs ...string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(b)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			return fmt.Errorf("%s does not hold %q", file, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return os.WriteFile(file, []byte(text), 0o600)
}

// loadArgs are what a destination's data team would type.
func (r *run) loadArgs(d destination) []string {
	return append(r.streamArgs(d), "--into", r.path("loaded", d.name), "--format", d.format)
}

func (r *run) streamArgs(d destination) []string {
	return []string{
		"--from", "s3://" + bucketName, "--s3-endpoint", "http://" + r.bucket.endpoint, "--s3-credentials", r.path("warehouse", "s3-credentials"),
		"--destination", d.name, "--identity", r.path("warehouse", d.name, "identity.txt"), "--gateway-key", r.path("warehouse", d.name, "signing.key.pub"),
	}
}
