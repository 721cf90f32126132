package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/s3"
)

// TestKeyFilesAreReadAgain: changed files are used for the next request.
func TestKeyFilesAreReadAgain(t *testing.T) {
	server := s3test.Start(t)
	o := spec(server, "p")
	o.Credentials.SecretKeyFile = file(t, "secret", "old")
	s := open(t, o, inParts)
	expect(t, put(t, s, "k", 10), "upload ", "the secret access key does not match")
	if err := os.WriteFile(o.Credentials.SecretKeyFile, []byte(server.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, "k", 10); err != nil {
		t.Errorf("after the file has changed: %v", err)
	}
}

// chainEnvironment removes what the machine has, and sets variables.
func chainEnvironment(t *testing.T, variables map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range variables {
		t.Setenv(name, value)
	}
	s3.ForgetEnvironment()
	t.Cleanup(s3.ForgetEnvironment)
}

// A keyStore is a store that accepts one access key.
type keyStore struct {
	endpoint string
	valid    atomic.Pointer[string] // the access key
	region   atomic.Pointer[string] // of the last request
	token    atomic.Pointer[string]
}

func newKeyStore(t *testing.T, valid string) *keyStore {
	k := &keyStore{}
	k.valid.Store(&valid)
	k.endpoint = fake(t, func(w http.ResponseWriter, r *http.Request) {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		scope := strings.Split(rest+"///", "/") // the key, the date and the region
		token := r.Header.Get("X-Amz-Security-Token")
		k.region.Store(&scope[2])
		k.token.Store(&token)
		if scope[0] != *k.valid.Load() {
			s3test.Respond(http.StatusForbidden, "InvalidAccessKeyId", "x")(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"1"`)
	})
	return k
}

// open opens the store with the credentials of the environment.
func (k *keyStore) open(t *testing.T) *s3.Store {
	return open(t, &sink.ObjectsSpec{URL: "s3://lake/p", Endpoint: k.endpoint, PathStyle: true}, s3.Tuning{})
}

// TestEnvironmentVariables: keys and region come from the environment.
func TestEnvironmentVariables(t *testing.T) {
	chainEnvironment(t, map[string]string{"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "eu-north-1"})
	k := newKeyStore(t, "ENV")
	if err := put(t, k.open(t), "k", 10); err != nil || *k.region.Load() != "eu-north-1" {
		t.Errorf("Put: %v, in region %s", err, *k.region.Load())
	}
	k = newKeyStore(t, "other")
	expect(t, put(t, k.open(t), "k", 10), "upload ", "the store does not know the access key; check the AWS credentials (EnvConfigCredentials)")
}

// TestProfileIsReadAgain: a changed profile is used for the next request.
func TestProfileIsReadAgain(t *testing.T) {
	chainEnvironment(t, map[string]string{"AWS_PROFILE": "lake"})
	profile := func(key string) {
		text := fmt.Sprintf("[lake]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret)
		if err := os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	profile("FIRST")
	k := newKeyStore(t, "FIRST")
	s := k.open(t)
	if err := put(t, s, "k", 10); err != nil || *k.region.Load() != "us-east-1" {
		t.Fatalf("Put: %v, in region %s", err, *k.region.Load())
	}
	profile("THE-SECOND")
	next := "THE-SECOND"
	k.valid.Store(&next)
	if err := put(t, s, "k", 10); err != nil {
		t.Errorf("after the profile has changed: %v", err)
	}
}

// TestNoCredentials: the error says where to put them.
func TestNoCredentials(t *testing.T) {
	chainEnvironment(t, nil)
	expect(t, put(t, newKeyStore(t, "").open(t), "k", 10), "upload ", "no AWS credentials found in environment, profile, web identity, container or instance; set credentials.access_key_file and credentials.secret_key_file")
}

// TestSearchForCredentialsLogsNothing: the log of the agent has one format, so the AWS SDK does not
// write warnings of its own to the standard error.
func TestSearchForCredentialsLogsNothing(t *testing.T) {
	service := fake(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	chainEnvironment(t, map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service})
	stderr, log := os.Stderr, file(t, "stderr", "")
	defer func() { os.Stderr = stderr }()
	f, err := os.OpenFile(log, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	os.Stderr = f
	expect(t, put(t, newKeyStore(t, "").open(t), "k", 10), "upload ", "no AWS credentials found")
	if text, err := os.ReadFile(log); err != nil || len(text) > 0 {
		t.Errorf("stderr has %q, %v", text, err)
	}
}

// TestInstanceRole: the credentials of an instance are renewed before they end, and read again
// after a rejection. If a renewal fails, they are used until they end.
func TestInstanceRole(t *testing.T) {
	var given atomic.Int32
	var broken atomic.Bool
	service := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case broken.Load():
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(w, "token")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			_, _ = io.WriteString(w, "role")
		default:
			fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ROLE%d","SecretAccessKey":"s","Token":"session","Expiration":%q}`,
				given.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}
	})
	chainEnvironment(t, map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service})
	k := newKeyStore(t, "ROLE1")
	s, other := k.open(t), k.open(t)
	for _, s := range []*s3.Store{s, other, s} {
		if err := put(t, s, "k", 10); err != nil || *k.token.Load() != "session" {
			t.Fatalf("Put: %v, with the token %q", err, *k.token.Load())
		}
	}
	if n := given.Load(); n != 1 {
		t.Errorf("the stores requested credentials %d times, want once for the process", n)
	}
	if s3.RenewsIn(54*time.Minute) || !s3.RenewsIn(56*time.Minute) {
		t.Error("credentials that end in 1 h are not renewed 5 min before")
	}
	next := "ROLE2"
	k.valid.Store(&next)
	expect(t, put(t, s, "k", 10), "upload ", "the store does not know the access key; check the AWS credentials (EC2RoleProvider)")
	if err := put(t, s, "k", 10); err != nil {
		t.Errorf("after a rejection: %v", err)
	}
	broken.Store(true)
	s3.RenewNow()
	if err := put(t, s, "k", 10); err != nil {
		t.Errorf("after a failed renewal: %v", err)
	}
}

// TestWebIdentity: the token of a pod is exchanged for credentials. A rejection names the cause,
// and no id of a request.
func TestWebIdentity(t *testing.T) {
	var denied, empty atomic.Bool
	var requests atomic.Int32
	sts := fake(t, func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		if empty.Load() {
			return
		}
		if denied.Load() {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error><RequestId>%d</RequestId></ErrorResponse>", n)
			return
		}
		fmt.Fprintf(w, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>web</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
			r.FormValue("WebIdentityToken"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	variables := map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file(t, "token", "JWT"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_ENDPOINT_URL_STS": sts}
	chainEnvironment(t, variables)
	k := newKeyStore(t, "JWT")
	if err := put(t, k.open(t), "k", 10); err != nil || *k.token.Load() != "web" {
		t.Errorf("Put: %v, with the token %q", err, *k.token.Load())
	}
	denied.Store(true)
	s3.ForgetEnvironment()
	s := k.open(t)
	first, second := put(t, s, "k", 10), put(t, s, "k", 10)
	expect(t, first, "upload s3://lake/p/k: get AWS credentials: AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity", "")
	if first.Error() != second.Error() {
		t.Errorf("the errors differ: %v; %v", first, second)
	}
	empty.Store(true) // as a proxy may respond
	expect(t, put(t, s, "k", 10), "upload s3://lake/p/k: get AWS credentials: ", "")
}
