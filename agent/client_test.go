package agent

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/config"
	"kcagent/e2e/badnet"
	"kcagent/fetch"
)

// joining returns what the group kcagent-c has of a client, with connections that
// cut ends.
func (r *rig) joining() (c *groupClient, cut func()) {
	spec := config.Consumer{Name: "c", Cluster: config.Cluster{Brokers: r.cluster.ListenAddrs()}}
	keys, net := &credentials{}, newDialer()
	conf, err := groupConfig(spec, keys, net)
	if err != nil {
		r.Fatal(err)
	}
	f := fetch.New(fetch.Options{Name: "c", Brokers: spec.Cluster.Brokers, Config: func() (*sarama.Config, error) {
		return clusterConfig("test", spec.Cluster, keys)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	c = newGroupClient(ctx, net.ctx, conf, "kcagent-c", f)
	r.Cleanup(func() {
		net.Cut()
		_ = c.Close()
		cancel()
		running.Wait()
	})
	return c, net.Cut
}

// TestNobodyWaitsForADeafCoordinator: forgetting it, finding another one and
// changing the credentials take no time, though a connection to it is being opened;
// and closing the client takes none once that was cut.
func TestNobodyWaitsForADeafCoordinator(t *testing.T) {
	r := newRig(t, 1)
	var at atomic.Value
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	r.coordinators(func(string) string { return at.Load().(string) })
	c, cut := r.joining()
	open := func() {
		if _, err := c.Coordinator("kcagent-c"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	open()
	c.forget()
	open()
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	if err := c.RefreshCoordinator("kcagent-c"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		open()
		c.reconnect(c.conf)
	}
	cut()
	_ = c.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestCoordinatorMovesAwayFromABlackHole: once a coordinator has been silent for too
// long, the new one is asked, and not the old one once more: the member keeps its
// place, and all is well as soon as the new one has answered.
func TestCoordinatorMovesAwayFromABlackHole(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way := badnet.Start(t, r.cluster.ListenAddrs()[0])
	var at atomic.Value
	at.Store(way.Addr())
	r.coordinators(func(string) string { return at.Load().(string) })
	r.edit("")
	r.wantStatus(Running)
	generation, made := r.consumer().Generation, way.Connections()
	at.Store(r.cluster.ListenAddrs()[0])
	way.Set(badnet.Fault{LoseAnswers: true})
	r.wantStatus(Failing)
	if e := *r.consumer().LastError; !strings.Contains(e, "its coordinator at "+way.Addr()+" has not answered for ") {
		t.Errorf("last error is %q", e)
	}
	r.wantStatus(Running)
	if now := way.Connections(); now != made {
		t.Errorf("the black hole was asked %d times more", now-made)
	}
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 {
		t.Errorf("it is in generation %d instead of %d, after %d restarts", c.Generation, generation, c.RestartsTotal)
	}
}

// TestCoordinatorIsRestarted: the group of a broker that is restarted has another
// coordinator some seconds later. That costs an idle consumer neither its
// generation nor its state.
func TestCoordinatorIsRestarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way := badnet.Start(t, r.cluster.ListenAddrs()[0])
	var at atomic.Value
	at.Store(way.Addr())
	r.coordinators(func(string) string { return at.Load().(string) })
	r.edit("")
	r.wantStatus(Running)
	r.wantCommitted(0, 0) // there is nothing more to commit
	generation := r.consumer().Generation
	way.Set(badnet.Fault{Refuse: true})
	made := way.Connections()
	r.eventually("heartbeats that fail", func() (bool, any) { n := way.Connections(); return n >= made+4, n })
	at.Store(r.cluster.ListenAddrs()[0])
	var beats atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		beats.Add(1)
		return nil, nil, false
	})
	r.eventually("heartbeats", func() (bool, any) { return beats.Load() > 1, nil })
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 || slices.Contains(r.moves(), "RUNNING>ERROR") {
		t.Errorf("it is in generation %d instead of %d, after %d restarts and %v", c.Generation, generation, c.RestartsTotal, r.moves())
	}
}
