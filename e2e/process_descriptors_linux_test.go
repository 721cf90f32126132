package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestDescriptorLimitIsRaised: the agent raises its soft limit to the hard limit.
func TestDescriptorLimitIsRaised(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, agenttest.Options{
		Config: "consumers: []\n", Through: []string{"sh", "-c", `ulimit -Sn 100 && ulimit -Hn 2000 && exec "$0" "$@"`},
	})
	if soft := softLimit(t, a.Pid()); soft < 1999 { // Go uses one less than the hard limit, to notice changes
		t.Errorf("the soft limit is %d, want the hard one of 2000", soft)
	}
}

// softLimit returns the soft limit of descriptors of a process.
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

// TestDescriptorLimitLosesNoRecord: with fewer descriptors than the partitions need, the
// agent responds over HTTP within a second, applies edits, and either writes every
// partition or names the limit. No record is lost or repeated.
func TestDescriptorLimitLosesNoRecord(t *testing.T) {
	t.Parallel()
	const (
		limit      = 256
		partitions = 200
		each       = 50
	)
	s := newScene(t)
	topic := s.newTopic(t, "wide", partitions)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, Count: each})
	wide := s.entry("wide", topic).withPath(filepath.Join(s.dir, "{topic}-{partition}.log"))
	other := s.entry("other", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(wide, other), Through: agenttest.Ulimit(limit)})
	if soft := softLimit(t, a.Pid()); soft != limit {
		t.Fatalf("the agent has %d descriptors, want %d", soft, limit)
	}
	stopRequesting := keepRequesting(t, a.URL, "/status", "/metrics")

	s.waitCommitted(t, a, other, partitions*each) // a consumer with one file is not affected
	a.Apply(s.config(wide, other.withState("paused")))
	a.WaitState("other", "PAUSED")
	named := false
	a.WaitConsumer("wide", "write everything or name the limit", func(c agenttest.Consumer) bool {
		named = strings.Contains(c.Error(), fmt.Sprintf("limit of %d descriptors", limit))
		return named || c.Status == "RUNNING" && c.Committed() == partitions*each
	})
	a.Apply(s.config(wide, other))
	a.WaitState("other", "RUNNING")
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: each, Count: each})
	s.waitCommitted(t, a, other, 2*partitions*each)
	if named {
		t.Log("the limit is named; without it, the rest is written")
		stopRequesting()
		a.Signal(syscall.SIGTERM)
		a.WaitExit(wait.Timeout)
		a = agenttest.Start(t, agenttest.Options{Config: s.config(wide, other)})
		stopRequesting = func() {}
	}
	s.waitCommitted(t, a, wide, 2*partitions*each)
	stopRequesting()
	stopAgent(t, a)
	for p := range int32(partitions) {
		path := filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", topic, p))
		tr := readTrail(t, path)
		if tr.wantPrefix(t, key(topic, p)); tr.len() != 2*each || len(tr) != 1 {
			t.Errorf("%s holds %d records of %d partitions, want %d of its own", path, tr.len(), len(tr), 2*each)
		}
	}
	readTrail(t, other.path).wantExact(t, topic, partitions, 2*each)
}

// keepRequesting requests pages in turn, each over a connection of its own, until stop is
// called. stop fails the test if a response took a second or longer, plus the time for which
// the machine was too busy to run the test itself.
func keepRequesting(t *testing.T, url string, pages ...string) (stop func()) {
	t.Helper()
	const within, pause = time.Second, 50 * time.Millisecond
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	quit, done := make(chan struct{}), make(chan error, 1)
	get := func(page string) error {
		began, busy := time.Now(), measureDelay()
		r, err := client.Get(url + page)
		if err != nil {
			return errors.Join(err, fmt.Errorf("the machine was busy for %v", busy()))
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		took, delay := time.Since(began), busy()
		if err == nil && (took > within+delay || r.StatusCode != http.StatusOK) {
			err = fmt.Errorf("GET %s: status %d after %v, in which the machine was busy for %v", page, r.StatusCode, took, delay)
		}
		return err
	}
	go func() {
		var errs []error
		defer func() { done <- errors.Join(errs...) }()
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(pause):
			}
			if err := get(pages[i%len(pages)]); err != nil && len(errs) < 10 {
				errs = append(errs, err)
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(quit)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// measureDelay measures for how long the machine was too busy to run this process: it sums
// by how much short sleeps are late. stop ends the measurement.
func measureDelay() (stop func() time.Duration) {
	const nap = 5 * time.Millisecond
	quit, sum := make(chan struct{}), make(chan time.Duration)
	go func() {
		var late time.Duration
		for {
			began := time.Now()
			select {
			case <-time.After(nap):
				late += time.Since(began) - nap
			case <-quit:
				sum <- late
				return
			}
		}
	}()
	return func() time.Duration {
		close(quit)
		return <-sum
	}
}

// TestDescriptorLimitForConnectionsIsNamed: with more consumers than the agent may have
// connections, it responds over HTTP, names the limit, and those that have a connection
// read. All of them read again with fewer consumers.
func TestDescriptorLimitForConnectionsIsNamed(t *testing.T) {
	t.Parallel()
	const limit, consumers, fewer = 160, 60, 4
	s := newScene(t)
	topic := s.newTopic(t, "crowd", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 100})
	var entries []entry
	for i := range consumers {
		entries = append(entries, s.entry(fmt.Sprintf("crowd%d", i), topic))
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(entries...), Through: agenttest.Ulimit(limit)})
	stopRequesting := keepRequesting(t, a.URL, "/status", "/metrics")
	a.WaitStatus("a consumer to name the limit", func(st agenttest.Status) bool {
		return slices.ContainsFunc(st.Consumers, func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), fmt.Sprintf("limit of %d descriptors", limit))
		})
	})
	a.WaitStatus("the consumers with a connection to read", func(st agenttest.Status) bool {
		reading := 0
		for _, c := range st.Consumers {
			if c.Status == "RUNNING" && c.HasLag(0) && c.RecordsTotal == 100 {
				reading++
			}
		}
		return reading >= consumers/4
	})
	a.Apply(s.config(entries[:fewer]...))
	for _, e := range entries[:fewer] {
		s.waitCommitted(t, a, e, 100)
	}
	stopRequesting()
	stopAgent(t, a)
	for _, e := range entries[:fewer] {
		readTrail(t, e.path).wantExact(t, topic, 1, 100)
	}
}

// TestIdleHTTPClientsDoNotBlockHealthCheck: clients that keep more connections to the HTTP
// API than the agent has descriptors, idle or without a request, do not prevent /healthz
// from responding within a second.
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
	stopRequesting := keepRequesting(t, a.URL, "/healthz")
	time.Sleep(time.Second)
	stopRequesting()
	for range clients / 2 { // as many as the agent accepts
		dial()
	}
	time.Sleep(time.Second)
	stopRequesting = keepRequesting(t, a.URL, "/healthz")
	time.Sleep(time.Second)
	stopRequesting()
	if open := a.Status().Resources.OpenFDs; open >= limit/4 {
		t.Errorf("the agent has %d descriptors open, although its share for clients is %d", open, limit/8)
	}
	stopAgent(t, a)
}
