package agent

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/config"
	"kcagent/fetch"
)

// clusters holds one cluster for each Kafka cluster in use. Consumers that reach it in the
// same way share it: the first one opens it, and it ends with the last one.
type clusters struct {
	log     *slog.Logger
	rematch time.Duration // how often members check which topics match; tests shorten it

	breakers loginBreakers

	mu      sync.Mutex
	inUse   []*cluster
	pins    map[string]*fetch.Pin // by brokersKey
	closed  bool
	running sync.WaitGroup
}

// acquire returns the cluster of spec. Each call needs a release.
func (cs *clusters) acquire(spec config.Consumer) *cluster {
	reach := reachOf(spec.Cluster)
	settings := fetchSettings(spec.Cluster)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.inUse {
		if reflect.DeepEqual(c.reach, reach) {
			c.users++
			c.Update(settings)
			return c
		}
	}
	name := cmp.Or(spec.ClusterName, strings.Join(spec.Cluster.Brokers, ","))
	ctx, end := context.WithCancel(context.Background())
	c := &cluster{reach: reach, brokers: hashBrokers(reach.Brokers), users: 1, end: end, admission: newAdmission(), breakers: &cs.breakers}
	c.Fetcher = fetch.New(fetch.Options{Name: name, Brokers: reach.Brokers, Pin: cs.pin(reach.Brokers), Settings: settings, Log: cs.log, Config: c.config})
	cs.inUse = append(cs.inUse, c)
	if cs.closed { // a zombie asks for it after the end
		end()
	}
	cs.running.Go(func() { _ = c.Run(ctx) })
	return c
}

// release ends the cluster if no other consumer uses it.
func (cs *clusters) release(c *cluster) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.users--
	if c.users > 0 {
		return
	}
	c.end()
	if creds := c.credentialsInUse(); creds != nil {
		cs.breakers.put(creds.breaker)
	}
	cs.inUse = slices.DeleteFunc(cs.inUse, func(o *cluster) bool { return o == c })
}

// close ends all clusters, even those in use, and returns when they have ended.
func (cs *clusters) close() {
	cs.mu.Lock()
	cs.closed = true
	for _, c := range cs.inUse {
		c.end()
	}
	cs.mu.Unlock()
	cs.running.Wait()
}

// open returns the clusters in use, the one that was opened first at the front.
func (cs *clusters) open() []*cluster {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Clone(cs.inUse)
}
