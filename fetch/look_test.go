package fetch

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A thinLine is the listener of a broker whose answers come slowly, a few bytes
// every 100 ms, once it is thin.
type thinLine struct {
	net.Listener
	thin atomic.Bool
}

func (l *thinLine) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &thinConn{conn, l}, err
}

type thinConn struct {
	net.Conn
	line *thinLine
}

func (c *thinConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := p[n:]
		if c.line.thin.Load() {
			piece = piece[:min(len(piece), 2000)]
			<-time.After(100 * time.Millisecond)
		}
		var m int
		m, err = c.Conn.Write(piece)
		n += m
	}
	return n, err
}

// TestProgressOverAThinLine: while an answer comes, and it takes its time, there is
// progress for those that wait for it.
func TestProgressOverAThinLine(t *testing.T) {
	t.Parallel()
	line := &thinLine{}
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond}, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		line.Listener = l
		return line, err
	}))
	r.producer = r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	readers := []*reader{r.read(Spec{}, false), r.read(Spec{Partition: 1}, false)}
	for _, rd := range readers {
		r.eventually("a position", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	}
	line.thin.Store(true)
	began := time.Now()
	for p := range int32(2) {
		go r.produce(p, 0, 8000) // 100 kB: five seconds
	}
	for _, rd := range readers {
		r.eventually("progress while the answer comes", func() (bool, any) {
			look := rd.Look()
			return look.Next == 0 && look.Progress.Sub(began) > 3*time.Second, look
		})
	}
	line.thin.Store(false)
	for _, rd := range readers {
		r.wants(rd, 0, 8000)
	}
}

// TestProgressOfOthers: what others of the leader get is a reason to wait, but not
// for who was first in a request that brought nothing.
func TestProgressOfOthers(t *testing.T) {
	r := newRig(t, 1, 2, small)
	var stuck atomic.Bool
	r.fetches(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		if !stuck.Load() || len(req.Topics) == 0 || req.Topics[0].Partitions[0].Partition != 0 {
			return nil, nil, false
		}
		resp := refuse(req, 0).(*kmsg.FetchResponse)
		for i := range resp.Topics[0].Partitions {
			p := &resp.Topics[0].Partitions[i]
			p.HighWatermark, p.LastStableOffset = 1<<20, 1<<20
		}
		return resp, nil, true
	})
	still, busy := r.read(Spec{}, false), r.read(Spec{Partition: 1}, false)
	r.wants(still, 0, 0)
	r.produce(1, 0, 10)
	r.wants(busy, 0, 10)
	if l := still.Look(); time.Since(l.Progress) > time.Minute {
		t.Errorf("what others get is no progress: %+v", l)
	}
	stuck.Store(true)
	made := 10
	r.eventually("no more progress", func() (bool, any) {
		r.produce(1, made, 10)
		made += 10
		r.wants(busy, 0, made)
		l := still.Look()
		return l.Progress.IsZero(), l
	})
	r.produce(0, 0, 10)
	stuck.Store(false)
	r.wants(still, 0, 10)
	if l := still.Look(); l.Progress.IsZero() {
		t.Errorf("it moved, and %+v", l)
	}
}

// TestProgressUnderAQuota: as long as a quota holds requests back, waiting is no
// standstill.
func TestProgressUnderAQuota(t *testing.T) {
	r := newRig(t, 1, 1, small)
	r.fetches(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = 60_000
		return resp, nil, true
	})
	rd := r.read(Spec{}, false)
	r.eventually("a wait", func() (bool, any) {
		l := rd.Look()
		return time.Until(l.Progress) > 30*time.Second, l
	})
}
