package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// waitComplete waits until a path has complete files and none that grows.
func waitComplete(t *testing.T, path string) {
	t.Helper()
	wait.For(t, wait.Timeout, "the file "+path+" to be completed", func() error {
		if n := len(segments(t, path)); n == 0 || !missing(path) {
			return fmt.Errorf("%d files are complete, one grows: %v", n, !missing(path))
		}
		return nil
	})
}

// TestClockCompletesFilesOfIdleConsumers: the records come once and never again.
func TestClockCompletesFilesOfIdleConsumers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "idle", 2)
	e := s.entry("idle", topic).withSink("rotate: {every: 2s}")
	parts := s.entry("idle-parts", topic).withSink("rotate: {every: 2s}, delivery: at_least_once").
		withPath(filepath.Join(s.dir, "parts-{partition}.log")).withFlush(never)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e, parts)})
	a.WaitState(e.name, "RUNNING")
	a.WaitState(parts.name, "RUNNING")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 500})
	s.waitCommitted(t, a, e, 1000)
	for _, path := range []string{e.path, filepath.Join(s.dir, "parts-0.log"), filepath.Join(s.dir, "parts-1.log")} {
		waitComplete(t, path)
	}
	follow(t, segments(t, e.path)...).wantExact(t, topic, 2, 500)
	for p := range int32(2) {
		follow(t, segments(t, filepath.Join(s.dir, fmt.Sprintf("parts-%d.log", p)))...).wantSeqs(t, key(topic, p), upTo(500))
	}
}

// TestClockCompletesFilesOfPausedConsumers: and those of a topic that was deleted, once
// rotate says that there is a clock.
func TestClockCompletesFilesOfPausedConsumers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gone, stays := s.topic(t, "quiet-gone", 2), s.topic(t, "quiet-stays", 2)
	e := s.entry("quiet").with("topics_regex: '^quiet-.*-" + s.suffix + "$'").withPath(filepath.Join(s.dir, "{topic}-{partition}.log"))
	unlimited, clock := e.withSink("rotate: {size: 1GiB}"), e.withSink("rotate: {every: 1s}")
	for _, topic := range []string{gone, stays} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 100})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(unlimited)})
	s.waitCommitted(t, a, e.withTopics(gone, stays), 400)
	s.DeleteTopic(t, gone)
	a.WaitConsumer(e.name, "let the deleted topic go", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && slices.Equal(c.Topics, []string{stays}) && len(c.Partitions) == 2
	})
	a.Apply(s.file(unlimited.withState("paused")))
	a.WaitState(e.name, "PAUSED")
	path := func(topic string, p int32) string {
		return strings.ReplaceAll(e.file(topic), "{partition}", strconv.Itoa(int(p)))
	}
	for p := range int32(2) {
		for _, topic := range []string{gone, stays} {
			if missing(path(topic, p)) {
				t.Errorf("%s is complete without a clock", path(topic, p))
			}
		}
	}
	a.Apply(s.file(clock.withState("paused")))
	for p := range int32(2) {
		for _, topic := range []string{gone, stays} {
			waitComplete(t, path(topic, p))
			follow(t, segments(t, path(topic, p))...).wantSeqs(t, key(topic, p), upTo(100))
		}
	}
}

