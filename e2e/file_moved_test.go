package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// TestRenamedFileIsReplaced: a file is renamed, as logrotate does, while the agent runs,
// with SIGHUP and without, and while the agent is down after a crash. No record is lost or
// repeated.
func TestRenamedFileIsReplaced(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "logrotate", 2)
	e := s.entry("logrotate", topic)
	f, files := s.newFeed(topic, 2), 0
	rename := func() string {
		t.Helper()
		files++
		to := fmt.Sprintf("%s.%d", e.path, files)
		if err := os.Rename(e.path, to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	all := func() trail {
		t.Helper()
		var paths []string
		for i := range files {
			paths = append(paths, fmt.Sprintf("%s.%d", e.path, i+1))
		}
		return readTrail(t, append(paths, e.path)...)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	f.produce(t, 700)
	s.waitCommitted(t, a, e, f.total())
	moved := rename()
	a.Signal(syscall.SIGHUP)
	wait.For(t, wait.Timeout, "the moved file to be closed", func() error {
		if slices.Contains(process.OpenFiles(a.Pid()), moved) {
			return errors.New("it is open")
		}
		return nil
	})
	f.produce(t, 700)
	s.waitCommitted(t, a, e, f.total())
	f.produce(t, 700)
	rename() // while records arrive, without SIGHUP
	f.produce(t, 700)
	s.waitCommitted(t, a, e, f.total())
	all().wantExact(t, topic, 2, f.produced)

	a.Apply(s.config(e.withFlush(flushNever)))
	f.produce(t, 700)
	wait.For(t, wait.Timeout, "the records", func() error {
		if n := all().len(); int64(n) < f.total() {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	a.Kill()
	s.Evict(t, e.group)
	rename()
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, f.total())
	all().wantExact(t, topic, 2, f.produced)
}

// TestDeletedFileLosesNoLaterRecord: the file is deleted, alone or with its folder. Only
// records that were in it are lost.
func TestDeletedFileLosesNoLaterRecord(t *testing.T) {
	t.Parallel()
	for _, delivery := range []string{"exactly_once", "at_least_once"} {
		for what, remove := range map[string]func(path string) error{
			"file":   os.Remove,
			"folder": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		} {
			t.Run(delivery+"/"+what, func(t *testing.T) {
				t.Parallel()
				testDeletedFile(t, delivery, remove)
			})
		}
	}
}

func testDeletedFile(t *testing.T, delivery string, remove func(path string) error) {
	t.Helper()
	s := newScene(t)
	topic := s.newTopic(t, "rm", 1)
	e := s.entry("rm", topic).withPath(filepath.Join(s.dir, "files", "rm.log")).withSink("rotate: {size: 20KiB}, delivery: " + delivery)
	load := func(first, count int) {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: first, Count: count})
	}
	load(0, 100)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 100)
	a.Apply(s.config(e.withFlush(flushNever)))
	load(100, 100)
	waitLines(t, e.path, 200)
	if err := remove(e.path); err != nil {
		t.Fatal(err)
	}
	load(200, 3000)
	wait.For(t, wait.Timeout, "complete files", func() error {
		if fileMissing(filepath.Dir(e.path)) {
			return errors.New("the folder is missing")
		}
		if n := len(completeFiles(t, e.path)); n < 2 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	if n := s.committed(t, e); n != 100 {
		t.Errorf("%d records are committed before the flush", n)
	}
	a.Apply(s.config(e))
	s.waitCommitted(t, a, e, 3200)
	readTrail(t, allFiles(t, e.path)...).wantSeqs(t, key(topic, 0), seqRange(100, 3200))
	stopAgent(t, a)
	load(3200, 100)
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 3300)
	readTrail(t, allFiles(t, e.path)...).wantSeqs(t, key(topic, 0), seqRange(100, 3300))
}

// TestSymbolicLinkCannotBeRotated: a path that is a symbolic link is written, but is an
// error with rotate.
func TestSymbolicLinkCannotBeRotated(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "link", 1)
	e := s.entry("link", topic)
	target := filepath.Join(s.dir, "elsewhere", "target.log")
	if err := errors.Join(os.Mkdir(filepath.Dir(target), 0o700), os.Symlink(target, e.path)); err != nil {
		t.Fatal(err)
	}
	f := s.newFeed(topic, 1)
	rotated := s.config(e.withSink("rotate: {size: 4KiB}"))
	f.produce(t, 500)
	a := agenttest.Start(t, agenttest.Options{Config: rotated})
	for range 2 {
		if c := a.WaitState(e.name, "ERROR"); !strings.Contains(c.Error(), e.path) || !strings.Contains(c.Error(), "symbolic link") {
			t.Errorf("the error is %q", c.Error())
		}
		a.Apply(s.config(e))
		a.WaitState(e.name, "RUNNING")
		s.waitCommitted(t, a, e, f.total())
		a.Write(rotated)
		f.produce(t, 500)
	}
	a.WaitState(e.name, "ERROR")
	a.Apply(s.config(e))
	s.waitCommitted(t, a, e, f.total())
	readTrail(t, target).wantExact(t, topic, 1, f.produced)
	if info, err := os.Lstat(e.path); err != nil || info.Mode()&fs.ModeSymlink == 0 || len(completeFiles(t, e.path)) > 0 {
		t.Errorf("the path is %v, %v; complete files are %q", info, err, completeFiles(t, e.path))
	}
}
