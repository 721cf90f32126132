package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestClosedLogReaderDoesNotStopTheAgent: an agent whose log has lost its reader keeps
// consuming, and flushes at its end.
func TestClosedLogReaderDoesNotStopTheAgent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "unread", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 100})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	first := s.entry("first", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(first), Stderr: writer})
	s.waitCommitted(t, a, first, 200)
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	second := s.entry("second", topic).withFlush(flushNever)
	a.Apply(s.config(first, second)) // logs what it does
	a.WaitConsumer("second", "read everything", func(c agenttest.Consumer) bool { return c.RecordsTotal == 200 })
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 100, Count: 100})
	s.waitCommitted(t, a, first, 400)
	a.WaitConsumer("second", "read everything", func(c agenttest.Consumer) bool { return c.RecordsTotal == 400 })
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if n := s.committed(t, second); n != 400 {
		t.Errorf("%d records are committed by the consumer that flushes at its end, want 400", n)
	}
	readTrail(t, second.path).wantExact(t, topic, 2, 200)
}

// TestClosedStdoutReaderStopsItsConsumerOnly: the consumer that writes to the standard
// output is in ERROR, and the others keep reading.
func TestClosedStdoutReaderStopsItsConsumerOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "unshown", 1)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	shown, safe := s.entry("shown", topic).withPath(""), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(shown, safe), Stdout: writer})
	a.WaitState("shown", "RUNNING")
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	s.waitCommitted(t, a, safe, 100)
	if c := a.WaitState("shown", "ERROR"); !strings.Contains(c.Error(), "broken pipe") {
		t.Errorf("the error is %q", c.Error())
	}
	a.Signal(syscall.SIGTERM)
	a.WaitExit(wait.Timeout)
	readTrail(t, safe.path).wantExact(t, topic, 1, 100)
	if n := s.committed(t, shown); n != 0 {
		t.Errorf("%d records are committed that were not read", n)
	}
}

// TestClosedStandardStreamsAreNotReused: an agent that starts with closed standard streams
// does not open sockets or files under their descriptors, to which it would log.
func TestClosedStandardStreamsAreNotReused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "closed", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	e := s.entry("closed", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e), Through: agenttest.Without(0, 1, 2)})
	s.waitCommitted(t, a, e, 100)
	for fd := range 3 {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", a.Pid(), fd))
		if err != nil || link != os.DevNull {
			t.Errorf("descriptor %d is %q, %v; want %s", fd, link, err, os.DevNull)
		}
	}
	stopAgent(t, a)
	readTrail(t, e.path).wantExact(t, topic, 1, 100)
}

// TestCommandEndsQuietlyWithItsReader: only the agent ignores SIGPIPE. A command whose
// reader has ended is ended by the signal, as head expects.
func TestCommandEndsQuietlyWithItsReader(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	var stderr strings.Builder
	cmd := exec.Command(agenttest.Binary(t), "schema")
	cmd.Stdout, cmd.Stderr = writer, &stderr
	err = cmd.Run()
	ended, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ended.Signaled() || ended.Signal() != syscall.SIGPIPE || stderr.String() != "" {
		t.Errorf("it ends with %v and %q, want SIGPIPE and no message", err, stderr.String())
	}
}
