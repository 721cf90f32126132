package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// fileMissing reports whether a path does not exist.
func fileMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// completeFiles returns the complete files of a path, in order.
func completeFiles(t *testing.T, path string) []string {
	t.Helper()
	dir, base := filepath.Split(path)
	ext := filepath.Ext(base)
	if ext == ".gz" || ext == ".zst" {
		ext = ""
	}
	pattern := regexp.MustCompile("^" + regexp.QuoteMeta(strings.TrimSuffix(base, ext)) +
		`\+\d{8}T\d{6}\.\d{3}Z` + regexp.QuoteMeta(ext) + `(\.gz|\.zst)?$`)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if pattern.MatchString(e.Name()) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found // ReadDir has sorted them
}

// allFiles returns the complete files of a path, in order, and the file that grows, which
// does not exist between the completion of a file and the next record.
func allFiles(t *testing.T, path string) []string {
	t.Helper()
	if fileMissing(path) {
		return completeFiles(t, path)
	}
	return append(completeFiles(t, path), path)
}

// waitComplete waits until a path has complete files and none that grows.
func waitComplete(t *testing.T, path string) {
	t.Helper()
	wait.For(t, wait.Timeout, "the file "+path+" to be completed", func() error {
		if n := len(completeFiles(t, path)); n == 0 || !fileMissing(path) {
			return fmt.Errorf("%d files are complete, one grows: %v", n, !fileMissing(path))
		}
		return nil
	})
}

// TestClockCompletesFilesOfIdleConsumers: no further record is needed to complete a file.
func TestClockCompletesFilesOfIdleConsumers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "idle", 2)
	e := s.entry("idle", topic).withSink("rotate: {every: 2s}")
	parts := s.entry("idle-parts", topic).withSink("rotate: {every: 2s}, delivery: at_least_once").
		withPath(filepath.Join(s.dir, "parts-{partition}.log")).withFlush(flushNever)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, parts)})
	a.WaitState(e.name, "RUNNING")
	a.WaitState(parts.name, "RUNNING")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 500})
	s.waitCommitted(t, a, e, 1000)
	for _, path := range []string{e.path, filepath.Join(s.dir, "parts-0.log"), filepath.Join(s.dir, "parts-1.log")} {
		waitComplete(t, path)
	}
	readTrail(t, completeFiles(t, e.path)...).wantExact(t, topic, 2, 500)
	for p := range int32(2) {
		readTrail(t, completeFiles(t, filepath.Join(s.dir, fmt.Sprintf("parts-%d.log", p)))...).wantSeqs(t, key(topic, p), upTo(500))
	}
}

// TestClockCompletesFilesOfPausedConsumers: an edit that adds rotate.every completes the
// files of a paused consumer, including those of a topic that was deleted.
func TestClockCompletesFilesOfPausedConsumers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gone, stays := s.newTopic(t, "quiet-gone", 2), s.newTopic(t, "quiet-stays", 2)
	e := s.entry("quiet").with("topics_regex: '^quiet-.*-" + s.suffix + "$'").withPath(filepath.Join(s.dir, "{topic}-{partition}.log"))
	unlimited, clock := e.withSink("rotate: {size: 1GiB}"), e.withSink("rotate: {every: 1s}")
	for _, topic := range []string{gone, stays} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 100})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(unlimited)})
	s.waitCommitted(t, a, e.withTopics(gone, stays), 400)
	s.DeleteTopic(t, gone)
	a.WaitConsumer(e.name, "drop the deleted topic", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && slices.Equal(c.Topics, []string{stays}) && len(c.Partitions) == 2
	})
	a.Apply(s.config(unlimited.withState("paused")))
	a.WaitState(e.name, "PAUSED")
	path := func(topic string, p int32) string {
		return strings.ReplaceAll(e.pathOf(topic), "{partition}", strconv.Itoa(int(p)))
	}
	for p := range int32(2) {
		for _, topic := range []string{gone, stays} {
			if fileMissing(path(topic, p)) {
				t.Errorf("%s was completed without rotate.every", path(topic, p))
			}
		}
	}
	a.Apply(s.config(clock.withState("paused")))
	for p := range int32(2) {
		for _, topic := range []string{gone, stays} {
			waitComplete(t, path(topic, p))
			readTrail(t, completeFiles(t, path(topic, p))...).wantSeqs(t, key(topic, p), upTo(100))
		}
	}
}

