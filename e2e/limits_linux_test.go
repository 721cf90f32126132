package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestReaderOfTheLogGoesAway: an agent whose log is read by a program that ends
// continues to consume, and drains its consumers at its end.
func TestReaderOfTheLogGoesAway(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "unread", 2)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 100})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	first := s.entry("first", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(first), Stderr: writer})
	s.waitCommitted(t, a, first, 200)
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	second := s.entry("second", topic).withFlush(never)
	a.Apply(s.file(first, second)) // logs what it does
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
	follow(t, second.path).wantExact(t, topic, 2, 200)
}

// TestReaderOfStdoutGoesAway: the consumer that writes to the standard output is in
// ERROR, and the others are not affected.
func TestReaderOfStdoutGoesAway(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "unshown", 1)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	shown, safe := s.entry("shown", topic).withPath(""), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(shown, safe), Stdout: writer})
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
	follow(t, safe.path).wantExact(t, topic, 1, 100)
	if n := s.committed(t, shown); n != 0 {
		t.Errorf("%d records are committed that were not read", n)
	}
}

// TestClosedStandardStreams: an agent that starts with closed standard streams
// gives their descriptors to no socket and no file, into which it would log.
func TestClosedStandardStreams(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.topic(t, "closed", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	e := s.entry("closed", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e), Through: agenttest.Without(0, 1, 2)})
	s.waitCommitted(t, a, e, 100)
	for fd := range 3 {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", a.Pid(), fd))
		if err != nil || link != os.DevNull {
			t.Errorf("descriptor %d is %q, %v; want %s", fd, link, err, os.DevNull)
		}
	}
	stop(t, a)
	follow(t, e.path).wantExact(t, topic, 1, 100)
}

// TestOutputOfCommandsEndsQuietly: only the agent survives its readers. A command
// whose output goes to one that has ended is ended by SIGPIPE, as head expects.
func TestOutputOfCommandsEndsQuietly(t *testing.T) {
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

// TestDescriptorLimitIsRaised: the agent raises its soft limit to the hard one.
func TestDescriptorLimitIsRaised(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, agenttest.Options{
		Config: "consumers: []\n", Through: []string{"sh", "-c", `ulimit -Sn 100 && ulimit -Hn 2000 && exec "$0" "$@"`},
	})
	if soft := softLimit(t, a.Pid()); soft < 1999 { // Go leaves one, to notice changes
		t.Errorf("the soft limit is %d, want the hard one of 2000", soft)
	}
}

// softLimit reads the limit of a process's descriptors.
func softLimit(t *testing.T, pid int) (soft int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "Max open files")
	if _, err := fmt.Sscan(rest, &soft); err != nil {
		t.Fatalf("read the limit in %q: %v", text, err)
	}
	return soft
}

// TestFewDescriptors: with far fewer descriptors than the partitions would need,
// the agent answers over HTTP within a second, applies edits, and either writes
// every partition or names the limit. No record is lost or repeated.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const (
		limit      = 256
		partitions = 200
		each       = 50
	)
	s := newScene(t)
	topic := s.topic(t, "wide", partitions)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, Count: each})
	wide := s.entry("wide", topic).withPath(filepath.Join(s.dir, "{topic}-{partition}.log"))
	other := s.entry("other", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(wide, other), Through: agenttest.Ulimit(limit)})
	if soft := softLimit(t, a.Pid()); soft != limit {
		t.Fatalf("the agent has %d descriptors, want %d", soft, limit)
	}
	stopAsking := keepAsking(t, a.URL, "/status", "/metrics")

	s.waitCommitted(t, a, other, partitions*each) // one file is not affected
	a.Apply(s.file(wide, other.withState("paused")))
	a.WaitState("other", "PAUSED")
	named := false
	a.WaitConsumer("wide", "write everything or name the limit", func(c agenttest.Consumer) bool {
		named = strings.Contains(c.Error(), fmt.Sprintf("limit of %d descriptors", limit))
		return named || c.Status == "RUNNING" && c.Committed() == partitions*each
	})
	a.Apply(s.file(wide, other))
	a.WaitState("other", "RUNNING")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: each, Count: each})
	s.waitCommitted(t, a, other, 2*partitions*each)
	if named {
		t.Log("the limit is named; the rest is written without it")
		stopAsking()
		a.Signal(syscall.SIGTERM)
		a.WaitExit(wait.Timeout)
		a = agenttest.Start(t, agenttest.Options{Config: s.file(wide, other)})
		stopAsking = func() {}
	}
	s.waitCommitted(t, a, wide, 2*partitions*each)
	stopAsking()
	stop(t, a)
	for p := range int32(partitions) {
		path := filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", topic, p))
		tr := follow(t, path)
		if tr.wantRun(t, key(topic, p)); tr.len() != 2*each || len(tr) != 1 {
			t.Errorf("%s holds %d records of %d partitions, want %d of its own", path, tr.len(), len(tr), 2*each)
		}
	}
	follow(t, other.path).wantExact(t, topic, partitions, 2*each)
}

