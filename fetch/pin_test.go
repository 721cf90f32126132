package fetch

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/badnet"
	"kcagent/fetch/dial"
	"kcagent/limits"
)

// twins are two clusters that advertise the same address, each with the topic "t". Cluster a has the
// records v0 to v4, cluster b has 20 others.
type twins struct {
	*rig
	*badnet.TwoClusters
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	cs := badnet.StartTwoClusters(t)
	start := func(c *badnet.ClusterBehind) *rig {
		r := &rig{T: t, cluster: c.Cluster, memory: new(limits.Memory)}
		r.producer = r.newClient(kgo.DisableClientMetrics(), c.Direct())
		return r
	}
	w := &twins{rig: start(cs.A), TwoClusters: cs}
	w.produce(0, 0, 5)
	start(cs.B).produce(0, 1000, 20)
	cs.B.RecordRequests()
	return w
}

// TestForeignClusterGetsNoRequests: a cluster that responds at the address of the pinned one gets only
// the requests that identify it, and nothing of its responses is used. The consumers recover by
// themselves.
func TestForeignClusterGetsNoRequests(t *testing.T) {
	t.Parallel()
	w := newTwins(t)
	w.fetcher = w.startAt(smallSettings, w.Proxy.Addr())
	rd := w.startReader(Spec{}, false)
	w.waitForRecords(rd, 0, 5)
	ctx, _ := contextOf(t)
	_, topic := w.fetcher.Identity("t")
	w.Proxy.Redirect(w.B.Addr, false)
	w.waitForError(rd, "broker "+w.Proxy.Addr()+" belongs to cluster cluster-b, but this consumer reads from cluster cluster-a: restore the address, or edit brokers to move to another cluster")
	if err := w.fetcher.Refresh(ctx, []string{"t"}); !errors.As(err, new(*dial.ForeignClusterError)) {
		t.Errorf("Refresh: %v", err)
	}
	if _, _, err := w.fetcher.Coordinator(ctx, "g"); !errors.As(err, new(*dial.ForeignClusterError)) {
		t.Errorf("Coordinator: %v", err)
	}
	if _, err := w.fetcher.Topics(ctx, 0); !errors.As(err, new(*dial.ForeignClusterError)) {
		t.Errorf("Topics: %v", err)
	}
	if err := w.fetcher.Reach(ctx, w.Proxy.Addr()); !errors.As(err, new(*dial.ForeignClusterError)) {
		t.Errorf("Reach: %v", err)
	}
	if cluster, id := w.fetcher.Identity("t"); cluster != "cluster-a" || id != topic {
		t.Errorf("the cluster is %s, and the topic is %s, was %s", cluster, id, topic)
	}
	requests := w.B.Requests()
	delete(requests, "ApiVersions")
	delete(requests, "Metadata")
	if len(requests) > 0 {
		t.Errorf("the other cluster got %v", requests)
	}
	w.Proxy.Redirect(w.A.Addr, false)
	w.waitForRecovery(rd)
	w.produce(0, 5, 5)
	w.waitForRecords(rd, 0, 10)
}

// TestFirstOfAlternatingClustersIsRead: behind an address that leads to either of two clusters, the
// one that responded first is read, whichever connection breaks.
func TestFirstOfAlternatingClustersIsRead(t *testing.T) {
	t.Parallel()
	w := newTwins(t)
	w.fetcher = w.startAt(smallSettings, w.Proxy.Addr())
	rd := w.startReader(Spec{}, false)
	w.waitForRecords(rd, 0, 5)
	w.Proxy.Alternate(w.B.Addr, w.A.Addr)
	for n := 5; n < 25; n += 5 {
		w.Proxy.Set(badnet.Fault{Refuse: true})
		w.Proxy.Set(badnet.Fault{})
		w.produce(0, n, 5)
		w.waitForRecords(rd, 0, n+5)
	}
}

// TestOtherBrokersAreReadWhileOneIsForeign: while some brokers of a cluster are restarted as brokers of
// another one, the others are read.
func TestOtherBrokersAreReadWhileOneIsForeign(t *testing.T) {
	t.Parallel()
	ways := []*badnet.Proxy{badnet.Start(t, ""), badnet.Start(t, "")}
	served := make(map[string]string) // by the address of the proxy
	listen := func(network, addr string) (net.Listener, error) {
		own, err := net.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		way := ways[len(served)]
		served[way.Addr()] = own.Addr().String()
		way.Redirect(own.Addr().String(), false)
		return way.Behind(own), nil
	}
	a, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "t"), kfake.ClusterID("cluster-a"), kfake.ListenFn(listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	b := newRig(t, 1, 2, smallSettings, kfake.ClusterID("cluster-b"))
	r := &rig{T: t, cluster: a}
	r.producer = r.newClient(kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, served[host])
	}))
	r.fetcher = r.start(smallSettings)
	for p := range int32(2) { // each broker leads one
		if err := a.MoveTopicPartition("t", p, p); err != nil {
			t.Fatal(err)
		}
		r.produce(p, 0, 5)
		b.produce(p, 1000, 20)
	}
	stays, moves := r.startReader(Spec{}, false), r.startReader(Spec{Partition: 1}, false)
	r.waitForRecords(stays, 0, 5)
	r.waitForRecords(moves, 0, 5)
	ways[1].Redirect(b.cluster.ListenAddrs()[0], false)
	r.waitForError(moves, "broker "+ways[1].Addr()+" belongs to cluster cluster-b, but this consumer reads from cluster cluster-a")
	r.produce(0, 5, 5)
	r.waitForRecords(stays, 0, 10)
	r.waitForRecovery(stays)
	r.produce(1, 5, 5)
	ways[1].Redirect(served[ways[1].Addr()], false)
	r.waitForRecords(moves, 0, 10)
}

// TestForeignAddressIsSkipped: an address that leads to another cluster does not prevent using the
// next one.
func TestForeignAddressIsSkipped(t *testing.T) {
	a := newRig(t, 1, 1, smallSettings, kfake.ClusterID("cluster-a"))
	b := newRig(t, 1, 1, smallSettings, kfake.ClusterID("cluster-b"))
	for range 5 { // the order of addresses is random
		f := New(Options{
			Name: "test", Brokers: slices.Concat(b.cluster.ListenAddrs(), a.cluster.ListenAddrs()), Settings: smallSettings,
			Pin: dial.NewPin("cluster-a"), Config: func() (*sarama.Config, error) { return sarama.NewConfig(), nil },
		})
		ctx, cancel := contextOf(t)
		var running sync.WaitGroup
		running.Go(func() { _ = f.Run(ctx) })
		_, addr, err := f.Coordinator(ctx, "g")
		if err != nil || addr != a.cluster.ListenAddrs()[0] {
			t.Errorf("the coordinator is %s: %v", addr, err)
		}
		cancel()
		running.Wait()
	}
}
