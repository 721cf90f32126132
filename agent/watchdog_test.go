package agent

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/config"
	"kcagent/fetch"
)

// TestStallIsNoticed: a broker that says that there are records and brings none is
// an error with the details; the consumer is restarted, that is counted, and the records
// come once it brings them.
func TestStallIsNoticed(t *testing.T) {
	r := newRig(t, 1)
	r.edit(", stall_timeout: 1s")
	r.wantStatus(Running)
	id := r.consumer().ID
	var stuck atomic.Bool
	stuck.Store(true)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := k.(*kmsg.FetchRequest)
		if !stuck.Load() || len(req.Topics) == 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, 3, 3
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	r.produce(0, "a", "b", "c")
	r.eventually("a stall", func() (bool, any) {
		c := r.consumer()
		return c.RestartsTotal > 0, c
	})
	stuck.Store(false)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
	r.wantStatus(Running)
	if c := r.consumer(); c.ID != id || c.LastError != nil {
		t.Errorf("it was rebuilt as %+v", c)
	}
	if n := r.counters().Stalls; n < 1 {
		t.Errorf("%d stalls are counted", n)
	}
	if !slices.Contains(r.moves(), "RUNNING>ERROR") {
		t.Errorf("it was no error: %v", r.moves())
	}
	if log := r.log.String(); !strings.Contains(log, "no progress on t/0 for 1s: position 0, end of the log 3, broker 127.0.0.1:") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
}

// TestWhatIsNoStall: a partition may stand still for many reasons.
func TestWhatIsNoStall(t *testing.T) {
	const limit = time.Second
	now := time.Now()
	stuck := fetch.Look{Waiting: true, Next: 3, End: 5, Answered: now}
	for name, c := range map[string]struct {
		change func(l *fetch.Look)
		before int64 // where it was a limit ago
		want   bool
	}{
		"nothing comes":            {func(*fetch.Look) {}, 3, true},
		"the position is unknown":  {func(l *fetch.Look) { l.Next = -1 }, -1, true},
		"the end is unknown":       {func(l *fetch.Look) { l.End = -1 }, 3, true},
		"nobody speaks of it":      {func(l *fetch.Look) { l.End, l.Answered = 3, now.Add(-limit) }, 3, true},
		"an answer is on its way":  {func(l *fetch.Look) { l.Progress = now }, 3, false},
		"it was long ago":          {func(l *fetch.Look) { l.Progress = now.Add(-limit) }, 3, true},
		"it moved":                 {func(*fetch.Look) {}, 2, false},
		"there is nothing to read": {func(l *fetch.Look) { l.End = 3 }, 3, false},
		"a pause, a slow sink or an error that is shown": {func(l *fetch.Look) { l.Waiting = false }, 3, false},
	} {
		look := stuck
		c.change(&look)
		p := &partition{}
		progress := map[*partition]lastProgress{p: {c.before, now.Add(-limit)}}
		if err := p.checkStall(progress, look, limit, now); (err != nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if !c.want && progress[p] != (lastProgress{look.Next, now}) {
			t.Errorf("%s: it counts from %+v on", name, progress[p])
		}
	}
}

// A closing is a connection that tells when it is closed.
type closing struct {
	net.Conn
	told func()
}

func (c closing) Close() error { c.told(); return nil }

func (closing) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// TestDeafCoordinatorIsForgottenFirst: whoever is cut off asks for a coordinator at
// once, and would open the connection to the deaf one anew.
func TestDeafCoordinatorIsForgottenFirst(t *testing.T) {
	d := newDialer()
	client := &groupClient{coordinator: sarama.NewBroker("127.0.0.1:1")}
	known := true
	late := &trackedConn{dialer: d, Conn: closing{told: func() {
		client.mu.Lock()
		defer client.mu.Unlock()
		known = client.coordinator != nil
	}}}
	late.sent.Store(time.Now().Add(-2 * responseTimeout).UnixNano())
	d.conns[late] = struct{}{}
	m := &member{cluster: &cluster{}, consumer: &consumer{events: make(chan event, 1)}}
	g := newGeneration(env{client: client, dialer: d, observer: &joinAttempt{m: m}}, &config.Consumer{}, nil, nil, nil)
	if since := g.checkCoordinator(time.Time{}); since.IsZero() || known {
		t.Errorf("unresponsive since %v; the coordinator is still known when its connection is closed: %v", since, known)
	}
	_ = client.Close()
	d.cut()
}
