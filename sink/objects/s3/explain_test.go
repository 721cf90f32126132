package s3_test

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/s3"
	"kcagent/sink/objects/store"
)

// TestErrorsNameTheNextStep: what the user reads for each response, which is the same for each
// attempt and names no secret.
func TestErrorsNameTheNextStep(t *testing.T) {
	const files = "credentials.access_key_file and credentials.secret_key_file"
	for _, c := range []struct {
		status        int
		code, message string
		want          string
		permission    string // "none" if the error is not a PermissionError
	}{
		{404, "NoSuchBucket", "The specified bucket does not exist", "bucket lake does not exist; create it, or correct url", "none"},
		{403, "AccessDenied", "Access Denied", "access denied; grant s3:PutObject to the owner of " + files, "s3:PutObject"},
		{403, "AccessDenied", "User: arn:aws:iam::1:user/x is not authorized to perform: kms:GenerateDataKey on resource: y", "access denied; grant kms:GenerateDataKey to the owner of " + files, "kms:GenerateDataKey"},
		{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", "the store does not know the access key; check " + files, ""},
		{403, "SignatureDoesNotMatch", "The request signature we calculated does not match", "the secret access key does not match the access key; check " + files, ""},
		{400, "ExpiredToken", "The provided token has expired.", "the credentials have expired; renew " + files, ""},
		{400, "InvalidToken", "The provided token is malformed", "the credentials are invalid; check " + files, ""},
		{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "the clock of this host is 17 minutes behind that of the store; correct the clock", "none"},
		{301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.", "the bucket is in region eu-central-1, not in us-east-1; set region: eu-central-1", "none"},
		{400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'", "the bucket is in region eu-central-1, not in us-east-1; set region: eu-central-1", "none"},
		{400, "Odd", strings.Repeat("bad thing ", 5000), "the store responds with Odd: " + strings.Repeat("bad thing ", 30) + "…", "none"},
		{400, strings.Repeat("Odd", 5000), "", "the store responds with " + strings.Repeat("Odd", 100) + "…: ", "none"},
		{400, "EntityTooLarge", "Your proposed upload exceeds 5 bytes (request 4KPQ7ZRSNVQ8Z2VA)", "the store responds with EntityTooLarge: Your proposed upload exceeds 5 bytes (request …)", "none"},
	} {
		endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(17*time.Minute).UTC().Format(http.TimeFormat))
			w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
			w.WriteHeader(c.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message><RequestId>%s</RequestId><StringToSign>%s</StringToSign></Error>",
				c.code, c.message, rand.Text(), r.Header.Get("Authorization"))
		})
		s := open(t, fakeSpec(t, endpoint), s3.Tuning{})
		first, second := put(t, s, "k", 10), put(t, s, "k", 10)
		if first == nil || second == nil || first.Error() != "upload s3://lake/p/k: "+c.want || second.Error() != first.Error() {
			t.Errorf("%s: the errors are\n%v\n%v\nwant both\nupload s3://lake/p/k: %s", c.code, first, second, c.want)
		}
		permission := "none"
		if p, ok := errors.AsType[*store.PermissionError](first); ok {
			permission = p.Permission
		}
		if permission != c.permission {
			t.Errorf("%s: the permission is %q, want %q", c.code, permission, c.permission)
		}
		if text := fmt.Sprintf("%v %#v", first, first); strings.Contains(text, secret) || strings.Contains(text, "Signature=") {
			t.Errorf("%s: the error has a secret: %s", c.code, text)
		}
	}
}

// TestDeniedOperationNamesItsPermission.
func TestDeniedOperationNamesItsPermission(t *testing.T) {
	const created = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
	const listed = "<ListMultipartUploadsResult><Upload><Key>p/k</Key><UploadId>1</UploadId></Upload></ListMultipartUploadsResult>"
	for _, c := range []struct {
		want  string
		allow func(r *http.Request) string // the response to a request that is allowed
		do    func(s *s3.Store) error
	}{
		{"s3:PutObject", nil, func(s *s3.Store) error { return put(t, s, "k", 10) }},
		{"s3:PutObject", func(r *http.Request) string {
			if r.URL.Query().Has("uploads") {
				return created
			}
			return ""
		}, func(s *s3.Store) error { return put(t, s, "k", 2*minPart) }},
		{"s3:GetObject", nil, func(s *s3.Store) error { _, err := s.Head(t.Context(), "k"); return err }},
		{"s3:GetObject", nil, func(s *s3.Store) error { _, err := s.Open(t.Context(), "k"); return err }},
		{"s3:DeleteObject", nil, func(s *s3.Store) error { return s.Delete(t.Context(), "k") }},
		{"s3:ListBucket", nil, func(s *s3.Store) error {
			for _, err := range s.List(t.Context(), "") {
				return err
			}
			return nil
		}},
		{"s3:ListBucketMultipartUploads", nil, func(s *s3.Store) error { return s.AbortUploads(t.Context(), "k") }},
		{"s3:AbortMultipartUpload", func(r *http.Request) string {
			if r.Method == http.MethodGet {
				return listed
			}
			return ""
		}, func(s *s3.Store) error { return s.AbortUploads(t.Context(), "k") }},
	} {
		s := open(t, fakeSpec(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
			if c.allow != nil {
				if text := c.allow(r); text != "" {
					_, _ = io.WriteString(w, text)
					return
				}
			}
			s3test.Respond(http.StatusForbidden, "AccessDenied", "Access Denied")(w, r)
		})), inParts)
		err := c.do(s)
		p, ok := errors.AsType[*store.PermissionError](err)
		if !ok || p.Permission != c.want || !strings.Contains(err.Error(), "access denied; grant "+c.want) {
			t.Errorf("the error is %v, want that %s is missing", err, c.want)
		}
	}
}

