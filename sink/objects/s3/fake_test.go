package s3_test

import (
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
)

// quiet drops what a server logs about clients that reject its certificate.
var quiet = log.New(io.Discard, "", 0)

const secret = "do-not-show-this-secret-key"

// fake starts a store that is a function, and returns its URL.
func fake(t *testing.T, h http.HandlerFunc) string { return storetest.Serve(t, h).URL }

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeSpec is the specification of a sink with keys in files, and the prefix p.
func fakeSpec(t *testing.T, endpoint string) *sink.ObjectsSpec {
	return &sink.ObjectsSpec{
		URL: "s3://lake/p", Region: "us-east-1", Endpoint: endpoint, PathStyle: true,
		Credentials: sink.Credentials{AccessKeyFile: file(t, "access", "ACCESS\n"), SecretKeyFile: file(t, "secret", secret+"\n")},
	}
}
