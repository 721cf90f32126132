package precheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/group"
	"kcagent/agent/kafka"
	"kcagent/config"
)

// coordinator looks up the coordinator of a group. A new cluster has none until the brokers
// have created the topic of committed offsets, which the first request triggers.
func (p *clusterProbe) coordinator(ctx context.Context, name string) (id int32, addr string, err error) {
	for {
		id, addr, err = p.Coordinator(ctx, name)
		if !errors.Is(err, sarama.ErrConsumerCoordinatorNotAvailable) {
			return id, addr, timeoutError(ctx, p.brokers, err)
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < 2*group.CoordinatorPause {
			return 0, "", fmt.Errorf("%w; the cluster may be new, or the brokers with partitions of __consumer_offsets may be down", err)
		}
		select {
		case <-ctx.Done():
			return 0, "", ctx.Err()
		case <-time.After(group.CoordinatorPause):
		}
	}
}

// coordinatorAt returns the probe of the coordinator at an address.
func (p *clusterProbe) coordinatorAt(addr string) *coordinatorProbe {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.coordinators[addr]
	if c == nil {
		c = &coordinatorProbe{clusterProbe: p, addr: addr, leaders: make(map[string][]advertisedBroker)}
		p.coordinators[addr] = c
	}
	return c
}

// closeLinks closes the connections to coordinators at the end of the probe.
func (p *clusterProbe) closeLinks() {
	for _, c := range p.coordinators {
		if c.link != nil {
			c.link.Close()
		}
	}
}

// reach connects to a broker, once for all consumers.
func (p *clusterProbe) reach(ctx context.Context, addr string) error {
	p.mu.Lock()
	reach := p.reached[addr]
	if reach == nil {
		reach = sync.OnceValue(func() error { return p.Reach(ctx, addr) })
		p.reached[addr] = reach
	}
	p.mu.Unlock()
	return reach()
}

// reachLeaders connects to the leaders of a consumer's topics.
func (p *clusterProbe) reachLeaders(ctx context.Context, c *config.Consumer, leaders []advertisedBroker) (found []Finding) {
	slices.SortFunc(leaders, func(a, b advertisedBroker) int { return int(a.id - b.id) })
	leaders = slices.Compact(leaders)
	leaders = leaders[:min(len(leaders), maxLeaders)]
	errs := make([]error, len(leaders))
	slots := make(chan struct{}, maxConnects)
	var reaching sync.WaitGroup
	for i, n := range leaders {
		slots <- struct{}{}
		reaching.Go(func() {
			errs[i] = p.reach(ctx, n.addr)
			<-slots
		})
	}
	reaching.Wait()
	field := "topics"
	if c.TopicsRegex != "" {
		field = "topics_regex"
	}
	for i, n := range leaders {
		if errs[i] != nil {
			err := advertised(c, n, kafka.Explain(c, timeoutError(ctx, "connect to "+n.addr, errs[i])))
			found = append(found, Finding{c.Name, field, fmt.Errorf("reach a leader of the topics: %w", err)})
		}
	}
	return found
}

// advertised adds to an error which broker advertises the address, unless the file has the
// address.
func advertised(c *config.Consumer, n advertisedBroker, err error) error {
	if slices.Contains(c.Cluster.Brokers, n.addr) {
		return err
	}
	return fmt.Errorf("broker %d advertises %s (its advertised.listeners; not in the file): "+
		"change that setting, or make the address reachable from this host: %w", n.id, n.addr, err)
}
