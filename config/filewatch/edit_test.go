package filewatch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestTruncateAndWriteInPlace(t *testing.T) {
	l := watchDir(t, Options{})
	l.edit("B", func() { write(t, l.path, "B") })
	l.edit("C", func() { write(t, l.path, "C") })
}

func TestHalfWrittenFileIsDeliveredWhole(t *testing.T) {
	// Quiet is long enough for the half to be seen by the loop, and for no
	// pause of the machine to make it look whole.
	l := watchDir(t, Options{Quiet: 2 * time.Second, MaxDelay: time.Hour})
	l.edit("half and half", func() {
		f := must(os.Create(l.path))(t)
		must(f.WriteString("half "))(t)
		l.signal()
		l.waitForChecks(2)
		must(f.WriteString("and half"))(t)
		check(t, f.Close())
	})
	l.wantHistory("A", "half and half")
}

func TestRenameOver(t *testing.T) {
	l := watchDir(t, Options{})
	for _, data := range []string{"B", "C", "D"} {
		l.edit(data, func() { renameOver(t, l.path, data) })
	}
	l.edit("E", func() { write(t, l.path, "E") }) // the new inode is watched too
}

func TestAnsibleAtomicMove(t *testing.T) {
	l := watchDir(t, Options{})
	old := time.Now().Add(-time.Hour)
	l.edit("B", func() {
		// The temporary file is beside the target and gets its mode and times.
		tmp := filepath.Join(l.dir, ".ansible_tmpk3x9config.yaml")
		write(t, tmp, "B")
		check(t, os.Chmod(tmp, 0o640))
		check(t, os.Chtimes(tmp, old, old))
		check(t, os.Rename(tmp, l.path))
	})
}

func TestRenamedAwayAndRecreated(t *testing.T) {
	l := watchDir(t, Options{})
	for _, data := range []string{"B", "C"} {
		l.edit(data, func() {
			backup := l.path + "~"
			check(t, os.Rename(l.path, backup))
			write(t, l.path, data)
			check(t, os.Remove(backup))
		})
	}
}

func TestMovesAndDeletionsDuringChecksDoNotBlock(t *testing.T) {
	// fsnotify reports the watch of a moved and deleted file as an error, under
	// the lock that setting the next watch needs.
	l := watchDir(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			err = errors.Join(os.Rename(l.path, l.path+"~"), os.WriteFile(l.path, []byte("A"), 0o644), os.Remove(l.path+"~"))
		}
		done <- err
	}()
	blocked := time.After(patience)
	for i := range 10000 {
		select {
		case l.reload <- os.Interrupt:
		case <-blocked:
			t.Fatalf("blocked after %d checks", i)
		}
	}
	cancel()
	check(t, <-done)
	l.edit("B", func() { write(t, l.path, "B") })
}

func TestHardLinkedBackupLeavesNoWatch(t *testing.T) {
	l := watchDir(t, Options{})
	l.edit("B", func() {
		check(t, os.Link(l.path, l.path+".1"))
		renameOver(t, l.path, "B")
	})
	before := inotifyWatches(t)
	for _, data := range []string{"C", "D", "E"} {
		l.edit(data, func() {
			check(t, os.Link(l.path, l.path+"."+data))
			renameOver(t, l.path, data)
		})
	}
	if after := inotifyWatches(t); after != before {
		t.Errorf("%d watches in the kernel, %d three edits ago", after, before)
	}
}

func TestWriteThroughAnotherDirectoryIsNoticed(t *testing.T) {
	// As with the mount of a single file, the writer goes by another directory.
	l := watchDir(t, Options{})
	elsewhere := filepath.Join(t.TempDir(), "config.yaml")
	check(t, os.Link(l.path, elsewhere))
	l.edit("B", func() { write(t, elsewhere, "B") })
}

func TestSedInPlace(t *testing.T) {
	l := watchDir(t, Options{})
	l.edit("B", func() { run(t, "sed", "-i", "s/A/B/", l.path) })
	l.edit("C", func() { run(t, "sed", "-i.bak", "s/B/C/", l.path) })
}

func TestVim(t *testing.T) {
	for _, settings := range []string{"set nobackup writebackup backupcopy=no", "set backup backupcopy=no", "set backupcopy=yes"} {
		t.Run(settings, func(t *testing.T) {
			l := watchDir(t, Options{})
			l.edit("B\n", func() {
				run(t, "vim", "-es", "-u", "NONE", "-i", "NONE", "-c", settings, "-c", "s/A/B/", "-c", "wq", l.path)
			})
		})
	}
}

func TestFilesOfEditorsAreIgnored(t *testing.T) {
	// MaxDelay would end the wait if their events counted.
	l := watchDir(t, Options{MaxDelay: time.Hour})
	for _, name := range []string{".config.yaml.swp", "4913", "config.yaml~", "#config.yaml#", "sedXy12Zz"} {
		file := filepath.Join(l.dir, name)
		write(t, file, "other")
		check(t, os.Remove(file))
	}
	check(t, os.Symlink("user@host.1234:5678", filepath.Join(l.dir, ".#config.yaml")))
	l.edit("B", func() { renameOver(t, l.path, "B") })
	l.wantHistory("A", "B")
}

