package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
)

// A fakeAgent is an agent whose loop responds unless it hangs.
type fakeAgent struct {
	mu     sync.Mutex
	status web.Status
	hangs  bool
}

func (a *fakeAgent) Alive(timeout time.Duration) bool {
	a.mu.Lock()
	hangs := a.hangs
	a.mu.Unlock()
	if hangs {
		time.Sleep(timeout)
	}
	return !hangs
}

func (a *fakeAgent) Summary() web.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *fakeAgent) set(f func(*web.Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.status)
}

// A rig runs a notifier on a fake agent inside a synctest bubble.
type rig struct {
	t        *testing.T
	agent    fakeAgent
	hup      chan struct{}
	file     string
	stop     func()
	logged   strings.Builder
	mu       sync.Mutex
	messages []string
	broken   error // of send
}

func (r *rig) send(message string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.messages = append(r.messages, message)
	}
	return r.broken
}

// reject makes the socket reject each message with err, or accept it if err is nil.
func (r *rig) reject(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

// sent lets d pass, and returns the messages since the last call.
func (r *rig) sent(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.messages
	r.messages = nil
	return m
}

func (r *rig) want(d time.Duration, messages ...string) {
	r.t.Helper()
	if got := r.sent(d); !slices.Equal(got, messages) {
		r.t.Errorf("sent %q, want %q", got, messages)
	}
}

// write puts text into the configuration file; the agent has not read it yet.
func (r *rig) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// read makes the agent read the file, and reject it if there are problems.
func (r *rig) read(problems ...config.Problem) {
	sum, _ := filewatch.SumFile(r.file) // "" if it was removed
	r.agent.set(func(s *web.Status) {
		s.Config.FileSHA256, s.Config.Problems = sum, problems
		if len(problems) == 0 {
			s.Config.SHA256 = sum
		}
	})
}

func inBubble(t *testing.T, watchdog time.Duration, f func(r *rig)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "consumers.yaml")
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, hup: make(chan struct{}), file: file}
		stop, stopNow := context.WithCancel(t.Context())
		ended, end := context.WithCancel(context.Background())
		r.stop = stopNow
		var running sync.WaitGroup
		running.Go(func() {
			New(r.send, watchdog).Run(stop, ended, Options{
				Agent: &r.agent, File: file, Hup: r.hup, StopTime: 32 * time.Second, Log: slog.New(slog.NewTextHandler(&r.logged, nil)),
			})
		})
		f(r)
		end()
		running.Wait()
	})
}

const accepted = "0 consumers; configuration accepted"

// started is a notifier that has reported READY.
func started(t *testing.T, watchdog time.Duration, f func(r *rig)) {
	t.Helper()
	inBubble(t, watchdog, func(r *rig) {
		r.write("A")
		r.read()
		r.want(verdictInterval, "READY=1\nSTATUS="+accepted)
		f(r)
	})
}

func TestReadyWaitsForTheFirstFile(t *testing.T) {
	inBubble(t, 0, func(r *rig) {
		r.want(time.Hour)
		r.write("A")
		r.read()
		r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Failing: 1} })
		r.want(verdictInterval, "READY=1\nSTATUS=1 consumer: 1 in error; configuration accepted")
		r.want(time.Hour)
	})
}

func TestStatusIsSentWhenItChanges(t *testing.T) {
	started(t, 0, func(r *rig) {
		for _, n := range []int{1, 2, 3} { // within one second
			r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Running: n} })
			time.Sleep(time.Millisecond)
		}
		r.want(statusInterval, "STATUS=3 consumers: 3 running; configuration accepted")
		r.want(time.Hour)
		r.write("B")
		r.read(config.Problem{}, config.Problem{})
		r.want(statusInterval, "STATUS=3 consumers: 3 running; configuration rejected: 2 problems, the previous one is in force")
		r.want(time.Hour)
	})
}

func TestReloadEndsWithTheVerdict(t *testing.T) {
	f := func(name string, edit, verdict func(r *rig), after time.Duration, end string) {
		t.Run(name, func(t *testing.T) {
			started(t, 0, func(r *rig) {
				edit(r)
				r.hup <- struct{}{}
				begun := r.sent(0)
				if len(begun) == 0 || !strings.HasPrefix(begun[0], "RELOADING=1\nMONOTONIC_USEC=") {
					t.Fatalf("sent %q", begun)
				}
				if _, err := strconv.ParseInt(strings.TrimPrefix(begun[0], "RELOADING=1\nMONOTONIC_USEC="), 10, 64); err != nil {
					t.Error(err)
				}
				rest := append(begun[1:], r.sent(after)...)
				verdict(r)
				if rest = append(rest, r.sent(verdictInterval)...); !slices.Equal(rest, []string{end}) {
					t.Errorf("the reload ended with %q, want %q", rest, end)
				}
				r.want(time.Hour)
			})
		})
	}
	nothing := func(*rig) {}
	edit := func(r *rig) { r.write("B") }
	f("unchanged", nothing, nothing, 0, "READY=1")
	f("accepted", edit, func(r *rig) { r.read() }, time.Second, "READY=1")
	f("rejected", edit, func(r *rig) { r.read(config.Problem{}) }, time.Second, "READY=1\nSTATUS=0 consumers; configuration rejected: 1 problem, the previous one is in force")
	f("changed again", edit, func(r *rig) {
		r.read()
		r.write("C")
		r.want(time.Second)
		r.read()
	}, time.Second, "READY=1")
	f("removed", func(r *rig) {
		if err := os.Remove(r.file); err != nil {
			r.t.Fatal(err)
		}
	}, func(r *rig) { r.read(config.Problem{}) }, time.Second, "READY=1\nSTATUS=0 consumers; configuration rejected: 1 problem, the previous one is in force")
	f("without a verdict", edit, nothing, maxReload, "READY=1")
}

