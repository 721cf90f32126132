package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

func openFolder(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := open(&sink.ObjectsSpec{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, key, content string, a store.Attributes) {
	t.Helper()
	if err := s.Put(t.Context(), key, strings.NewReader(content), int64(len(content)), a); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, s *Store, prefix string) []string {
	t.Helper()
	var all []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

// files returns the names of all files below dir: visible and hidden ones.
func files(t *testing.T, dir string) (visible, hiddenFiles []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if strings.Contains(name, hidden) {
			hiddenFiles = append(hiddenFiles, name)
		} else {
			visible = append(visible, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return visible, hiddenFiles
}

var someAttributes = store.Attributes{
	ContentType: "application/x-ndjson", ContentEncoding: "gzip",
	Meta: map[string]string{"kcagentfirst": "00000000000000000042"},
}

// TestContract also leaves an upload unfinished as a crash does, with the files of a Put that has not
// ended.
func TestContract(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) *storetest.Target {
		s := openFolder(t, t.TempDir())
		return &storetest.Target{
			Store: s, Conditional: true,
			Unfinished: func(t *testing.T, key string) { crash(t, s, key) },
			Uploads: func(t *testing.T) []string {
				var unfinished []string
				_, names := files(t, s.dir)
				for _, name := range names {
					key, isPart := strings.CutSuffix(strings.Replace(name, hidden+"/", "", 1), partEnd)
					if isPart {
						unfinished = append(unfinished, key[:strings.LastIndex(key, "+")])
					}
				}
				slices.Sort(unfinished)
				return unfinished
			},
		}
	})
}

// crash leaves the files of an upload that is killed before its object is visible.
func crash(t *testing.T, s *Store, key string) {
	t.Helper()
	other := openFolder(t, t.TempDir())
	put(t, other, key, "1", someAttributes)
	_, names := files(t, other.dir)
	side := filepath.Join(s.dir, names[0])
	if err := os.MkdirAll(filepath.Dir(side), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.dir, names[0]), side); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.dir, key), strings.TrimSuffix(side, sidecarEnd)+partEnd); err != nil {
		t.Fatal(err)
	}
}

func TestURL(t *testing.T) {
	for _, bad := range []string{"file://relative/dir", "file://", "/dir", "s3://bucket"} {
		if s, err := open(&sink.ObjectsSpec{URL: bad}); err == nil || !strings.Contains(err.Error(), "file:///var/lib/objects") {
			t.Errorf("%s: got %v, %v", bad, s, err)
		}
	}
	for url, dir := range map[string]string{"file:///a/b": "/a/b", "file:///a%20b/": "/a%20b"} {
		if s, err := open(&sink.ObjectsSpec{URL: url}); err != nil || s.dir != dir {
			t.Errorf("%s: got %v, %v", url, s, err)
		}
	}
}

