// Package aztest starts Azurite, the emulator of Azure Blob Storage.
package aztest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/tools"
	"kcagent/e2e/wait"
)

// The account of each Azurite, which its documentation shows.
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

const program = "azurite@3.37.0"

// A Server is a running Azurite.
type Server struct {
	Endpoint string // ends with the account
	KeyFile  string // holds Key
}

// Start starts a server that ends with the test. Objects are in memory. It checks keys and shared
// access signatures, but no roles. If the program cannot be installed, the test is skipped with a
// notice.
func Start(t testing.TB) *Server {
	t.Helper()
	node, modules := tools.Node(t, program)
	port, dir := strconv.Itoa(kafkatest.FreePort(t)), t.TempDir()
	cmd := exec.Command(node, filepath.Join(modules, "azurite", "dist", "src", "blob", "main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence", "--silent", "--disableTelemetry")
	cmd.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the program has its own descriptor
	cmd.Stdout, cmd.Stderr = log, os.Stderr
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	s := &Server{Endpoint: "http://127.0.0.1:" + port + "/" + Account, KeyFile: filepath.Join(dir, "key")}
	if err := os.WriteFile(s.KeyFile, []byte(Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait.For(t, wait.Timeout, "Azurite", func() error {
		select {
		case <-p.Done():
			t.Fatal("Azurite ended")
		default:
		}
		resp, err := client.Get(s.Endpoint)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return s
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// CreateContainer creates a container.
func (s *Server) CreateContainer(t testing.TB, name string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPut, s.Endpoint+"/"+name+"?restype=container", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	r.Header.Set("X-Ms-Version", "2021-12-02")
	signed := "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" + r.Header.Get("X-Ms-Date") + "\nx-ms-version:2021-12-02\n/" +
		Account + r.URL.Path + "\nrestype:container"
	r.Header.Set("Authorization", "SharedKey "+Account+":"+sign(signed))
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("create container %s: %s", name, resp.Status)
	}
}

// Signature returns a shared access signature for all objects of the account, with permissions such
// as "rl".
func Signature(permissions string, expiry time.Time) string {
	end := expiry.UTC().Format(time.RFC3339)
	signed := sign(Account + "\n" + permissions + "\nb\nco\n\n" + end + "\n\nhttps,http\n2021-12-02\n\n")
	return "?" + url.Values{
		"sv": {"2021-12-02"}, "ss": {"b"}, "srt": {"co"}, "sp": {permissions}, "se": {end}, "spr": {"https,http"}, "sig": {signed},
	}.Encode()
}

// sign signs a text with the key of the account.
func sign(text string) string {
	key, _ := base64.StdEncoding.DecodeString(Key) // it is valid
	sum := hmac.New(sha256.New, key)
	sum.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}