// TestPingsNeedTheLoop: each ping follows a response of the loop; package agent has the same
// test with a real loop.
func TestPingsNeedTheLoop(t *testing.T) {
	started(t, time.Minute, func(r *rig) {
		if got := r.sent(10 * time.Minute); len(got) != 40 || got[0] != "WATCHDOG=1" {
			t.Errorf("sent %q, want 40 pings", got)
		}
		r.agent.set(func(*web.Status) { r.agent.hangs = true })
		r.want(time.Hour)
		r.agent.set(func(*web.Status) { r.agent.hangs = false })
		r.want(15*time.Second, "WATCHDOG=1")
	})
}

func TestStoppingExtendsTheTimeout(t *testing.T) {
	started(t, time.Minute, func(r *rig) {
		r.sent(time.Second)
		r.stop()
		r.want(time.Second, "STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000\nSTATUS=shutting down")
		r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Stopping: 1} })
		r.hup <- struct{}{}
		if got := r.sent(time.Minute); slices.ContainsFunc(got, func(m string) bool { return m != "WATCHDOG=1" }) || len(got) != 4 {
			t.Errorf("sent %q, want four pings", got)
		}
	})
}

func TestFailuresOfTheSocketAreLoggedOnce(t *testing.T) {
	started(t, time.Minute, func(r *rig) {
		for i := range 2 {
			r.reject(errors.New("no such socket"))
			r.sent(time.Hour)
			r.reject(nil)
			r.sent(time.Hour)
			if n := strings.Count(r.logged.String(), `level=WARN msg="systemd does not receive the state of the agent" error="no such socket"`); n != i+1 {
				t.Errorf("logged %d times, want %d:\n%s", n, i+1, r.logged.String())
			}
		}
	})
}

func TestText(t *testing.T) {
	for want, s := range map[string]web.Status{
		"0 consumers; configuration accepted": {},
		"1 consumer: 1 running; configuration accepted": {
			Summary: map[consumer.State]int{consumer.Running: 1},
		},
		"13 consumers: 1 in error, 2 stopping, 3 starting, 1 running, 4 paused, 2 stopped; configuration rejected: 1 problem, the previous one is in force": {
			Summary: map[consumer.State]int{
				consumer.Running: 1, consumer.Failing: 1, consumer.Stopping: 2, consumer.Starting: 3, consumer.Paused: 4, consumer.Created: 2,
			},
			Config: web.ConfigStatus{Problems: config.Problems{{}}},
		},
	} {
		if got := Text(&s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// listen opens a notify socket, as systemd does.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestEnvironment: messages go to a path and to an abstract name; the watchdog is used only by
// the process that it is for; and no variable remains.
func TestEnvironment(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	path, abstract := filepath.Join(t.TempDir(), "notify"), "@kcagent-test-"+pid
	sockets := map[string]*net.UnixConn{path: listen(t, path), abstract: listen(t, abstract)}
	for _, tt := range []struct {
		socket, usec, pid string
		watchdog          time.Duration
	}{
		{"", "", "", 0},
		{"", "60000000", pid, 0},
		{path, "", "", 0},
		{path, "60000000", "", time.Minute},
		{path, "60000000", pid, time.Minute},
		{path, "60000000", "1", 0},
		{path, "0", pid, 0},
		{path, "soon", pid, 0},
		{abstract, "500000", pid, time.Second / 2},
	} {
		variables := map[string]string{"NOTIFY_SOCKET": tt.socket, "WATCHDOG_USEC": tt.usec, "WATCHDOG_PID": tt.pid}
		for name, value := range variables {
			t.Setenv(name, value)
		}
		n := FromEnvironment()
		if n.watchdog != tt.watchdog || (n.send == nil) != (tt.socket == "") {
			t.Errorf("%v: watchdog %v, sends %t", tt, n.watchdog, n.send != nil)
		}
		for name := range variables {
			if _, ok := os.LookupEnv(name); ok {
				t.Errorf("%v: %s remains", tt, name)
			}
		}
		if n.send == nil {
			continue
		}
		if err := n.send("READY=1"); err != nil {
			t.Errorf("%v: %v", tt, err)
			continue
		}
		buffer := make([]byte, 100)
		got, err := sockets[tt.socket].Read(buffer)
		if err != nil || string(buffer[:got]) != "READY=1" {
			t.Errorf("%v: received %q, %v", tt, buffer[:got], err)
		}
	}
}

// TestWithoutSystemdNothingRuns: Run returns at once, and does not call the agent.
func TestWithoutSystemdNothingRuns(t *testing.T) {
	New(nil, 0).Run(t.Context(), t.Context(), Options{})
}
