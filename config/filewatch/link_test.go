package filewatch

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/fsnotify/fsnotify"
)

func TestConfigMapSwaps(t *testing.T) {
	dir := t.TempDir()
	kubelet := &atomicWriter{t: t, dir: dir}
	kubelet.write(map[string]string{"config.yaml": "A", "other": "1"})
	l := watchFile(t, filepath.Join(dir, "config.yaml"), Options{})
	for _, data := range []string{"B", "C", "D", "E"} {
		l.edit(data, func() { kubelet.write(map[string]string{"config.yaml": data, "other": data}) })
	}
	kubelet.write(map[string]string{"config.yaml": "E", "other": "2"})
	l.edit("unread", func() { kubelet.write(map[string]string{"other": "3"}) })
	l.edit("F", func() { kubelet.write(map[string]string{"config.yaml": "F"}) })
}

// An atomicWriter updates a volume in the steps of kubelet's AtomicWriter.
type atomicWriter struct {
	t       *testing.T
	dir     string
	version int
	visible []string
}

func (a *atomicWriter) write(files map[string]string) {
	t := a.t
	data := filepath.Join(a.dir, "..data")
	old, _ := os.Readlink(data)

	a.version++
	stamp := fmt.Sprintf("..2026_01_02_03_04_05.%09d", a.version)
	check(t, os.Mkdir(filepath.Join(a.dir, stamp), 0o755))
	for name, content := range files {
		write(t, filepath.Join(a.dir, stamp, name), content)
	}
	check(t, os.Symlink(stamp, data+"_tmp"))
	check(t, os.Rename(data+"_tmp", data))

	for name := range files {
		if !slices.Contains(a.visible, name) {
			check(t, os.Symlink(filepath.Join("..data", name), filepath.Join(a.dir, name)))
			a.visible = append(a.visible, name)
		}
	}
	a.visible = slices.DeleteFunc(a.visible, func(name string) bool {
		if _, ok := files[name]; ok {
			return false
		}
		check(t, os.Remove(filepath.Join(a.dir, name)))
		return true
	})
	if old != "" {
		check(t, os.RemoveAll(filepath.Join(a.dir, old)))
	}
}

func TestGitSyncSwaps(t *testing.T) {
	root := t.TempDir()
	checkout := func(hash, data string) {
		tree := filepath.Join(root, ".worktrees", hash)
		old, _ := os.Readlink(filepath.Join(root, "current"))
		check(t, os.MkdirAll(filepath.Join(tree, "conf"), 0o755))
		write(t, filepath.Join(tree, "conf", "config.yaml"), data)
		relink(t, filepath.Join(".worktrees", hash), filepath.Join(root, "current"))
		if old != "" {
			check(t, os.RemoveAll(filepath.Join(root, old)))
		}
	}
	checkout("1a2b", "A")
	l := watchFile(t, filepath.Join(root, "current", "conf", "config.yaml"), Options{})
	for i, data := range []string{"B", "C", "D"} {
		l.edit(data, func() { checkout(fmt.Sprintf("%04x", i), data) })
	}
}

func TestLinkRetargeted(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link := filepath.Join(dir, "config.yaml")
	write(t, filepath.Join(other, "a"), "A")
	write(t, filepath.Join(other, "b"), "B")
	write(t, filepath.Join(other, "c"), "C")
	check(t, os.Symlink(filepath.Join(other, "a"), link))

	l := watchFile(t, link, Options{})
	l.edit("B", func() { relink(t, filepath.Join(other, "b"), link) })
	l.edit("C", func() { // as `ln -sf` does
		check(t, os.Remove(link))
		check(t, os.Symlink(filepath.Join(other, "c"), link))
	})
	l.edit("D", func() { write(t, filepath.Join(other, "c"), "D") })
	l.edit("unread", func() { relink(t, filepath.Join(other, "dangling"), link) })
	l.edit("E", func() { write(t, filepath.Join(other, "dangling"), "E") })
	l.edit("F", func() { renameOver(t, link, "F") }) // a plain file from now on
}