// TestEndOfConsumerCompletesItsFiles: a consumer that is removed, stopped or moved to
// another path completes its files. The end of the agent does not, because its next start
// continues the files.
func TestEndOfConsumerCompletesItsFiles(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "ends", 2)
	consumer := func(name string) entry { return s.entry(name, topic).withSink("rotate: {size: 1GiB}") }
	removed, stopped, stays, replaced := consumer("removed"), consumer("stopped"), consumer("stays"), consumer("replaced")
	stopped = stopped.withPath(filepath.Join(s.dir, "stopped-{partition}.log"))
	parts := []string{filepath.Join(s.dir, "stopped-0.log"), filepath.Join(s.dir, "stopped-1.log")}
	complete := append([]string{removed.path, replaced.path}, parts...)
	wantGrowing := func(paths ...string) {
		t.Helper()
		for _, path := range paths {
			if n := len(completeFiles(t, path)); n > 0 || fileMissing(path) {
				t.Errorf("%s: %d files are complete, one grows: %v", path, n, !fileMissing(path))
			}
		}
	}
	var a *agenttest.Agent
	for round := range 2 {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 100 * round, Count: 100})
		a = agenttest.Start(t, agenttest.Options{Config: s.config(removed, stopped, stays, replaced)})
		for _, e := range []entry{removed, stopped, stays, replaced} {
			s.waitCommitted(t, a, e, int64(200*(round+1)))
		}
		if round == 0 {
			stopAgent(t, a)
		}
		wantGrowing(append(complete, stays.path)...)
	}
	moved := replaced.withPath(filepath.Join(s.dir, "moved.log"))
	a.Apply(s.config(stopped.withState("stopped"), stays, moved))
	a.WaitState(moved.name, "RUNNING")
	a.WaitState(stopped.name, "CREATED")
	a.WaitStatus("the removed consumer to end", func(st agenttest.Status) bool {
		_, ended := st.Ended(removed.name)
		return ended
	})
	for _, path := range complete {
		if n := len(completeFiles(t, path)); n != 1 || !fileMissing(path) {
			t.Errorf("%s: %d files are complete, one grows: %v", path, n, !fileMissing(path))
		}
	}
	wantGrowing(stays.path)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 200, Count: 100})
	a.Apply(s.config(stopped, stays, moved))
	for _, e := range []entry{stopped, stays, moved} {
		s.waitCommitted(t, a, e, 600)
	}
	readTrail(t, completeFiles(t, removed.path)...).wantExact(t, topic, 2, 200)
	readTrail(t, append(completeFiles(t, replaced.path), moved.path)...).wantExact(t, topic, 2, 300)
	readTrail(t, allFiles(t, stays.path)...).wantExact(t, topic, 2, 300)
	for p, path := range parts {
		readTrail(t, allFiles(t, path)...).wantSeqs(t, key(topic, int32(p)), upTo(300))
	}
}

// TestClockCompletesFilesOfMovedPartitions: files of a partition are completed after
// another agent has been assigned it, while the first agent is down and while it runs.
func TestClockCompletesFilesOfMovedPartitions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "moved", 2)
	here := s.entry("moved", topic).withPath(filepath.Join(s.dir, "here", "{partition}.log"))
	there := here.withPath(filepath.Join(s.dir, "there", "{partition}.log"))
	path := func(e entry, p int32) string { return strings.ReplaceAll(e.path, "{partition}", strconv.Itoa(int(p))) }
	both := func(c agenttest.Consumer) bool { return len(c.Partitions) == 2 && c.RecordsTotal > 0 }
	stopProducing, produced := s.keepProducingEvery(t, 100*time.Millisecond, topic, 2)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(here.withSink("rotate: {size: 1GiB}"))})
	a.WaitConsumer(here.name, "read both partitions", both)
	waitLines(t, path(here, 0), 1)
	waitLines(t, path(here, 1), 1)
	stopAgent(t, a)

	b := agenttest.Start(t, agenttest.Options{Config: s.config(there)})
	b.WaitConsumer(there.name, "read both partitions", both)
	a = agenttest.Start(t, agenttest.Options{Config: s.config(here.withSink("rotate: {every: 5s}"))})
	moved := func() int32 {
		t.Helper()
		c := a.WaitConsumer(here.name, "have one partition", func(c agenttest.Consumer) bool { return len(c.Partitions) == 1 })
		return 1 - c.Partitions[0].Partition
	}
	waitComplete(t, path(here, moved()))
	stopAgent(t, b)
	a.WaitConsumer(here.name, "read both partitions", both)
	waitLines(t, path(here, 0), 1) // the producer continues, so both grow when one of them moves
	waitLines(t, path(here, 1), 1)
	b = agenttest.Start(t, agenttest.Options{Config: s.config(there)})
	waitComplete(t, path(here, moved()))

	stopProducing()
	s.waitGroupCommitted(t, here, int64(2*produced()))
	stopAgent(t, b)
	stopAgent(t, a)
	for p := range int32(2) {
		files := slices.Concat(allFiles(t, path(here, p)), allFiles(t, path(there, p)))
		readTrail(t, files...).sorted().wantSeqs(t, key(topic, p), upTo(produced()))
	}
}

// TestKeepAppliesToDeletedTopics: within a minute after the start, keep applies to the
// files of a topic that was deleted while the agent was down. It does not apply to files
// of another consumer whose names fit the path as well.
func TestKeepAppliesToDeletedTopics(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gone, stays := s.newTopic(t, "del-gone", 1), s.newTopic(t, "del-stays", 1)
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
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		s.waitCommitted(t, a, e.withTopics(topics...), 800)
		stopAgent(t, a)
	}
	mine, others := completeFiles(t, e.pathOf(gone)), completeFiles(t, other.pathOf(gone))
	if len(mine) < 5 || len(others) < 5 {
		t.Fatalf("%d and %d files are complete", len(mine), len(others))
	}
	s.DeleteTopic(t, gone)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e.withSink("rotate: {size: 1KiB, keep: 2}"))})
	wait.For(t, time.Minute, "keep to apply", func() error {
		for _, topic := range topics {
			if n := len(completeFiles(t, e.pathOf(topic))); n != 2 {
				return fmt.Errorf("%s has %d complete files", topic, n)
			}
		}
		return nil
	})
	if got, want := completeFiles(t, e.pathOf(gone)), mine[len(mine)-2:]; !slices.Equal(got, want) {
		t.Errorf("the files are %q, want %q", got, want)
	}
	if got := completeFiles(t, other.pathOf(gone)); !slices.Equal(got, others) {
		t.Errorf("the files of the other consumer are %q, were %q", got, others)
	}
	a.WaitState(e.name, "RUNNING")
}
