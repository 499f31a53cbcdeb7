package s3test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/octroi/octroi/export"
)

// What a test does behind the client's back: none of this goes through the client that is tested, or through the proxy.

// MakeBucket makes a bucket.
func (s *Server) MakeBucket(name string, versioning bool) {
	s.t.Helper()
	s.send(http.MethodPut, "/"+name, "")
	if versioning {
		s.send(http.MethodPut, "/"+name+"?versioning=", `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
	}
}

// SetLock gives a bucket with versioning a default retention: export.Governance or export.Compliance, for whole days. It replaces the one before.
// versitygw counts the days from this call on, for all objects alike.
func (s *Server) SetLock(bucket, mode string, days int) {
	s.t.Helper()
	s.send(http.MethodPut, "/"+bucket+"?object-lock=", fmt.Sprintf(`<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
		`<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>%s</Mode><Days>%d</Days></DefaultRetention></Rule>`+
		`</ObjectLockConfiguration>`, mode, days))
}

// Hold puts a version under a legal hold, or lifts it. The bucket must have a lock.
func (s *Server) Hold(bucket, key, version string, on bool) {
	s.t.Helper()
	status := map[bool]string{true: "ON", false: "OFF"}[on]
	s.send(http.MethodPut, "/"+bucket+"/"+key+"?legal-hold=&versionId="+version,
		`<LegalHold xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>`+status+`</Status></LegalHold>`)
}

// Delete deletes an object; with a version id, that version for good.
func (s *Server) Delete(key, version string) {
	s.t.Helper()
	path := "/" + s.Bucket + "/" + key
	if version != "" {
		path += "?versionId=" + version
	}
	s.send(http.MethodDelete, path, "")
}

// Overwrite puts other bytes under a key, as somebody with write rights could.
func (s *Server) Overwrite(key, body string) {
	s.t.Helper()
	s.send(http.MethodPut, "/"+s.Bucket+"/"+key, body)
}

// BeginUpload begins a multipart upload and sends one part: what a program that died leaves.
func (s *Server) BeginUpload(key, part string) {
	s.t.Helper()
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	s.decode(s.send(http.MethodPost, "/"+s.Bucket+"/"+key+"?uploads=", ""), &begun)
	s.send(http.MethodPut, "/"+s.Bucket+"/"+key+"?partNumber=1&uploadId="+url.QueryEscape(begun.UploadID), part)
}

// Uploads are the keys of unfinished multipart uploads.
func (s *Server) Uploads() (keys []string) {
	s.t.Helper()
	var list struct {
		Upload []struct{ Key string }
	}
	s.decode(s.send(http.MethodGet, "/"+s.Bucket+"?uploads=", ""), &list)
	for _, u := range list.Upload {
		keys = append(keys, u.Key)
	}
	return keys
}

// Versions are all versions and delete markers of keys that begin with prefix; not more than a thousand.
func (s *Server) Versions(prefix string) (all []export.ObjectVersion) {
	s.t.Helper()
	var list struct {
		IsTruncated           bool
		Version, DeleteMarker []struct {
			Key       string
			VersionID string `xml:"VersionId"`
			IsLatest  bool
			Size      int64
		}
	}
	s.decode(s.send(http.MethodGet, "/"+s.Bucket+"?prefix="+url.QueryEscape(prefix)+"&versions=", ""), &list)
	if list.IsTruncated {
		s.t.Fatal("more than a thousand versions")
	}
	for _, v := range list.Version {
		all = append(all, export.ObjectVersion{Key: v.Key, Version: v.VersionID, Current: v.IsLatest, Size: v.Size})
	}
	for _, v := range list.DeleteMarker {
		all = append(all, export.ObjectVersion{Key: v.Key, Version: v.VersionID, Current: v.IsLatest, Marker: true})
	}
	return all
}

// Limited are the options of another user, who has nothing but these rights in the bucket (as s3:GetObject): they replace those given before.
func (s *Server) Limited(rights ...string) export.S3Options {
	s.t.Helper()
	s.send(http.MethodPut, "/"+s.Bucket+"?policy=", fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["%s"]},`+
		`"Action":["%s"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%[3]s/*"]}]}`, limitedKey, strings.Join(rights, `","`), s.Bucket))
	o := s.Options()
	o.Credentials = filepath.Join(s.folder, "limited")
	s.write(o.Credentials, "aws_access_key_id = "+limitedKey+"\naws_secret_access_key = "+secretKey+"\n")
	return o
}

// writeUsers writes what versitygw's own IAM reads: the user of Limited.
func (s *Server) writeUsers() {
	s.t.Helper()
	s.write(filepath.Join(s.folder, "users", "users.json"),
		fmt.Sprintf(`{"accessAccounts":{"%s":{"access":"%[1]s","secret":"%s","role":"user"}}}`, limitedKey, secretKey))
}

func (s *Server) send(method, path, body string) (answered []byte) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, s.Endpoint+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	sign(request, body, time.Now().UTC())
	sum := md5.Sum([]byte(body)) // some settings of a bucket demand it
	request.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %s, %v: %s", method, path, answer.Status, err, text)
	}
	return text
}

func (s *Server) decode(text []byte, to any) {
	s.t.Helper()
	if err := xml.Unmarshal(text, to); err != nil {
		s.t.Fatal(err)
	}
}