// TestEndOfConsumerCompletesItsFiles: that of the agent does not, for its next start
// continues the files.
func TestEndOfConsumerCompletesItsFiles(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "ends", 2)
	consumer := func(name string) entry { return s.entry(name, topic).withSink("rotate: {size: 1GiB}") }
	removed, stopped, stays, replaced := consumer("removed"), consumer("stopped"), consumer("stays"), consumer("replaced")
	stopped = stopped.withPath(filepath.Join(s.dir, "stopped-{partition}.log"))
	parts := []string{filepath.Join(s.dir, "stopped-0.log"), filepath.Join(s.dir, "stopped-1.log")}
	complete := append([]string{removed.path, replaced.path}, parts...)
	wantGrowing := func(paths ...string) {
		t.Helper()
		for _, path := range paths {
			if n := len(segments(t, path)); n > 0 || missing(path) {
				t.Errorf("%s: %d files are complete, one grows: %v", path, n, !missing(path))
			}
		}
	}
	var a *agenttest.Agent
	for round := range 2 {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 100 * round, Count: 100})
		a = agenttest.Start(t, agenttest.Options{Config: s.file(removed, stopped, stays, replaced)})
		for _, e := range []entry{removed, stopped, stays, replaced} {
			s.waitCommitted(t, a, e, int64(200*(round+1)))
		}
		if round == 0 {
			stop(t, a)
		}
		wantGrowing(append(complete, stays.path)...)
	}
	moved := replaced.withPath(filepath.Join(s.dir, "moved.log"))
	a.Apply(s.file(stopped.withState("stopped"), stays, moved))
	a.WaitState(moved.name, "RUNNING")
	a.WaitState(stopped.name, "CREATED")
	a.WaitStatus("the removed consumer to end", func(st agenttest.Status) bool {
		_, ended := st.Ended(removed.name)
		return ended
	})
	for _, path := range complete {
		if n := len(segments(t, path)); n != 1 || !missing(path) {
			t.Errorf("%s: %d files are complete, one grows: %v", path, n, !missing(path))
		}
	}
	wantGrowing(stays.path)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 200, Count: 100})
	a.Apply(s.file(stopped, stays, moved))
	for _, e := range []entry{stopped, stays, moved} {
		s.waitCommitted(t, a, e, 600)
	}
	follow(t, segments(t, removed.path)...).wantExact(t, topic, 2, 200)
	follow(t, append(segments(t, replaced.path), moved.path)...).wantExact(t, topic, 2, 300)
	follow(t, wholes(t, stays.path)...).wantExact(t, topic, 2, 300)
	for p, path := range parts {
		follow(t, wholes(t, path)...).wantSeqs(t, key(topic, int32(p)), upTo(300))
	}
}

// TestClockCompletesFilesOfMovedPartitions: another agent, with files of its own, is
// assigned the partition while the first one is down, and once more while it runs.
func TestClockCompletesFilesOfMovedPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "moved", 2)
	here := s.entry("moved", topic).withPath(filepath.Join(s.dir, "here", "{partition}.log"))
	there := here.withPath(filepath.Join(s.dir, "there", "{partition}.log"))
	path := func(e entry, p int32) string { return strings.ReplaceAll(e.path, "{partition}", strconv.Itoa(int(p))) }
	both := func(c agenttest.Consumer) bool { return len(c.Partitions) == 2 && c.RecordsTotal > 0 }
	stopProducing, produced := s.keepProducingEvery(t, 100*time.Millisecond, topic, 2)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(here.withSink("rotate: {size: 1GiB}"))})
	a.WaitConsumer(here.name, "read both partitions", both)
	waitLines(t, path(here, 0), 1)
	waitLines(t, path(here, 1), 1)
	stop(t, a)

	b := agenttest.Start(t, agenttest.Options{Config: s.file(there)})
	b.WaitConsumer(there.name, "read both partitions", both)
	a = agenttest.Start(t, agenttest.Options{Config: s.file(here.withSink("rotate: {every: 5s}"))})
	moved := func() int32 {
		t.Helper()
		c := a.WaitConsumer(here.name, "have one partition", func(c agenttest.Consumer) bool { return len(c.Partitions) == 1 })
		return 1 - c.Partitions[0].Partition
	}
	waitComplete(t, path(here, moved()))
	stop(t, b)
	a.WaitConsumer(here.name, "read both partitions", both)
	waitLines(t, path(here, 0), 1) // the producer continues, so both grow when one of them moves
	waitLines(t, path(here, 1), 1)
	b = agenttest.Start(t, agenttest.Options{Config: s.file(there)})
	waitComplete(t, path(here, moved()))

	stopProducing()
	wait.For(t, wait.Timeout, "everything to be committed", func() error {
		if n := s.committed(t, here); n != int64(2*produced()) {
			return fmt.Errorf("%d records of %d are", n, 2*produced())
		}
		return nil
	})
	stop(t, b)
	stop(t, a)
	for p := range int32(2) {
		files := slices.Concat(wholes(t, path(here, p)), wholes(t, path(there, p)))
		follow(t, files...).sorted().wantSeqs(t, key(topic, p), upTo(produced()))
	}
}

