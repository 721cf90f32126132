package kinds

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/store"
)

// folderSpec describes objects in a folder.
func folderSpec(folder, spool string) sink.Spec {
	return sink.Spec{Objects: &sink.ObjectsSpec{
		URL: "file://" + folder, Key: "{topic}/{partition}-{first}-{topic_id}", TimeZone: "UTC", Spool: spool,
		Format: sink.JSON, Compression: sink.Uncompressed, Delivery: sink.ExactlyOnce,
		Rotate: sink.ObjectRotate{Size: 1 << 20, Every: time.Minute},
	}}
}

// files lists everything below a folder.
func files(t *testing.T, folder string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if path != folder {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestObjectsAreChecked: a check finds a spool or folder that cannot be written, and leaves nothing:
// neither a probe object, nor a folder that belongs to the user of kcagent validate.
func TestObjectsAreChecked(t *testing.T) {
	dir := t.TempDir()
	lake, file := filepath.Join(dir, "lake"), filepath.Join(dir, "file")
	if err := os.Mkdir(lake, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ folder, spool, want string }{
		{lake, dir + "/spool", ""},
		{dir + "/new/lake", dir + "/new/spool", ""},
		{lake, file + "/spool", "check spool " + file + "/spool: "},
		{lake, file, "check spool " + file + ": "},
		{file, dir + "/spool", "not a"},
		{file + "/lake", dir + "/spool", "not a"},
	} {
		err := CheckFree(t.Context(), folderSpec(c.folder, c.spool), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("url %s, spool %s: %v, want %q", c.folder, c.spool, err, c.want)
		}
	}
	if found := files(t, dir); len(found) != 2 { // lake and file
		t.Errorf("the check left %q", found)
	}
	// A folder that a sink has used is probed.
	spec := folderSpec(lake, dir+"/spool")
	if err := os.Mkdir(filepath.Join(lake, ".kcagent"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), spec); err != nil {
		t.Error(err)
	}
	if found := files(t, dir); len(found) != 3 {
		t.Errorf("the probe left %q", found)
	}
	if err := os.Remove(filepath.Join(lake, ".kcagent")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lake, ".kcagent"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), spec); err == nil {
		t.Error("a folder that cannot be probed passes the check")
	}
}

// TestObjectsAreOpened in a folder, with a spool.
func TestObjectsAreOpened(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), folderSpec(dir+"/lake", dir+"/spool"), sink.Options{Consumer: "c", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/spool"); err != nil {
		t.Error(err)
	}
	if err := s.Close(true); err != nil {
		t.Error(err)
	}
}

// TestStoreIsProbed: the check of a bucket writes, reads and deletes a probe object, and names the
// permission that is missing. A store that does not respond ends it in time.
func TestStoreIsProbed(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	spec := folderSpec("", t.TempDir())
	o := spec.Objects
	o.URL, o.Region, o.Endpoint, o.PathStyle = server.URL("kinds"), s3test.Region, proxy.Endpoint, true
	o.Credentials = sink.Credentials{AccessKeyFile: server.AccessKeyFile, SecretKeyFile: server.SecretKeyFile}
	if err := Check(t.Context(), spec); err != nil {
		t.Error(err)
	}
	for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodDelete} {
		if !strings.Contains(strings.Join(proxy.Requests(), "\n"), method+" ") {
			t.Errorf("the check sends no %s", method)
		}
	}
	proxy.Set(s3test.On(func(r *http.Request) bool { return r.Method == http.MethodDelete }, s3test.Respond(http.StatusForbidden, "AccessDenied", "Access Denied")))
	var denied *store.PermissionError
	if err := Check(t.Context(), spec); !errors.As(err, &denied) || denied.Permission != "s3:DeleteObject" {
		t.Errorf("without the permission to delete: %v", err)
	}
	proxy.Set(s3test.Hang)
	if err := probe(t.Context(), o, 50*time.Millisecond); err == nil || err.Error() != "check "+o.URL+": no response within 50ms" {
		t.Errorf("a store that does not respond: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ended, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context, the check returns %v", err)
	}
}
