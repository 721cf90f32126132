package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"kcagent/agent/web"
	"kcagent/cli/command"
	"kcagent/e2e/wait"
)

// TestLogOfAWholeLife: the log of an agent from its start to its end is the one that
// docs/operations.md shows. Each step waits for the lines that end it. Within a step, the
// lines are ordered by consumer, because consumers run concurrently.
func TestLogOfAWholeLife(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for an outage to be logged")
	}
	l := startLife(t)
	const orders, payments = "consumer=orders", "consumer=payments"

	l.step("the agent starts with one consumer", func() { l.start("  - {name: orders}") },
		"TLS is disabled", "configuration accepted", "applying start policy", "partitions assigned", "to=RUNNING")
	l.step("records are written: nothing is logged", func() { l.produce("a", "b", "c") })
	l.step("an edit in place: flush.interval", func() { l.edit("  - {name: orders, flush: {interval: 50ms}}") }, "action=update")
	l.step("state: paused", func() { l.edit("  - {name: orders, flush: {interval: 50ms}, state: paused}") }, "to=PAUSED")
	l.step("state: running", func() { l.edit("  - {name: orders, flush: {interval: 50ms}}") }, "to=RUNNING")
	l.step("state: stopped", func() { l.edit("  - {name: orders, flush: {interval: 50ms}, state: stopped}") }, "to=CREATED")
	l.step("state: running", func() { l.edit("  - {name: orders, flush: {interval: 50ms}}") }, "partitions assigned", "to=RUNNING")
	l.step("another file, in a folder with the name of a file", func() {
		l.must(os.WriteFile(filepath.Join(l.dir, "new"), nil, 0o600))
		l.edit("  - {name: orders, sink: {file: {path: DIR/new/orders.jsonl}}}")
	}, "pre-check failed")
	l.step("the file of that name is removed", func() { l.must(os.Remove(filepath.Join(l.dir, "new"))) },
		"to=TERMINATED", "partitions assigned", "to=RUNNING")
	l.step("an edit with a mistake", func() { l.edit("  - {name: orders, topcs: [t]}") }, "configuration rejected")
	l.step("the edit is reverted", func() { l.edit("  - {name: orders, sink: {file: {path: DIR/new/orders.jsonl}}}") }, "configuration accepted")
	l.step("a second consumer", func() {
		l.edit("  - {name: orders, sink: {file: {path: DIR/new/orders.jsonl}}}\n  - {name: payments}")
	}, "partitions assigned", "applying start policy", "to=RUNNING")
	l.only = "to=ERROR|to the cluster .* consumers=2"
	l.step("the broker closes all connections", func() { l.broker.fail(true) }, orders+".*to=ERROR", payments+".*to=ERROR", "to the cluster .* consumers=2")
	l.only = "to=RUNNING|work again"
	l.step("the broker responds again", func() { l.broker.fail(false) }, orders+".*to=RUNNING", payments+".*to=RUNNING", "work again")
	l.only = ""
	l.step("the first consumer is removed", func() { l.edit("  - {name: payments}") }, "to=TERMINATED")
	l.step("the data file is moved, then SIGHUP", func() {
		l.produce("d")
		l.flushed()
		l.must(os.Rename(filepath.Join(l.dir, "payments.jsonl"), filepath.Join(l.dir, "moved.jsonl")))
		l.signal(syscall.SIGHUP)
	}, "file was moved")
	l.step("log_level: warn", func() { l.edit("  - {name: payments}\nlog_level: warn") }, "log level changed")
	l.step("an edit while the level is warn: nothing is logged", func() {
		l.edit("  - {name: payments, state: paused}\nlog_level: warn")
		l.status("PAUSED")
	})
	l.step("log_level is removed, and state: running", func() { l.edit("  - {name: payments}") }, "log level changed", "to=RUNNING")
	l.step("SIGTERM", func() { l.signal(syscall.SIGTERM) }, "shut down cleanly")
	if code := <-l.exit; code != command.Success {
		t.Errorf("exit %d", code)
	}
	golden(t, "life.txt", l.text.String())
}

// A life is an agent in this process, its broker, and what it has logged so far.
type life struct {
	*testing.T
	dir, config, api string
	broker           *switchedListener
	addr             string
	client           *kgo.Client
	log              logBuffer
	read             int    // bytes of the log that former steps have taken
	only             string // a pattern: the lines of a step that the text has; "" for all
	exit             chan int
	text             strings.Builder
}

func startLife(t *testing.T) *life {
	l := &life{T: t, dir: t.TempDir(), broker: &switchedListener{conns: make(map[net.Conn]bool)}, exit: make(chan int, 1)}
	l.config = filepath.Join(l.dir, "consumers.yaml")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"), kfake.ListenFn(l.broker.listen))
	l.must(err)
	t.Cleanup(cluster.Close)
	l.addr = cluster.ListenAddrs()[0]
	l.client, err = kgo.NewClient(kgo.SeedBrokers(l.addr), kgo.MaxVersions(kversion.V3_6_0()))
	l.must(err)
	t.Cleanup(l.client.Close)
	l.api, err = freeAddress("127.0.0.1:0")
	l.must(err)
	return l
}

// start starts the agent with its first file.
func (l *life) start(consumers string) {
	l.edit(consumers)
	go func() {
		l.exit <- Run([]string{"run", "--config", l.config, "--listen", l.api}, new(logBuffer), &l.log)
	}()
}

