package badnet

import (
	"context"
	"maps"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TwoClusters are the clusters "cluster-a" and "cluster-b" with one broker and the topic "t"
// each. Both advertise the address of the proxy, which leads to A at first.
type TwoClusters struct {
	Proxy *Proxy
	A, B  *ClusterBehind
}

// A ClusterBehind is a cluster that advertises the address of a proxy.
type ClusterBehind struct {
	*kfake.Cluster
	Addr string // its real address

	mu       sync.Mutex
	requests map[string]bool
}

// StartTwoClusters starts them until the test ends.
func StartTwoClusters(t testing.TB) *TwoClusters {
	t.Helper()
	cs := &TwoClusters{Proxy: Start(t, "")}
	cs.A, cs.B = startBehind(t, cs.Proxy, "cluster-a"), startBehind(t, cs.Proxy, "cluster-b")
	cs.Proxy.Redirect(cs.A.Addr, false)
	return cs
}

func startBehind(t testing.TB, p *Proxy, id string) *ClusterBehind {
	t.Helper()
	c := &ClusterBehind{requests: make(map[string]bool)}
	listen := func(network, addr string) (net.Listener, error) {
		own, err := net.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		c.Addr = own.Addr().String()
		return p.Behind(own), nil
	}
	var err error
	if c.Cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.ClusterID(id), kfake.ListenFn(listen)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Direct lets a client connect to the cluster itself, whatever address it advertises.
func (c *ClusterBehind) Direct() kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, c.Addr)
	})
}

// RecordRequests makes the cluster record the names of the requests that it receives from
// now on; see Requests.
func (c *ClusterBehind) RecordRequests() {
	c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests[kmsg.NameForKey(req.Key())] = true
		return nil, nil, false
	})
}

// Requests returns the names of the recorded requests.
func (c *ClusterBehind) Requests() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.requests)
}