func TestLinkInTheMiddleRetargeted(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"one", "two", "links"} {
		check(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	write(t, filepath.Join(dir, "one", "config.yaml"), "A")
	write(t, filepath.Join(dir, "two", "config.yaml"), "B")
	middle := filepath.Join(dir, "links", "active")
	check(t, os.Symlink("../one", middle))
	check(t, os.Symlink("links/active/config.yaml", filepath.Join(dir, "config.yaml")))

	l := watchFile(t, filepath.Join(dir, "config.yaml"), Options{})
	l.edit("B", func() { relink(t, "../two", middle) })
	l.edit("C", func() { renameOver(t, filepath.Join(dir, "two", "config.yaml"), "C") })
}

func TestTargetEditedInAnotherDirectory(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	target := filepath.Join(other, "real.yaml")
	write(t, target, "A")
	check(t, os.Symlink(target, filepath.Join(dir, "config.yaml")))
	l := watchFile(t, filepath.Join(dir, "config.yaml"), Options{})
	l.edit("B", func() { write(t, target, "B") })
	l.edit("C", func() { renameOver(t, target, "C") })
}

func TestParentDirectorySwapped(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a poll notices it")
	}
	top := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{top}, names...)...) }
	for sub, data := range map[string]string{"live": "A", "next": "B"} {
		check(t, os.MkdirAll(at(sub, "conf"), 0o755))
		write(t, at(sub, "conf", "config.yaml"), data)
	}
	l := watchFile(t, at("live", "conf", "config.yaml"), Options{})
	l.edit("B", func() {
		check(t, os.Rename(at("live"), at("old")))
		check(t, os.Rename(at("next"), at("live")))
	})
	l.edit("C", func() { write(t, at("live", "conf", "config.yaml"), "C") })
}

func TestOnlyNamesOnThePathAreRelevant(t *testing.T) {
	dir := must(filepath.EvalSymlinks(t.TempDir()))(t)
	kubelet := &atomicWriter{t: t, dir: dir}
	kubelet.write(map[string]string{"config.yaml": "A"})
	n, err := openFSWatcher(filepath.Join(dir, "config.yaml"))
	check(t, err)
	defer n.close()
	check(t, n.update())
	for name, want := range map[string]bool{
		"config.yaml": true, "..data": true, "..2026_01_02_03_04_05.000000001": true,
		"..data_tmp": false, "orders.log": false, ".config.yaml.swp": false, "config.yaml~": false,
	} {
		if got := n.relevant(fsnotify.Event{Name: filepath.Join(dir, name)}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTraceFollowsLinksAsTheKernelDoes(t *testing.T) {
	dir := must(filepath.EvalSymlinks(t.TempDir()))(t)
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	check(t, os.MkdirAll(at("a/b"), 0o755))
	check(t, os.Mkdir(at("c"), 0o755))
	write(t, at("a/file"), "A")
	check(t, os.Symlink(at("a/b"), at("c/link")))
	check(t, os.Symlink("loop", at("loop")))

	f := func(path, file string, dirs ...string) {
		t.Helper()
		for i, d := range dirs {
			dirs[i] = at(d)
		}
		if file != "" {
			file = at(file)
		}
		// at would take c/link/.. for c.
		if trace := tracePath(dir + "/" + path); trace.file != file || !slices.Equal(trace.dirs, dirs) {
			t.Errorf("%s: %+v", path, trace)
		}
	}
	f("a/file", "a/file", "a")
	f("./a//file", "a/file", "a")
	f("c/link/../file", "a/file", "c", "a")
	f("a/none/file", "", "a")
	f("loop", "", "")
}

// relink points a link elsewhere in one step.
func relink(t *testing.T, target, link string) {
	t.Helper()
	check(t, os.Symlink(target, link+".tmp"))
	check(t, os.Rename(link+".tmp", link))
}