// TestHeadExplainsRejections: the response to HEAD has no body, and the error names the cause all
// the same.
func TestHeadExplainsRejections(t *testing.T) {
	s := open(t, fakeSpec(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		s3test.Respond(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")(w, r)
	})), s3.Tuning{})
	_, err := s.Head(t.Context(), "k")
	expect(t, err, "", "the credentials have expired; renew")
}

// TestResponsesOfAnotherServer: a web server that responds to each request with a page holds no
// objects, so neither an upload nor a lookup has succeeded.
func TestResponsesOfAnotherServer(t *testing.T) {
	endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>Welcome</body></html>")
	})
	s := open(t, fakeSpec(t, endpoint), s3.Tuning{})
	const want = ": the response is not that of an S3 store; correct endpoint, which may be that of a console or of another server"
	expect(t, put(t, s, "k", 10), "upload s3://lake/p/k", want)
	_, err := s.Head(t.Context(), "k")
	expect(t, err, "look up s3://lake/p/k", want)
}

// TestHeadIsThrottled: a response without a body has no other cause than its status.
func TestHeadIsThrottled(t *testing.T) {
	s := open(t, fakeSpec(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		s3test.Respond(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")(w, r)
	})), s3.Tuning{})
	_, err := s.Head(t.Context(), "k")
	expect(t, err, "", "the store limits the rate of requests, or is not available (503 Service Unavailable)")
}

// TestEndlessResponsesFail: a list that does not end is an error, before it uses the memory of the
// agent.
func TestEndlessResponsesFail(t *testing.T) {
	endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) {
		entry := "<Upload><Key>p/" + strings.Repeat("k", 1<<20) + "</Key></Upload>"
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult>")
		for {
			if _, err := io.WriteString(w, entry); err != nil {
				return
			}
		}
	})
	s := open(t, fakeSpec(t, endpoint), s3.Tuning{})
	expect(t, s.AbortUploads(t.Context(), "k"), "list unfinished uploads of s3://lake/p/k", "the response of the store is too large")
}

// TestListThatRepeatsEnds: a store that returns the same page for ever is an error.
func TestListThatRepeatsEnds(t *testing.T) {
	endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"+
			"<Contents><Key>p/a</Key></Contents><Contents><Key>p/b</Key></Contents></ListBucketResult>")
	})
	var last error
	for _, err := range open(t, fakeSpec(t, endpoint), s3.Tuning{}).List(t.Context(), "") {
		last = err
	}
	expect(t, last, "list s3://lake/p/", "the list does not continue after \"p/b\"")
}

// TestRealServerRejections: the errors of a real server have the same texts.
func TestRealServerRejections(t *testing.T) {
	server := s3test.Start(t)
	for _, c := range []struct {
		change func(*sink.ObjectsSpec)
		want   string
	}{
		{func(o *sink.ObjectsSpec) { o.URL = "s3://missing/p" }, "bucket missing does not exist; create it, or correct url"},
		{func(o *sink.ObjectsSpec) { o.Credentials.AccessKeyFile = file(t, "k", "unknown") }, "the store does not know the access key; check "},
		{func(o *sink.ObjectsSpec) { o.Credentials.SecretKeyFile = file(t, "k", "wrong") }, "the secret access key does not match the access key"},
		{func(o *sink.ObjectsSpec) { o.Region = "eu-west-1" }, "the bucket is in region us-east-1, not in eu-west-1; set region: us-east-1"},
		{func(o *sink.ObjectsSpec) { o.Credentials.SecretKeyFile = "/missing" }, "read credentials.secret_key_file: open /missing: no such file or directory"},
		{func(o *sink.ObjectsSpec) { o.Credentials.SecretKeyFile = file(t, "k", " \n") }, "is empty"},
		{func(o *sink.ObjectsSpec) { o.Credentials.AccessKeyFile = file(t, "k", "key\nsecret\n") }, "has more than one word; write the value alone"},
	} {
		o := spec(server, "p")
		c.change(o)
		expect(t, put(t, open(t, o, inParts), "k", 10), "upload s3://", c.want)
	}
}