// edit replaces the file, as editors do. DIR is the folder of the test.
func (l *life) edit(consumers string) {
	l.Helper()
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], sink: {file: {path: \"DIR/{name}.jsonl\"}}}\nconsumers:\n", l.addr) + consumers + "\n"
	text = strings.ReplaceAll(text, "DIR", l.dir)
	l.must(os.WriteFile(l.config+".new", []byte(text), 0o600))
	l.must(os.Rename(l.config+".new", l.config))
}

// produce sends records, and waits until the consumers have written them.
func (l *life) produce(values ...string) {
	l.Helper()
	for _, v := range values {
		l.must(l.client.ProduceSync(context.Background(), &kgo.Record{Topic: "t", Value: []byte(v)}).FirstErr())
		l.eventually("record "+v, func() bool {
			files, err := filepath.Glob(filepath.Join(l.dir, "*.jsonl"))
			l.must(err)
			return slices.ContainsFunc(files, func(f string) bool {
				text, err := os.ReadFile(f)
				return err == nil && strings.Contains("\n"+string(text), "\n"+v+"\n")
			})
		})
	}
}

func (l *life) signal(s syscall.Signal) { l.must(syscall.Kill(os.Getpid(), s)) }

// status waits until kcagent status shows a state.
func (l *life) status(state string) {
	l.Helper()
	l.eventually(state, func() bool {
		_, out, _ := kcagent(l.T, "status", "--url", "http://"+l.api)
		return strings.Contains(out, state)
	})
}

// flushed waits until everything that was written is flushed and committed.
func (l *life) flushed() {
	l.Helper()
	l.eventually("commit of everything", func() bool {
		var s web.Status
		_, out, _ := kcagent(l.T, "status", "--output", "json", "--url", "http://"+l.api)
		if json.Unmarshal([]byte(out), &s) != nil || len(s.Consumers) == 0 {
			return false
		}
		for _, c := range s.Consumers {
			for _, p := range c.Partitions {
				if p.CommittedOffset != p.NextOffset {
					return false
				}
			}
		}
		return true
	})
}

// step does something, waits until a line matches each of the patterns, and adds the lines
// to the text.
func (l *life) step(title string, do func(), patterns ...string) {
	l.Helper()
	do()
	var lines []string
	l.eventually(title, func() bool {
		text := l.log.String()[l.read:]
		lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		return !slices.ContainsFunc(patterns, func(p string) bool {
			return !slices.ContainsFunc(lines, regexp.MustCompile(p).MatchString)
		})
	})
	l.read += len(strings.Join(lines, "\n")) + 1
	if lines[0] == "" {
		l.read--
		lines = nil
	}
	fmt.Fprintf(&l.text, "-- %s --\n", title)
	for _, line := range l.normalise(lines) {
		l.text.WriteString(line + "\n")
	}
	l.text.WriteString("\n")
}

// variable are the parts of a line that differ between two runs.
var variable = []struct{ pattern, with string }{
	{`^time=\S+ `, ""},
	{`sha256=\S+`, "sha256=…"},
	{`bytes=\d+`, "bytes=…"},
	{`member_id=\S+`, "member_id=…"},
	{`generation=\d+`, "generation=…"},
	{`tries=\d+`, "tries=…"},
	{`trigger=(event|poll|confirm)`, "trigger=event"},
	{`(lasts|lasted|next_try_in)=\S+`, "$1=…"},
	{`closed in [0-9.µms]+`, "closed in …"},
	{`(to=ERROR.*reason|cause)=("(\\.|[^"\\])*"|\S+)`, "$1=…"}, // of a connection that breaks
}

// normalise replaces what differs between two runs, and orders the lines by consumer.
func (l *life) normalise(lines []string) (all []string) {
	for _, line := range lines {
		if strings.Contains(line, `msg="memory limit`) || l.only != "" && !regexp.MustCompile(l.only).MatchString(line) {
			continue // the limit depends on the machine
		}
		line = strings.NewReplacer(l.dir, "/data", l.addr, "kafka:9092", l.api, "127.0.0.1:8080").Replace(line)
		for _, v := range variable {
			line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.with)
		}
		all = append(all, line)
	}
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(subject(a), subject(b)) })
	for i := range len(all) - 1 { // two goroutines of a consumer log these
		if strings.Contains(all[i], "partitions released") && strings.Contains(all[i+1], "to=STOPPING") {
			all[i], all[i+1] = all[i+1], all[i]
		}
	}
	return slices.Compact(all)
}

// subject is the consumer of a line. The HTTP server starts concurrently with the agent.
func subject(line string) string {
	if m := regexp.MustCompile(` (consumer=\S+)`).FindStringSubmatch(line); m != nil {
		return m[1]
	}
	if strings.Contains(line, "Listening on") || strings.Contains(line, "TLS is disabled") {
		return "a server"
	}
	return "an agent"
}

func (l *life) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *life) eventually(what string, ok func() bool) {
	l.Helper()
	for limit := time.Now().Add(wait.Timeout); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			l.Fatalf("no %s; the log:\n%s", what, l.log.String())
		}
	}
}

// A switchedListener closes all connections while it fails.
type switchedListener struct {
	net.Listener
	mu      sync.Mutex
	failing bool
	conns   map[net.Conn]bool
}

func (s *switchedListener) listen(network, addr string) (_ net.Listener, err error) {
	s.Listener, err = net.Listen(network, addr)
	return s, err
}

// Accept implements [net.Listener].
func (s *switchedListener) Accept() (net.Conn, error) {
	for {
		conn, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		failing := s.failing
		s.conns[conn] = true
		s.mu.Unlock()
		if !failing {
			return conn, nil
		}
		conn.Close()
	}
}

func (s *switchedListener) fail(failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = failing
	if failing {
		for conn := range s.conns {
			conn.Close()
		}
		clear(s.conns)
	}
}
