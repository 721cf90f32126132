package azure

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kcagent/e2e/aztest"
	"kcagent/sink"
	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore returns a store with small blocks.
func openStore(t *testing.T, spec sink.ObjectsSpec) *Store {
	t.Helper()
	s, err := open(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.block, s.whole = 100_000, 200_000
	return s
}

// TestEmulator runs against Azurite. Roles, which it lacks, and tokens are in the other tests.
func TestEmulator(t *testing.T) {
	server := aztest.Start(t)
	containers := 0
	spec := func(t *testing.T) sink.ObjectsSpec {
		containers++
		name := fmt.Sprint("container-", containers)
		server.CreateContainer(t, name)
		return sink.ObjectsSpec{URL: "az://" + name, Endpoint: server.Endpoint, Credentials: sink.Credentials{AccountKeyFile: server.KeyFile}}
	}
	target := func(s *Store) *storetest.Target {
		return &storetest.Target{Store: s, Conditional: true, Large: s.whole + s.block + 1}
	}
	t.Run("contract", func(t *testing.T) {
		storetest.TestStore(t, func(t *testing.T) *storetest.Target { return target(openStore(t, spec(t))) })
	})
	t.Run("contract below a prefix with a signature", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "sas")
		writeFile(t, file, aztest.Signature("rwdlc", time.Now().Add(time.Hour)))
		all := spec(t)
		storetest.TestStoreBelowPrefixes(t, openStore(t, all), func(t *testing.T, prefix string) *storetest.Target {
			s := all
			s.URL, s.Credentials = s.URL+"/"+prefix, sink.Credentials{SASTokenFile: file}
			return target(openStore(t, s))
		})
	})
	t.Run("encoding, tier and tags", func(t *testing.T) {
		o := spec(t)
		o.StorageClass, o.Tags = "Cool", map[string]string{"team": "a b", "env": "x+y=z"}
		testAttributes(t, o)
	})
	t.Run("unfinished blocks", func(t *testing.T) { testUnfinished(t, spec(t)) })
	t.Run("errors", func(t *testing.T) { testEmulatorErrors(t, spec(t)) })
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// testAttributes: an object has the encoding, tier and tags, and is returned as it is stored.
func testAttributes(t *testing.T, spec sink.ObjectsSpec) {
	s := openStore(t, spec)
	for _, size := range []int64{100, s.whole + 1} {
		key := fmt.Sprint(size, ".gz")
		storetest.TestEncoding(t, s, key, size)
		resp, err := s.call(t.Context(), rest.Request{Method: http.MethodHead, URL: s.objectURL(key)})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if tier := resp.Header.Get("X-Ms-Access-Tier"); tier != "Cool" {
			t.Errorf("the tier is %q", tier)
		}
		if resp, err = s.call(t.Context(), rest.Request{Method: http.MethodGet, URL: s.objectURL(key) + "?comp=tags"}); err != nil {
			t.Fatal(err)
		}
		tags, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for _, tag := range []string{"<Key>team</Key><Value>a b</Value>", "<Key>env</Key><Value>x+y=z</Value>"} {
			if !strings.Contains(string(tags), tag) {
				t.Errorf("the tags are %s, want %s", tags, tag)
			}
		}
	}
}

// testUnfinished: blocks that an upload has left are invisible, and another upload of the key
// succeeds and removes them.
func testUnfinished(t *testing.T, spec sink.ObjectsSpec) {
	s := openStore(t, spec)
	const id = "AAAAAAAAAAAAAAAAAAAAAA=="
	if err := s.send(t.Context(), rest.Request{
		Method: http.MethodPut, URL: s.objectURL("k") + "?comp=block&blockid=" + url.QueryEscape(id), Body: rest.Bytes("left"), Size: 4,
	}); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Head(t.Context(), "k"); err == nil {
		t.Errorf("visible: %+v", o)
	}
	for o, err := range s.List(t.Context(), "") {
		t.Errorf("listed: %+v, %v", o, err)
	}
	content := strings.Repeat("x", int(s.whole)+1)
	if err := storetest.PutText(s, "k", content); err != nil {
		t.Fatal(err)
	}
	const join = "<BlockList><Uncommitted>" + id + "</Uncommitted></BlockList>"
	err := s.send(t.Context(), rest.Request{Method: http.MethodPut, URL: s.objectURL("k") + "?comp=blocklist", Body: rest.Bytes(join), Size: int64(len(join))})
	if f, ok := err.(*failure); !ok || f.code != "InvalidBlockList" {
		t.Errorf("the blocks are still there: %v", err)
	}
}

func testEmulatorErrors(t *testing.T, spec sink.ObjectsSpec) {
	dir := t.TempDir()
	wrong, sas := filepath.Join(dir, "wrong"), filepath.Join(dir, "sas")
	writeFile(t, wrong, "Z2VoZWlt")
	missing := spec
	missing.URL = "az://none/p"
	s := openStore(t, missing)
	storetest.TestMissingBucket(t, s, s.whole+1, "upload az://none/p/k: container none does not exist; create it, or correct url")
	if _, err := s.Head(t.Context(), "k"); err == nil || !strings.HasSuffix(err.Error(), "create it, or correct url") {
		t.Errorf("Head: %v", err)
	}
	spec.Credentials = sink.Credentials{SASTokenFile: sas}
	s = openStore(t, spec)
	writeFile(t, sas, aztest.Signature("rl", time.Now().Add(time.Hour)))
	if err := storetest.CallPut(s); err == nil || err.Error() != "upload "+spec.URL+"/k: access denied; renew credentials.sas_token_file with the permission c" {
		t.Errorf("without permission: %v", err)
	}
	writeFile(t, sas, aztest.Signature("rwdlc", time.Now().Add(time.Hour)))
	if err := storetest.CallPut(s); err != nil {
		t.Errorf("the changed file is not read: %v", err)
	}
	spec.Credentials = sink.Credentials{AccountKeyFile: wrong}
	s = openStore(t, spec)
	if err := storetest.CallPut(s); err == nil {
		t.Error("a wrong key is accepted")
	}
}