func TestBusyDirectoryDoesNotDelay(t *testing.T) {
	// If the log's events counted, there would be no pause before MaxDelay.
	l := watchDir(t, Options{MaxDelay: time.Hour})
	log := must(os.Create(filepath.Join(l.dir, "orders.log")))(t)
	defer log.Close()
	renameOver(t, l.path, "B")
	deadline := time.Now().Add(patience)
	for {
		must(log.WriteString("record\n"))(t)
		select {
		case c := <-l.contents:
			if got := show(c); got != "B" {
				t.Fatalf("got %q", got)
			}
			return
		default:
			if time.Now().After(deadline) {
				t.Fatal("no update while the directory is busy")
			}
		}
	}
}

func TestUnchangedContentIsNotDelivered(t *testing.T) {
	for name, act := range map[string]func(path string) error{
		"touch":                 func(path string) error { return os.Chtimes(path, time.Now(), time.Now()) },
		"chmod":                 func(path string) error { return os.Chmod(path, 0o600) },
		"same content in place": func(path string) error { return os.WriteFile(path, []byte("A"), 0o644) },
		"same content over it":  func(path string) error { renameOver(t, path, "A"); return nil },
		"another name and back": func(path string) error { return errors.Join(os.Rename(path, path+"2"), os.Rename(path+"2", path)) },
		"another link to it":    func(path string) error { return os.Link(path, path+"2") },
	} {
		t.Run(name, func(t *testing.T) {
			l := watchDir(t, Options{})
			check(t, act(l.path))
			l.waitForChecks(2) // so that the act and the edit cause a check each
			l.edit("B", func() { renameOver(t, l.path, "B") })
			l.wantHistory("A", "B")
		})
	}
}

func TestDeletedAndRecreated(t *testing.T) {
	l := watchDir(t, Options{})
	l.edit("unread", func() { check(t, os.Remove(l.path)) })
	l.edit("A", func() { write(t, l.path, "A") })
	l.edit("B", func() { write(t, l.path, "B") })
}

func TestDirectoryRemovedAndRecreated(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "etc", "kcagent", "config.yaml")
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	write(t, path, "A")
	l := watchFile(t, path, Options{})
	for range 2 {
		l.edit("unread", func() { check(t, os.RemoveAll(filepath.Join(top, "etc"))) })
		l.edit("A", func() {
			check(t, os.MkdirAll(filepath.Dir(path), 0o755))
			write(t, path, "A")
		})
	}
	l.edit("B", func() { write(t, path, "B") })
}

func TestDirectoryCreatedLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "config.yaml")
	l := start(t, path, Options{})
	l.want("unread")
	check(t, os.Mkdir(filepath.Dir(filepath.Dir(path)), 0o755))
	l.waitForChecks(3) // the first, its confirmation and this one
	l.edit("A", func() {
		check(t, os.Mkdir(filepath.Dir(path), 0o755))
		write(t, path, "A")
	})
}

func TestPollsSufficeWithoutEvents(t *testing.T) {
	l := watchDir(t, Options{Poll: 10 * time.Millisecond}, func(f *File) {
		f.monitor.open = func(...string) (eventSource, error) { return nil, errors.New("no events here") }
	})
	l.edit("B", func() { write(t, l.path, "B") })
	l.edit("unread", func() { check(t, os.Remove(l.path)) })
	l.edit("C", func() { renameOver(t, l.path, "C") })
}

func TestSignalWithEventsOff(t *testing.T) {
	l := watchDir(t, Options{}, func(f *File) { f.monitor.options.Events = false })
	l.edit("B", func() {
		write(t, l.path, "B")
		l.signal()
	})
}

func TestUnreadableFileIsDeliveredWithItsError(t *testing.T) {
	l := watchDir(t, Options{})
	l.edit("unread", func() {
		check(t, os.Remove(l.path))
		check(t, os.Mkdir(l.path, 0o755))
	})
	if err := l.last.Err; err.Error() != "read file: not a regular file" {
		t.Error(err)
	}
	check(t, os.Remove(l.path))
	l.edit("B", func() { write(t, l.path, "B") })
	l.edit("unread", func() { check(t, os.Truncate(l.path, maxFileSize+1)) })
	if err := l.last.Err; err.Error() != "read file: larger than 8 MiB" {
		t.Error(err)
	}
	l.edit("unread", func() { check(t, os.Remove(l.path)) })
	if err := l.last.Err; !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "config.yaml", "A")
	l := watchFile(t, "config.yaml", Options{})
	l.edit("B", func() { write(t, "config.yaml", "B") })
	if l.last.Path != "config.yaml" {
		t.Errorf("path %q", l.last.Path)
	}
}

// run executes a tool as its users do, and skips where it is not installed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "TERM=dumb")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
