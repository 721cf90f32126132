package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/e2e/wait"
)

var errFull = errors.New("the queue of the socket is full")

// wantAfterRejection rejects messages for d, which must not be enough for the next attempt.
// Afterwards, exactly these messages follow.
func (r *rig) wantAfterRejection(d time.Duration, messages ...string) {
	r.t.Helper()
	r.reject(errFull)
	r.want(d)
	r.reject(nil)
	r.want(repeatInterval, messages...)
	r.want(time.Hour)
}

// TestRejectedMessagesAreRepeated: systemd receives each state, whichever message was lost.
func TestRejectedMessagesAreRepeated(t *testing.T) {
	t.Run("start", func(t *testing.T) {
		inBubble(t, 0, func(r *rig) {
			r.write("A")
			r.read()
			r.wantAfterRejection(10*time.Second, "READY=1\nSTATUS="+accepted)
		})
	})
	t.Run("reload before the start was received", func(t *testing.T) {
		inBubble(t, 0, func(r *rig) {
			r.write("A")
			r.read()
			r.reject(errFull)
			r.want(10 * time.Second)
			r.hup <- struct{}{}
			r.wantAfterRejection(time.Second/2, "READY=1\nSTATUS="+accepted)
		})
	})
	t.Run("status", func(t *testing.T) {
		started(t, 0, func(r *rig) {
			r.reject(errFull)
			r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Starting: 1} })
			r.want(10 * time.Second)
			r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Running: 1} })
			r.wantAfterRejection(10*time.Second, "STATUS=1 consumer: 1 running; configuration accepted")
		})
	})
	t.Run("status that changes back", func(t *testing.T) {
		started(t, 0, func(r *rig) {
			r.reject(errFull)
			r.agent.set(func(s *web.Status) { s.Summary = map[consumer.State]int{consumer.Starting: 1} })
			r.want(10 * time.Second)
			r.agent.set(func(s *web.Status) { s.Summary = nil })
			r.wantAfterRejection(10 * time.Second)
		})
	})
	t.Run("beginning of a reload", func(t *testing.T) {
		started(t, 0, func(r *rig) {
			r.reject(errFull)
			r.hup <- struct{}{}
			r.want(2 * maxReload)
			r.reject(nil)
			if got := r.sent(time.Hour); len(got) != 2 || !strings.HasPrefix(got[0], "RELOADING=1\nMONOTONIC_USEC=") || got[1] != "READY=1" {
				t.Errorf("sent %q, want RELOADING and READY", got)
			}
		})
	})
	t.Run("end of a reload", func(t *testing.T) {
		started(t, 0, func(r *rig) {
			r.write("B")
			r.hup <- struct{}{}
			r.sent(time.Second)
			r.read(config.Problem{})
			r.wantAfterRejection(10*time.Second, "READY=1\nSTATUS=0 consumers; configuration rejected: 1 problem, the previous one is in force")
		})
	})
	t.Run("stop", func(t *testing.T) {
		started(t, 0, func(r *rig) {
			r.reject(errFull)
			r.stop()
			r.wantAfterRejection(10*time.Second, "STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000\nSTATUS=shutting down")
		})
	})
}

// TestRejectedPingIsRepeated after a second, but not once the loop hangs.
func TestRejectedPingIsRepeated(t *testing.T) {
	started(t, time.Minute, func(r *rig) {
		r.want(15*time.Second, "WATCHDOG=1")
		r.reject(errFull)
		r.want(16 * time.Second) // the ping after 30 s is lost
		r.reject(nil)
		r.want(repeatInterval, "WATCHDOG=1")
		r.want(10 * time.Second)

		r.reject(errFull)
		r.want(10 * time.Second) // the ping after 45 s is lost
		r.agent.set(func(*web.Status) { r.agent.hangs = true })
		r.want(time.Minute)
		r.reject(nil)
		r.want(time.Hour)
	})
}

// fullSocket fills the queue of a socket without a reader, and returns a notifier that sends to
// it. A send that waits without end fails the test by its timeout.
func fullSocket(t *testing.T) (*net.UnixConn, *Notifier) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn := listen(t, path)
	t.Setenv("NOTIFY_SOCKET", path)
	n := FromEnvironment()
	for {
		if err := n.send("STATUS=of another service"); errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullSocketDelaysReady only until systemd reads its socket again.
func TestFullSocketDelaysReady(t *testing.T) {
	file := filepath.Join(t.TempDir(), "consumers.yaml")
	if err := os.WriteFile(file, []byte("A"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, full := fullSocket(t)
	rejected := make(chan error, 100)
	n := New(func(message string) error {
		err := full.send(message)
		rejected <- err
		return err
	}, 0)
	var a fakeAgent
	sum, err := filewatch.SumFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a.set(func(s *web.Status) { s.Config.SHA256 = sum })
	ended, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		n.Run(ended, ended, Options{Agent: &a, File: file, Log: slog.New(slog.DiscardHandler)})
	})
	defer running.Wait()
	defer end()
	if err := <-rejected; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the first message: %v", err)
	}
	if err := socket.SetReadDeadline(time.Now().Add(wait.Timeout)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1000)
	for got := ""; !strings.HasPrefix(got, "READY=1\n"); {
		size, err := socket.Read(buffer)
		if err != nil {
			t.Fatalf("READY did not arrive: %v", err)
		}
		got = string(buffer[:size])
	}
}
