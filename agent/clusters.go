package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
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

	outages *outages

	mu      sync.Mutex
	open    []*cluster
	refused []*refusal // of clusters that may have no user any more
	pins    map[string]*fetch.Pin
	closed  bool
	running sync.WaitGroup
}

// A cluster is one in use.
type cluster struct {
	*fetch.Fetcher
	spec      config.Cluster // how to reach it, see reachOf
	addresses string         // identifies the brokers, see hashAddresses
	users     int            // guarded by clusters.mu
	end       context.CancelFunc
	door      admission // for members that join for the first time
	refusal   *refusal

	mu   sync.Mutex
	keys *credentials // in use; nil before they could be read
}

// credentials are those that all connections to the cluster use: what was read
// first, until renew. So a broken file breaks no connection that is made anew
// with what worked before.
func (c *cluster) credentials() (*credentials, error) {
	c.mu.Lock()
	keys := c.keys
	c.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	keys, err := readCredentials(c.spec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = keys
	}
	return c.keys, nil
}

// renew reads the credentials anew. If they have changed, the fetcher makes its
// connections anew with them, each after its request in flight.
func (c *cluster) renew() (*credentials, error) {
	keys, err := readCredentials(c.spec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	same := c.keys != nil && maps.Equal(c.keys.prints, keys.prints)
	if same {
		keys = c.keys
	} else {
		keys.since = time.Now()
	}
	c.keys = keys
	c.mu.Unlock()
	if !same {
		c.Reconnect()
	}
	return keys, nil
}

// heed takes in an error on the way to the cluster: credentials that were refused
// are good for no other connection either, while those that were made before may
// live on for long.
func (c *cluster) heed(err error) {
	c.mu.Lock()
	keys := c.keys
	c.mu.Unlock()
	if keys == nil || !c.refusal.note(keys, err) {
		return
	}
	if keys.tokens != nil && errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
		keys.tokens.forget()
	}
}

// reachOf is c without what is changed in place: consumers that reach a cluster in the
// same way share it.
func reachOf(c config.Cluster) config.Cluster {
	c.Fetch, c.Rack = config.Fetch{}, ""
	return c
}

// join returns the cluster of spec. Each join needs a leave.
func (cs *clusters) join(spec config.Consumer) *cluster {
	reach := reachOf(spec.Cluster)
	settings := fetchSettings(spec.Cluster)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open {
		if reflect.DeepEqual(c.spec, reach) {
			c.users++
			c.Update(settings)
			return c
		}
	}
	name := cmp.Or(spec.ClusterName, strings.Join(spec.Cluster.Brokers, ","))
	ctx, end := context.WithCancel(context.Background())
	c := &cluster{spec: reach, addresses: hashAddresses(reach.Brokers), users: 1, end: end, door: newAdmission(), refusal: cs.recall(reach)}
	c.Fetcher = fetch.New(fetch.Options{Name: name, Brokers: reach.Brokers, Pin: cs.pin(reach.Brokers), Settings: settings, Log: cs.log, Config: c.config})
	cs.open = append(cs.open, c)
	if cs.closed { // a zombie comes late
		end()
	}
	cs.running.Go(func() { _ = c.Run(ctx) })
	return c
}

// config is how the fetcher connects.
func (c *cluster) config() (*sarama.Config, error) {
	keys, err := c.credentials()
	if err == nil {
		err = c.refusal.holds(keys)
	}
	if err != nil {
		return nil, err
	}
	return clusterConfig("kcagent", c.spec, keys)
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
	if !c.refusal.over() && !slices.Contains(cs.refused, c.refusal) {
		cs.refused = append(cs.refused, c.refusal)
	}
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

func fetchSettings(c config.Cluster) fetch.Settings {
	f := c.Fetch
	return fetch.Settings{Lanes: f.Lanes, MaxBytes: int(f.MaxBytes), MaxWait: f.MaxWait, Rack: c.Rack}
}
