package fetch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A front passes requests on to a broker, counts those for coordinators, and holds
// answers back.
type front struct {
	net.Listener
	running sync.WaitGroup

	mu    sync.Mutex
	moved *sync.Cond
	asked int                  // for coordinators
	holds func(asked int) bool // answers, now
}

func newFront(t *testing.T, broker string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Listener: l, holds: func(int) bool { return false }}
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

func (f *front) hold(when func(asked int) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = when
	f.moved.Broadcast()
}

func (f *front) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *front) requests(server, client net.Conn) {
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

func (f *front) answers(client, server net.Conn) {
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

// TestCoordinatorsAreAskedForAtOnce: no lookup of a coordinator waits for the answer
// to another one, but for those in flight. Else groups of a cluster that is far away
// start one after the other.
func TestCoordinatorsAreAskedForAtOnce(t *testing.T) {
	const groups = 20
	r := newRig(t, 1, 1, small)
	far := newFront(t, r.cluster.ListenAddrs()[0])
	ctx, _ := contextOf(t)
	r.fetcher = r.startAt(small, far.Addr().String())
	far.hold(func(asked int) bool { return asked > 0 })
	found := make(chan error, groups)
	ask := func(i int) {
		_, _, err := r.fetcher.Coordinator(ctx, fmt.Sprint("group-", i))
		found <- err
	}
	go ask(0)
	r.eventually("the first question", func() (bool, any) { return far.seen() == 1, far.seen() })
	for i := 1; i < groups; i++ {
		go ask(i)
	}
	r.eventually("the other questions", func() (bool, any) {
		r.fetcher.mu.Lock()
		defer r.fetcher.mu.Unlock()
		return len(r.fetcher.asks) == groups-1, len(r.fetcher.asks)
	})
	far.hold(func(asked int) bool { return asked > 1 && asked < groups })
	r.eventually("all of them before an answer", func() (bool, any) { return far.seen() == groups, far.seen() })
	for range groups {
		if err := <-found; err != nil {
			t.Error(err)
		}
	}
}

// TestTopicMadeAnewDuringAPause: the first fetch after it does not take the position
// in the old topic for one in the new.
func TestTopicMadeAnewDuringAPause(t *testing.T) {
	r := newRig(t, 1, 1, small)
	r.produce(0, 0, 5)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 5)
	rd.Pause()
	drop := kmsg.NewPtrDeleteTopicsRequest()
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = kmsg.StringPtr("t")
	drop.Topics, drop.TopicNames = append(drop.Topics, named), []string{"t"}
	if _, err := drop.RequestWith(t.Context(), r.producer); err != nil {
		t.Fatal(err)
	}
	again := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", 1, 1
	again.Topics = append(again.Topics, topic)
	if resp, err := again.RequestWith(t.Context(), r.producer); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	r.producer = r.client() // the former one knows the former topic
	r.produce(0, 100, 10)
	rd.Resume()
	r.eventually("the end of the subscription", func() (bool, any) {
		_, _, err := rd.seen()
		return errors.As(err, new(*RenewedError)), err
	})
	r.wants(rd, 0, 5)
}