// TestKeepAppliesToDeletedTopics: a topic is deleted while the agent is down. Within a
// minute after the start, keep applies to its files, and not to those that another
// agent's consumer has left there under names that fit the path, too.
func TestKeepAppliesToDeletedTopics(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gone, stays := s.topic(t, "del-gone", 1), s.topic(t, "del-stays", 1)
	topics := []string{gone, stays}
	consumer := func(name, path string) entry {
		return s.entry(name).with("topics_regex: '^del-.*-" + s.suffix + "$'").withPath(filepath.Join(s.dir, "files", path)).
			withSink("rotate: {size: 1KiB}")
	}
	e, other := consumer("deleted", "{topic}.log"), consumer("other", "del-{topic}.log")
	for _, topic := range topics {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 400})
	}
	for _, e := range []entry{e, other} {
		a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
		s.waitCommitted(t, a, e.withTopics(topics...), 800)
		stop(t, a)
	}
	mine, others := segments(t, e.file(gone)), segments(t, other.file(gone))
	if len(mine) < 5 || len(others) < 5 {
		t.Fatalf("%d and %d files are complete", len(mine), len(others))
	}
	s.DeleteTopic(t, gone)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e.withSink("rotate: {size: 1KiB, keep: 2}"))})
	wait.For(t, time.Minute, "keep to apply", func() error {
		for _, topic := range topics {
			if n := len(segments(t, e.file(topic))); n != 2 {
				return fmt.Errorf("%s has %d complete files", topic, n)
			}
		}
		return nil
	})
	if got, want := segments(t, e.file(gone)), mine[len(mine)-2:]; !slices.Equal(got, want) {
		t.Errorf("the files %q are left, want %q", got, want)
	}
	if got := segments(t, other.file(gone)); !slices.Equal(got, others) {
		t.Errorf("the other consumer has the files %q, had %q", got, others)
	}
	a.WaitState(e.name, "RUNNING")
}

// TestDeletedFileLosesNothingThatComesLater: the file is deleted, alone or with all that
// is in its folder, and the next one is complete before anything is flushed.
func TestDeletedFileLosesNothingThatComesLater(t *testing.T) {
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
	topic := s.topic(t, "rm", 1)
	e := s.entry("rm", topic).withPath(filepath.Join(s.dir, "files", "rm.log")).withSink("rotate: {size: 20KiB}, delivery: " + delivery)
	load := func(first, count int) {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: first, Count: count})
	}
	load(0, 100)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, 100)
	a.Apply(s.file(e.withFlush(never)))
	load(100, 100)
	waitLines(t, e.path, 200)
	if err := remove(e.path); err != nil {
		t.Fatal(err)
	}
	load(200, 3000)
	wait.For(t, wait.Timeout, "complete files", func() error {
		if missing(filepath.Dir(e.path)) {
			return errors.New("the folder is missing")
		}
		if n := len(segments(t, e.path)); n < 2 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	if n := s.committed(t, e); n != 100 {
		t.Errorf("%d records are committed before the flush", n)
	}
	a.Apply(s.file(e))
	s.waitCommitted(t, a, e, 3200)
	follow(t, wholes(t, e.path)...).wantSeqs(t, key(topic, 0), from(100, 3200))
	stop(t, a)
	load(3200, 100)
	a = agenttest.Start(t, agenttest.Options{Config: s.file(e)})
	s.waitCommitted(t, a, e, 3300)
	follow(t, wholes(t, e.path)...).wantSeqs(t, key(topic, 0), from(100, 3300))
}

// TestLinkCannotBeRotated: a path that is a symbolic link is written, but is an error
// with rotate.
func TestLinkCannotBeRotated(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "link", 1)
	e := s.entry("link", topic)
	target := filepath.Join(s.dir, "elsewhere", "target.log")
	if err := errors.Join(os.Mkdir(filepath.Dir(target), 0o700), os.Symlink(target, e.path)); err != nil {
		t.Fatal(err)
	}
	made := 0
	produce := func() {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: made, Count: 500})
		made += 500
	}
	rotated := s.file(e.withSink("rotate: {size: 4KiB}"))
	produce()
	a := agenttest.Start(t, agenttest.Options{Config: rotated})
	for range 2 {
		if c := a.WaitState(e.name, "ERROR"); !strings.Contains(c.Error(), e.path) || !strings.Contains(c.Error(), "symbolic link") {
			t.Errorf("the error is %q", c.Error())
		}
		a.Apply(s.file(e))
		a.WaitState(e.name, "RUNNING")
		s.waitCommitted(t, a, e, int64(made))
		a.Write(rotated)
		produce()
	}
	a.WaitState(e.name, "ERROR")
	a.Apply(s.file(e))
	s.waitCommitted(t, a, e, int64(made))
	follow(t, target).wantExact(t, topic, 1, made)
	if info, err := os.Lstat(e.path); err != nil || info.Mode()&fs.ModeSymlink == 0 || len(segments(t, e.path)) > 0 {
		t.Errorf("the path is %v, %v; complete files are %q", info, err, segments(t, e.path))
	}
}
