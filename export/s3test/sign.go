package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// sign signs a request as AWS Signature Version 4 asks, for what a test does behind the client's back: it must not go through the
// client that is tested.
func sign(r *http.Request, body string, now time.Time) {
	sum := func(text string) string { h := sha256.Sum256([]byte(text)); return hex.EncodeToString(h[:]) }
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	date, stamp := now.Format("20060102"), now.Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", sum(body))
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := strings.Join([]string{
		r.Method, strings.ReplaceAll(r.URL.EscapedPath(), "=", "%3D"), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"),
		"host:" + r.URL.Host, "x-amz-content-sha256:" + sum(body), "x-amz-date:" + stamp, "", signed, sum(body),
	}, "\n")
	scope := date + "/us-east-1/s3/aws4_request"
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{date, "us-east-1", "s3", "aws4_request"} {
		key = mac(key, part)
	}
	signature := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, sum(canonical)}, "\n"))
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", accessKey, scope, signed, signature))
}
