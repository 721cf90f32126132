package kafka

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
)

// rematchInterval is how often a member that follows topics_regex looks up the topics. With
// jitter, and because a topic is left out only by the second list that lacks it, a change
// takes effect within a minute. Half of the interval is how old a list may be, which all
// members of the cluster share.
const rematchInterval = 20 * time.Second

// Clusters holds one cluster for each Kafka cluster in use. Consumers that reach it in the
// same way share it: the first one opens it, and it ends with the last one.
type Clusters struct {
	log     *slog.Logger
	Rematch time.Duration // how often members check which topics match; tests shorten it

	breakers login.Breakers

	mu      sync.Mutex
	inUse   []*Cluster
	pins    map[string]*fetch.Pin // by brokersKey
	closed  bool
	running sync.WaitGroup
}

// NewClusters returns no clusters yet. The fetchers log to log.
func NewClusters(log *slog.Logger) *Clusters {
	return &Clusters{log: log, Rematch: rematchInterval}
}

// Acquire returns the cluster of spec. Each call needs a Release.
func (cs *Clusters) Acquire(spec *config.Consumer) *Cluster {
	reach := ReachOf(spec.Cluster)
	settings := FetchSettings(spec.Cluster)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.inUse {
		if reflect.DeepEqual(c.Reach, reach) {
			c.users++
			c.Update(settings)
			return c
		}
	}
	name := cmp.Or(spec.ClusterName, strings.Join(spec.Cluster.Brokers, ","))
	ctx, end := context.WithCancel(context.Background())
	c := &Cluster{Reach: reach, Brokers: hashBrokers(reach.Brokers), users: 1, end: end, Admission: newAdmission(), breakers: &cs.breakers}
	c.Fetcher = fetch.New(fetch.Options{Name: name, Brokers: reach.Brokers, Pin: cs.pin(reach.Brokers), Settings: settings, Log: cs.log, Config: c.Config, Failed: c.RecordError})
	cs.inUse = append(cs.inUse, c)
	if cs.closed { // a zombie asks for it after the end
		end()
	}
	cs.running.Go(func() { _ = c.Run(ctx) })
	return c
}

// Release ends the cluster if no other consumer uses it.
func (cs *Clusters) Release(c *Cluster) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.users--
	if c.users > 0 {
		return
	}
	c.end()
	if creds := c.credentialsInUse(); creds != nil {
		cs.breakers.Put(creds.Breaker)
	}
	cs.inUse = slices.DeleteFunc(cs.inUse, func(o *Cluster) bool { return o == c })
}

// Close ends all clusters, even those in use, and returns when they have ended.
func (cs *Clusters) Close() {
	cs.mu.Lock()
	cs.closed = true
	for _, c := range cs.inUse {
		c.end()
	}
	cs.mu.Unlock()
	cs.running.Wait()
}

// Open returns the clusters in use, the one that was opened first at the front.
func (cs *Clusters) Open() []*Cluster {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Clone(cs.inUse)
}