// keepAsking gets pages in turn, each over a connection of its own, until stop is
// called, which fails the test if one took a second or longer.
func keepAsking(t *testing.T, url string, pages ...string) (stop func()) {
	t.Helper()
	const within = time.Second
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	quit, done := make(chan struct{}), make(chan error, 1)
	ask := func(page string) error {
		began := time.Now()
		r, err := client.Get(url + page)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return err
		}
		if took := time.Since(began); took > within || r.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: status %d after %s", page, r.StatusCode, took)
		}
		return nil
	}
	go func() {
		var errs []error
		defer func() { done <- errors.Join(errs...) }()
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if err := ask(pages[i%len(pages)]); err != nil && len(errs) < 10 {
				errs = append(errs, err)
			}
		}
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		close(quit)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// TestFewDescriptorsForConnections: with more consumers than the agent may have
// connections, it answers over HTTP, names the limit, and works again with fewer.
func TestFewDescriptorsForConnections(t *testing.T) {
	t.Parallel()
	const limit, consumers, fewer = 128, 60, 4
	s := newScene(t)
	topic := s.topic(t, "crowd", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	var entries []entry
	for i := range consumers {
		entries = append(entries, s.entry(fmt.Sprintf("crowd%d", i), topic))
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(entries...), Through: agenttest.Ulimit(limit)})
	stopAsking := keepAsking(t, a.URL, "/status", "/metrics")
	a.WaitStatus("a consumer to name the limit", func(st agenttest.Status) bool {
		return slices.ContainsFunc(st.Consumers, func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), fmt.Sprintf("limit of %d descriptors", limit))
		})
	})
	a.Apply(s.file(entries[:fewer]...))
	for _, e := range entries[:fewer] {
		s.waitCommitted(t, a, e, 100)
	}
	stopAsking()
	stop(t, a)
	for _, e := range entries[:fewer] {
		follow(t, e.path).wantExact(t, topic, 1, 100)
	}
}

// TestIdleHTTPClientsDoNotBlockHealthCheck: clients of the HTTP API that keep more
// connections than the agent has descriptors for, idle or without any request, do not
// keep /healthz from answering within a second.
func TestIdleHTTPClientsDoNotBlockHealthCheck(t *testing.T) {
	t.Parallel()
	const limit, clients = 256, 60
	a := agenttest.Start(t, agenttest.Options{Config: "consumers: []\n", Through: agenttest.Ulimit(limit)})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(wait.Timeout)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range clients {
		c := dial()
		if _, err := io.WriteString(c, "GET /status HTTP/1.1\r\nHost: kcagent\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	stopAsking := keepAsking(t, a.URL, "/healthz")
	time.Sleep(time.Second)
	stopAsking()
	for range clients / 2 { // all that fit
		dial()
	}
	time.Sleep(time.Second)
	stopAsking = keepAsking(t, a.URL, "/healthz")
	time.Sleep(time.Second)
	stopAsking()
	if open := a.Status().Resources.OpenFDs; open >= limit/4 {
		t.Errorf("the agent has %d descriptors open, although its share for clients is %d", open, limit/8)
	}
	stop(t, a)
}
