package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/sink"
)

// A Finding is what Probe found wrong with one consumer.
type Finding struct {
	Consumer string
	Field    string // of the consumer in the file: topics, group, cluster or sink
	Err      error
}

// probeTimeout bounds a probe of one cluster.
const probeTimeout = 20 * time.Second

// Probe tries what the consumers need, without joining a group or touching a
// file: brokers reachable, credentials accepted, topics there, the group's
// coordinator found, sinks writable. Consumers of one cluster share one
// connection. The findings come in the order of consumers.
func Probe(ctx context.Context, consumers []config.Consumer) []Finding {
	var clusters [][]config.Consumer
next:
	for _, c := range consumers {
		for i, have := range clusters {
			if reflect.DeepEqual(have[0].Cluster, c.Cluster) {
				clusters[i] = append(have, c)
				continue next
			}
		}
		clusters = append(clusters, []config.Consumer{c})
	}
	found := make(map[string][]Finding)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, cs := range clusters {
		wg.Go(func() {
			for _, f := range probeCluster(ctx, cs) {
				mu.Lock()
				found[f.Consumer] = append(found[f.Consumer], f)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var all []Finding
	for _, c := range consumers {
		all = append(all, found[c.Name]...)
		if err := sink.Check(c.Sink); err != nil {
			all = append(all, Finding{c.Name, "sink", err})
		}
	}
	return all
}

// probeCluster asks one cluster for everything that its consumers need.
func probeCluster(ctx context.Context, consumers []config.Consumer) []Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	d := newDialer()
	context.AfterFunc(ctx, d.Cut) // the only way to cancel sarama's requests
	everyone := func(err error) []Finding {
		all := make([]Finding, len(consumers))
		for i, c := range consumers {
			all[i] = Finding{c.Name, "cluster", err}
		}
		return all
	}
	conf, err := clusterConfig("kcagent/probe", consumers[0].Cluster)
	if err != nil {
		return everyone(err)
	}
	conf.Net.Proxy.Enable, conf.Net.Proxy.Dialer = true, d
	conf.Metadata.Retry.Max = 0
	brokers := consumers[0].Cluster.Brokers
	client, err := sarama.NewClient(brokers, conf)
	if err != nil {
		return everyone(fmt.Errorf("connect to %s: %w", strings.Join(brokers, ","), err))
	}
	defer client.Close()

	topics := make(map[string]error)
	var all []Finding
	for _, c := range consumers {
		for _, t := range c.Topics {
			err, asked := topics[t]
			if !asked {
				err = client.RefreshMetadata(t)
				topics[t] = err
			}
			switch {
			case errors.Is(err, sarama.ErrOutOfBrokers), errors.Is(err, sarama.ErrSASLAuthenticationFailed):
				return everyone(fmt.Errorf("reach %s: %w", strings.Join(brokers, ","), err))
			case err != nil:
				all = append(all, Finding{c.Name, "topics", fmt.Errorf("topic %q: %w", t, err)})
			}
		}
		if _, err := client.Coordinator(c.Group); err != nil {
			all = append(all, Finding{c.Name, "group", fmt.Errorf("find the coordinator of group %s: %w", c.Group, err)})
		}
	}
	return all
}
