package agent

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// clusters holds one fetcher for each Kafka cluster in use: consumers that
// reach a cluster in the same way share it. The first to come makes it, the
// last to go ends it.
type clusters struct {
	log     *slog.Logger
	rematch time.Duration // how often members look which topics match; tests shorten it

	mu      sync.Mutex
	open    []*cluster
	closed  bool
	running sync.WaitGroup
}

// A cluster is one in use.
type cluster struct {
	*fetch.Fetcher
	spec  config.Cluster // with Fetch blank: how to reach it
	users int            // guarded by clusters.mu
	end   context.CancelFunc
}

// join returns the cluster of spec. Each join needs a leave.
func (cs *clusters) join(spec config.Consumer) *cluster {
	reach := spec.Cluster
	reach.Fetch = config.Fetch{}
	settings := fetchSettings(spec.Cluster.Fetch)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open {
		if reflect.DeepEqual(c.spec, reach) {
			c.users++
			c.Update(settings)
			return c
		}
	}
	name := spec.ClusterName
	if name == "" {
		name = strings.Join(spec.Cluster.Brokers, ",")
	}
	ctx, end := context.WithCancel(context.Background())
	c := &cluster{spec: reach, users: 1, end: end, Fetcher: fetch.New(fetch.Options{
		Name: name, Brokers: reach.Brokers, Settings: settings, Log: cs.log,
		Config: func() (*sarama.Config, error) { return clusterConfig("kcagent", reach) },
	})}
	cs.open = append(cs.open, c)
	if cs.closed { // a zombie comes late
		end()
	}
	cs.running.Go(func() { _ = c.Run(ctx) })
	return c
}

// leave ends the cluster if nobody else uses it.
func (cs *clusters) leave(c *cluster) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.users--
	if c.users > 0 {
		return
	}
	c.end()
	for i, o := range cs.open {
		if o == c {
			cs.open = append(cs.open[:i:i], cs.open[i+1:]...)
			return
		}
	}
}

// close ends them all, whoever still uses them, and returns when they have ended.
func (cs *clusters) close() {
	cs.mu.Lock()
	cs.closed = true
	for _, c := range cs.open {
		c.end()
	}
	cs.mu.Unlock()
	cs.running.Wait()
}

func fetchSettings(f config.Fetch) fetch.Settings {
	return fetch.Settings{Lanes: f.Lanes, MaxBytes: int(f.MaxBytes), MaxWait: f.MaxWait}
}
