package metadata

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A holdingProxy forwards requests to a broker, counts those for coordinators, and holds responses back.
type holdingProxy struct {
	net.Listener
	running sync.WaitGroup

	mu    sync.Mutex
	moved *sync.Cond
	asked int                  // for coordinators
	holds func(asked int) bool // responses are held back now
}

func newHoldingProxy(t *testing.T, broker string) *holdingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &holdingProxy{Listener: l, holds: func(int) bool { return false }}
	f.moved = sync.NewCond(&f.mu)
	t.Cleanup(func() {
		_ = l.Close()
		f.hold(func(int) bool { return false })
		f.running.Wait()
	})
	f.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", broker)
			if err != nil {
				t.Error(err)
				return
			}
			f.running.Go(func() { f.requests(server, client) })
			f.running.Go(func() { f.answers(client, server) })
		}
	})
	return f
}

func (f *holdingProxy) hold(when func(asked int) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = when
	f.moved.Broadcast()
}

func (f *holdingProxy) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *holdingProxy) requests(server, client net.Conn) {
	defer server.Close()
	for {
		frame := make([]byte, 4)
		if _, err := io.ReadFull(client, frame); err != nil {
			return
		}
		frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
		if _, err := io.ReadFull(client, frame[4:]); err != nil {
			return
		}
		if binary.BigEndian.Uint16(frame[4:]) == uint16(kmsg.FindCoordinator) {
			f.mu.Lock()
			f.asked++
			f.moved.Broadcast()
			f.mu.Unlock()
		}
		if _, err := server.Write(frame); err != nil {
			return
		}
	}
}

func (f *holdingProxy) answers(client, server net.Conn) {
	defer client.Close()
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		f.mu.Lock()
		for f.holds(f.asked) {
			f.moved.Wait()
		}
		f.mu.Unlock()
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestCoordinatorLookupsArePipelined: no lookup of a coordinator waits for the response to another one,
// except for those in flight. Otherwise the groups of a distant cluster would start one after the
// other.
func TestCoordinatorLookupsArePipelined(t *testing.T) {
	const groups = 20
	far := newHoldingProxy(t, newCluster(t).ListenAddrs()[0])
	client := start(t, far.Addr().String())
	far.hold(func(asked int) bool { return asked > 0 })
	found := make(chan error, groups)
	ask := func(i int) {
		_, _, err := client.Coordinator(t.Context(), fmt.Sprint("group-", i))
		found <- err
	}
	go ask(0)
	eventually(t, "the first request", func() (bool, any) { return far.seen() == 1, far.seen() })
	for i := 1; i < groups; i++ {
		go ask(i)
	}
	eventually(t, "the other requests", func() (bool, any) {
		client.mu.Lock()
		defer client.mu.Unlock()
		return len(client.requests) == groups-1, len(client.requests)
	})
	far.hold(func(asked int) bool { return asked > 1 && asked < groups })
	eventually(t, "all requests before a response", func() (bool, any) { return far.seen() == groups, far.seen() })
	for range groups {
		if err := <-found; err != nil {
			t.Error(err)
		}
	}
}
