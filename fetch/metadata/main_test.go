package metadata

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true
	goleak.VerifyTestMain(m)
}

// noLeaders are the [Leaders] of a client without subscriptions.
type noLeaders struct{}

func (noLeaders) Due(time.Time, map[string]bool) time.Duration { return time.Hour }
func (noLeaders) Addrs() []string                              { return nil }
func (noLeaders) Learn(*Update)                                {}
func (noLeaders) Unresolved() bool                             { return false }

func (noLeaders) Fail(map[string]bool, error, time.Time, time.Duration) {}

// newCluster starts a cluster of one broker with the topic "t".
func newCluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// start runs a client that begins at brokers, until the test ends.
func start(t *testing.T, brokers ...string) *Client {
	opener := wire.NewOpener(dial.NewDialer(dial.NewPin(""), nil), func() (*sarama.Config, error) {
		c := sarama.NewConfig()
		c.Version = sarama.MaxVersion
		return c, nil
	}, nil)
	c := NewClient(opener, brokers, noLeaders{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return c
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, cond func() (bool, any)) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(2 * time.Millisecond) {
		ok, seen := cond()
		switch {
		case ok:
			return
		case time.Now().After(deadline):
			t.Fatalf("timed out waiting for %s; last seen: %v", what, seen)
		}
	}
}
