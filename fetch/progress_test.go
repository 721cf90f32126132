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

// A slowListener is the listener of a broker. Once it is thin, responses arrive slowly, a few bytes every
// 100 ms.
type slowListener struct {
	net.Listener
	thin atomic.Bool
}

func (l *slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &slowConn{conn, l}, err
}

type slowConn struct {
	net.Conn
	line *slowListener
}

func (c *slowConn) Write(p []byte) (n int, err error) {
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

// TestSlowResponseIsProgress: while a long response arrives, there is progress for the subscriptions
// that wait for it, and their ends stay known.
func TestSlowResponseIsProgress(t *testing.T) {
	t.Parallel()
	line := &slowListener{}
	r := newRig(t, 1, 2, Settings{Lanes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond}, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		line.Listener = l
		return line, err
	}))
	r.producer = r.newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	readers := []*reader{r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)}
	for _, rd := range readers {
		r.eventually("a position", func() (bool, any) { _, next, _ := rd.seen(); return next == 0, next })
	}
	r.setEndTimes(50*time.Millisecond, 2500*time.Millisecond)
	line.thin.Store(true)
	began := time.Now()
	for p := range int32(2) {
		go r.produce(p, 0, 8000) // 100 kB: five seconds
	}
	for _, rd := range readers {
		r.eventually("progress during the response", func() (bool, any) {
			look := rd.Progress()
			return look.Next == 0 && look.LastEvent.Sub(began) > 3*time.Second, look
		})
		if rd.end() < 0 {
			t.Error("the end is unknown because a response takes long")
		}
	}
	line.thin.Store(false)
	for _, rd := range readers {
		r.waitForRecords(rd, 0, 8000)
	}
}

// TestRecordsOfOthersAreProgress: records for other subscriptions of the broker are progress, but not
// for one that came first in a request without records for it.
func TestRecordsOfOthersAreProgress(t *testing.T) {
	r := newRig(t, 1, 2, smallSettings)
	var stuck atomic.Bool
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		if !stuck.Load() || len(req.Topics) == 0 || req.Topics[0].Partitions[0].Partition != 0 {
			return nil, nil, false
		}
		resp := errorResponse(req, 0).(*kmsg.FetchResponse)
		for i := range resp.Topics[0].Partitions {
			p := &resp.Topics[0].Partitions[i]
			p.HighWatermark, p.LastStableOffset = 1<<20, 1<<20
		}
		return resp, nil, true
	})
	still, busy := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.waitForRecords(still, 0, 0)
	r.produce(1, 0, 10)
	r.waitForRecords(busy, 0, 10)
	if l := still.Progress(); time.Since(l.LastEvent) > time.Minute {
		t.Errorf("records for others are not progress: %+v", l)
	}
	stuck.Store(true)
	made := 10
	r.eventually("no more progress", func() (bool, any) {
		r.produce(1, made, 10)
		made += 10
		r.waitForRecords(busy, 0, made)
		l := still.Progress()
		return l.LastEvent.IsZero(), l
	})
	r.produce(0, 0, 10)
	stuck.Store(false)
	r.waitForRecords(still, 0, 10)
	if l := still.Progress(); l.LastEvent.IsZero() {
		t.Errorf("records arrived, and the look is %+v", l)
	}
}

// TestQuotaIsProgress: as long as a quota delays requests, waiting is not a stall.
func TestQuotaIsProgress(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = 60_000
		return resp, nil, true
	})
	rd := r.startReader(Spec{}, false)
	r.eventually("a wait", func() (bool, any) {
		l := rd.Progress()
		return time.Until(l.LastEvent) > 30*time.Second, l
	})
}
