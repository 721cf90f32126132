// Package s3test runs a real S3 server for tests, versitygw on a temporary folder, and a proxy in
// front of it that makes requests fail.
package s3test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/tools"
	"kcagent/e2e/wait"
)

// program is the package of the server.
const program = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// Region is the region of each server.
const Region = "us-east-1"

// A Server is a running S3 server with a bucket. It ends with the test.
type Server struct {
	Endpoint             string // its URL, without TLS; requests need the bucket in the path
	Pid                  int
	Bucket               string
	AccessKey, SecretKey string
	// AccessKeyFile and SecretKeyFile hold the keys.
	AccessKeyFile, SecretKeyFile string
	// Client is a client of its own, which does not use the proxy.
	Client *minio.Core
}

// KeepAlive has the server keep its connections, as stores do. It closes them after each response
// otherwise.
const KeepAlive = "--keep-alive"

// Start starts a server with an empty bucket. Without the module proxy, the test is skipped with a
// notice.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	path := tools.Go(t, program)
	dir := t.TempDir()
	s := &Server{Bucket: "lake", AccessKey: "test-access-key", SecretKey: "test-secret-key"}
	s.AccessKeyFile, s.SecretKeyFile = write(t, dir, "access_key", s.AccessKey), write(t, dir, "secret_key", s.SecretKey)
	address := "127.0.0.1:" + strconv.Itoa(kafkatest.FreePort(t))
	s.Endpoint = "http://" + address
	data, sidecar := filepath.Join(dir, "data"), filepath.Join(dir, "metadata") // not every file system has extended attributes
	for _, d := range []string{data, sidecar} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, append(flags, "--port", address, "--region", Region, "--quiet", "posix", "--sidecar", sidecar, data)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.AccessKey, "ROOT_SECRET_ACCESS_KEY="+s.SecretKey)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	s.Pid = p.Pid()
	s.Client, err = minio.NewCore(address, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
		Transport: &http.Transport{DisableKeepAlives: true}, // no goroutine remains
	})
	if err != nil {
		t.Fatal(err)
	}
	wait.For(t, wait.Timeout, "the S3 server", func() error {
		select {
		case <-p.Done():
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the S3 server has ended:\n%s", text)
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Client.MakeBucket(ctx, s.Bucket, minio.MakeBucketOptions{}); err != nil {
			return fmt.Errorf("create bucket: %w", err)
		}
		return nil
	})
	return s
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// URL returns the URL of the bucket with a prefix, as a configuration has it.
func (s *Server) URL(prefix string) string { return "s3://" + s.Bucket + "/" + prefix }

func (s *Server) url(t testing.TB) *url.URL {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