// TestConnectionErrors: TLS and the network.
func TestConnectionErrors(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	secure := httptest.NewUnstartedServer(http.HandlerFunc(h))
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	t.Cleanup(secure.Close)
	ca := file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	plain := fake(t, h)
	address := strings.TrimPrefix(secure.URL, "https://")
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, c := range []struct {
		endpoint string
		tls      *sink.ObjectsTLS
		want     string
	}{
		{secure.URL, nil, "the certificate of " + address + " is not signed by an authority of the system; set tls.ca_file to the certificate of its authority"},
		{secure.URL, &sink.ObjectsTLS{CAFile: ca}, "the object does not exist"},
		{secure.URL, &sink.ObjectsTLS{InsecureSkipVerify: true}, "the object does not exist"},
		{strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), &sink.ObjectsTLS{CAFile: ca}, "is for [example.com *.example.com]; set path_style, or correct endpoint"},
		{strings.Replace(secure.URL, "https:", "http:", 1), nil, "the endpoint requires TLS; use https:// in endpoint"},
		{strings.Replace(plain, "http:", "https:", 1), nil, "the endpoint does not use TLS; use http:// in endpoint"},
		{closed.URL, nil, "connect to " + strings.TrimPrefix(closed.URL, "http://") + ": connect: connection refused"},
	} {
		o := fakeSpec(t, c.endpoint)
		o.TLS = c.tls
		_, err := open(t, o, s3.Tuning{}).Open(t.Context(), "k")
		expect(t, err, "read s3://lake/p/k: ", c.want)
	}
	if other := file(t, "other.pem", "no certificate"); true {
		o := fakeSpec(t, secure.URL)
		o.TLS = &sink.ObjectsTLS{CAFile: other}
		_, err := s3.Open(t.Context(), o)
		expect(t, err, "open s3://lake/p: read tls.ca_file", "no certificate found; use a PEM file")
	}
}

// TestHostNotFound: an endpoint that has the bucket in the path often has no names for buckets. A name
// server that does not respond is another matter.
func TestHostNotFound(t *testing.T) {
	missing := &net.DNSError{Err: "no such host", Name: "lake.minio", IsNotFound: true}
	for _, c := range []struct {
		endpoint string
		err      *net.DNSError
		want     string
	}{
		{"http://minio:9000", missing, "host lake.minio not found; set path_style: true if the store has the bucket in the path, or correct endpoint"},
		{"http://minio:9000", &net.DNSError{Err: "no such host", Name: "minio", IsNotFound: true}, "host minio not found; correct endpoint"},
		{"", &net.DNSError{Err: "no such host", Name: "lake.s3.eu-central-9.amazonaws.com", IsNotFound: true}, "host lake.s3.eu-central-9.amazonaws.com not found; check region, and the name server of this host"},
		{"http://minio:9000", &net.DNSError{Err: "server misbehaving", Name: "lake.minio", IsTemporary: true}, "connect to lake.minio:9000: lookup lake.minio: server misbehaving"},
	} {
		sent := &url.Error{Op: "Get", URL: "http://lake.minio:9000/k", Err: &net.OpError{Op: "dial", Net: "tcp", Err: c.err}}
		got := s3.ExplainConnection(t.Context(), &sink.ObjectsSpec{URL: "s3://lake", Region: "us-east-1", Endpoint: c.endpoint}, sent)
		if got.Error() != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestInvalidSettings are errors before the first request.
func TestInvalidSettings(t *testing.T) {
	for want, change := range map[string]func(*sink.ObjectsSpec){
		"invalid url: use s3://bucket/prefix": func(o *sink.ObjectsSpec) { o.URL = "s3:///prefix" },
		"invalid endpoint: use http://":       func(o *sink.ObjectsSpec) { o.Endpoint = "minio:9000" },
		"invalid tags":                        func(o *sink.ObjectsSpec) { o.Tags = map[string]string{"": "x"} },
	} {
		o := fakeSpec(t, "http://127.0.0.1:1")
		change(o)
		_, err := s3.Open(t.Context(), o)
		expect(t, err, "open s3://", want)
	}
}