func TestFolderAndSubfoldersAreCreated(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := openFolder(t, dir)
	if got := keys(t, s, ""); got != nil {
		t.Errorf("before the first Put: %v", got)
	}
	put(t, s, "x/y/z", "1", store.Attributes{})
	if b, err := os.ReadFile(filepath.Join(dir, "x", "y", "z")); err != nil || string(b) != "1" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestReadersOfTheFolderFindOnlyObjects: neither List nor a reader that leaves out hidden files
// finds sidecars.
func TestReadersOfTheFolderFindOnlyObjects(t *testing.T) {
	s := openFolder(t, t.TempDir())
	want := []string{"a.b", "a/b", "a/b.c", "a0", "b/c/d"} // '.' < '/' < '0'
	for _, i := range []int{3, 1, 4, 0, 2} {
		put(t, s, want[i], "1", someAttributes)
	}
	if got := keys(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("List gave %v, want %v", got, want)
	}
	for prefix, want := range map[string][]string{"a/": want[1:3], "a/b": want[1:3], "b": want[4:], "b/c/d": want[4:], "c": nil} {
		if got := keys(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("List(%q) gave %v, want %v", prefix, got, want)
		}
	}
	visible, sidecars := files(t, s.dir)
	if slices.Sort(visible); !slices.Equal(visible, want) {
		t.Errorf("files: %v", visible)
	}
	if len(sidecars) != len(want) {
		t.Errorf("want one sidecar for each object, got %v", sidecars)
	}
}

// TestObjectIsInvisibleUntilItIsWhole: while Put reads the content, the object does not
// exist. After a crash at this moment, it does not exist either, and AbortUploads removes the files.
func TestObjectIsInvisibleUntilItIsWhole(t *testing.T) {
	s, crashed := openFolder(t, t.TempDir()), filepath.Join(t.TempDir(), "crashed")
	err := s.Put(t.Context(), "a/b", readerAt(func(p []byte, off int64) (int, error) {
		if off == 0 {
			return copy(p, "first half"), nil
		}
		if got := keys(t, s, ""); got != nil {
			t.Errorf("visible too early: %v", got)
		}
		if err := os.CopyFS(crashed, os.DirFS(s.dir)); err != nil {
			t.Error(err)
		}
		return copy(p, ", the rest"), nil
	}), 20, someAttributes)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("List gave %v", got)
	}

	s = openFolder(t, crashed)
	put(t, s, "a/b+c", "another object", store.Attributes{})
	if got := keys(t, s, ""); !slices.Equal(got, []string{"a/b+c"}) {
		t.Errorf("after a crash: %v", got)
	}
	if _, left := files(t, crashed); len(left) != 2 {
		t.Fatalf("want the part that the crash left and a sidecar, got %v", left)
	}
	if err := s.AbortUploads(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	if _, left := files(t, crashed); len(left) != 1 || !strings.Contains(left[0], "b+c+") {
		t.Errorf("after AbortUploads: %v", left)
	}
	put(t, s, "a/b", "whole", store.Attributes{})
}

// TestAbortedUploadFails: an upload that still runs when another agent aborts it does not become
// visible.
func TestAbortedUploadFails(t *testing.T) {
	s := openFolder(t, t.TempDir())
	err := s.Put(t.Context(), "a", readerAt(func(p []byte, off int64) (int, error) {
		if err := s.AbortUploads(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		return copy(p, "1"), nil
	}), 1, someAttributes)
	if err == nil {
		t.Error("no error")
	}
	if visible, left := files(t, s.dir); visible != nil || left != nil {
		t.Errorf("files: %v %v", visible, left)
	}
}

// TestFailedPutLeavesNothing: neither an error of the content nor one of the context leaves files.
func TestFailedPutLeavesNothing(t *testing.T) {
	s, failed := openFolder(t, t.TempDir()), errors.New("read of the spool failed")
	for _, body := range []readerAt{
		func(p []byte, off int64) (int, error) { return 0, failed },
		func(p []byte, off int64) (int, error) { return 0, io.EOF }, // shorter than its size
	} {
		if err := s.Put(t.Context(), "a/b", body, 1, someAttributes); err == nil {
			t.Error("no error")
		}
	}
	if visible, left := files(t, s.dir); visible != nil || left != nil {
		t.Errorf("files: %v %v", visible, left)
	}
}

// TestSameKeyAtTheSameTime: of several uploads of a key, one succeeds, and the object has its
// content and attributes.
func TestSameKeyAtTheSameTime(t *testing.T) {
	s := openFolder(t, t.TempDir())
	for round := range 20 {
		key := fmt.Sprint("a/", round)
		var wg sync.WaitGroup
		won := make(chan string, 4)
		for _, who := range []string{"1", "2", "3", "4"} {
			wg.Go(func() {
				err := s.Put(t.Context(), key, strings.NewReader(who), 1, store.Attributes{Meta: map[string]string{"who": who}})
				if err == nil {
					won <- who
				} else if !errors.Is(err, store.ErrExists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		close(won)
		if len(won) != 1 {
			t.Fatalf("%d uploads succeeded", len(won))
		}
		who := <-won
		o, err := s.Head(t.Context(), key)
		if err != nil || o.Meta["who"] != who {
			t.Errorf("got %v, %v, want the attributes of upload %s", o, err, who)
		}
		if b, err := os.ReadFile(filepath.Join(s.dir, key)); string(b) != who {
			t.Errorf("got %q, %v, want the content of upload %s", b, err, who)
		}
	}
	if _, left := files(t, s.dir); len(left) != 20 {
		t.Errorf("want one sidecar for each object, got %v", left)
	}
}

// TestLongestName: an object can have the longest name of a file, with attributes, and what a crash has
// left of its upload is aborted.
func TestLongestName(t *testing.T) {
	s := openFolder(t, t.TempDir())
	for _, n := range []int{200, 201, 255} {
		key := "a/" + strings.Repeat("x", n)
		other := key[:len(key)-1] + "y"
		put(t, s, other, "other", store.Attributes{})
		part := filepath.Join(s.dir, partName(key, "crashed"))
		if err := os.WriteFile(part, nil, fileMode); err != nil {
			t.Fatal(err)
		}
		if err := s.AbortUploads(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d characters: after AbortUploads: %v", n, err)
		}
		put(t, s, key, "content", someAttributes)
		o, err := s.Head(t.Context(), key)
		if err != nil || o.Size != 7 || !maps.Equal(o.Meta, someAttributes.Meta) {
			t.Errorf("%d characters: %+v, %v", n, o, err)
		}
		if o, err := s.Head(t.Context(), other); err != nil || len(o.Meta) > 0 {
			t.Errorf("%d characters: the other object is %+v, %v", n, o, err)
		}
	}
}

// TestSidecarOfAnotherFileIsNotUsed: an upload crashed after its sidecar and before its object, or
// a user replaced the object. Its attributes belong to no other file.
func TestSidecarOfAnotherFileIsNotUsed(t *testing.T) {
	s := openFolder(t, t.TempDir())
	put(t, s, "a", "old", someAttributes)
	if err := os.Remove(filepath.Join(s.dir, "a")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "new", store.Attributes{ContentType: "text/plain"})
	if o, err := s.Head(t.Context(), "a"); err != nil || o.ContentType != "text/plain" || o.Meta != nil {
		t.Errorf("got %v, %v", o, err)
	}
	if _, left := files(t, s.dir); len(left) != 1 {
		t.Errorf("the old sidecar is left: %v", left)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "a"), []byte("by hand"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Head(t.Context(), "a"); err != nil || o.ContentType != "" {
		t.Errorf("of a file of another program: got %v, %v", o, err)
	}
}

// TestCopyKeepsAttributes: a copy of the folder has other inodes and times.
func TestCopyKeepsAttributes(t *testing.T) {
	s, copied := openFolder(t, t.TempDir()), filepath.Join(t.TempDir(), "copy")
	put(t, s, "a/b", "1", someAttributes)
	if err := os.CopyFS(copied, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s = openFolder(t, copied)
	if err := os.Chtimes(filepath.Join(copied, "a", "b"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.AbortUploads(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	o, err := s.Head(t.Context(), "a/b")
	if err != nil || !maps.Equal(o.Meta, someAttributes.Meta) || o.ContentEncoding != "gzip" {
		t.Errorf("got %v, %v", o, err)
	}
}

// TestKeysStayInTheFolder: no key leads out of the folder, by itself or by a symbolic link, and
// none reaches the sidecars.
func TestKeysStayInTheFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := openFolder(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "x"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "a/", ".kcagent/x", "a/.kcagent/x", "link/x", "file"} {
		if err := s.Put(t.Context(), key, strings.NewReader("1"), 1, store.Attributes{}); err == nil {
			t.Errorf("Put(%q) succeeded", key)
		}
		if _, err := s.Head(t.Context(), key); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("Head(%q) gave %v", key, err)
		}
		if _, err := s.Open(t.Context(), key); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("Open(%q) gave %v", key, err)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("Delete(%q) succeeded", key)
		}
		if err := s.AbortUploads(t.Context(), key); err == nil && key != "file" {
			t.Errorf("AbortUploads(%q) succeeded", key)
		}
	}
	if got := keys(t, s, ""); got != nil {
		t.Errorf("List follows links: %v", got)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "x")); err != nil || string(b) != "secret" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestErrorsOfTheDisk: the cause appears once, with the next step, as in errors of the file sink.
func TestErrorsOfTheDisk(t *testing.T) {
	s := openFolder(t, "/data")
	link := func(err error) error { return &os.LinkError{Op: "linkat", Old: "x", New: "y", Err: err} }
	path := func(err error) error { return &fs.PathError{Op: "openat", Path: "x", Err: err} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{path(syscall.ENOSPC), "write /data/a/b: no space left on device; free disk space, the records stay in Kafka"},
		{path(syscall.EIO), "write /data/a/b: input/output error; check the disk, the records stay in Kafka"},
		{link(syscall.EDQUOT), "write /data/a/b: disk quota exceeded; free disk space, the records stay in Kafka"},
		{path(syscall.EROFS), "write /data/a/b: read-only file system; mount it for writing"},
		{path(syscall.EACCES), "write /data/a/b: permission denied; grant the user of the agent write access"},
	} {
		err := s.wrap("write", "a/b", c.err)
		if err.Error() != c.want {
			t.Errorf("got %q, want %q", err, c.want)
		}
		_, missing := errors.AsType[*store.PermissionError](err)
		if missing != errors.Is(c.err, fs.ErrPermission) {
			t.Errorf("%v: a permission is missing: %v", err, missing)
		}
	}
	s = openFolder(t, t.TempDir())
	put(t, s, "a", "1", store.Attributes{})
	err := s.Put(t.Context(), "a/b", strings.NewReader("1"), 1, store.Attributes{})
	if want := "write " + s.dir + "/a/b: not a directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := s.Head(t.Context(), "a/b"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Head below a file gave %v", err)
	}
	put(t, s, "c/d", "1", store.Attributes{})
	err = s.Put(t.Context(), "c", strings.NewReader("1"), 1, store.Attributes{})
	if want := "write " + s.dir + "/c: is a directory"; err == nil || err.Error() != want {
		t.Errorf("with a folder that has the name of an object: %v, want %s", err, want)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }
