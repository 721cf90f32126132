// Package precheck probes whether a consumer could run: brokers, topics, group, advertised
// addresses and sink. The agent calls [ProbeEach] before it stops a running consumer for a
// change, and `kcagent validate --online` calls [Probe].
//
// # Rules
//
//   - A probe must not change a group. It asks the coordinator with a member id that does not
//     exist: Kafka checks permission, session timeout and protocols first, and then rejects
//     it. A JoinGroup request without a member id would leave a pending member, for which the
//     next rebalance waits.
//   - Groups of one cluster are checked at once. One after the other, those of a far cluster
//     would take longer than a pre-check may.
package precheck

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// A Finding is a problem of one consumer that Probe found.
type Finding struct {
	Consumer string
	Field    string // of the consumer in the file: topics, topics_regex, group, cluster or sink
	Err      error
}

// probeTimeout limits the probe of one cluster.
const probeTimeout = 20 * time.Second

// Probe checks what the consumers need, without joining a group or opening a file for
// writing: the brokers are reachable, the credentials are accepted, the topics exist, the
// group's coordinator can be found and reached and would accept the member, and the sinks are
// writable. Consumers of one cluster share one connection. The findings are in the order of
// consumers.
//
// A locked file is not a finding, because the agent that will run the consumers may hold it.
func Probe(ctx context.Context, consumers []config.Consumer) []Finding {
	found := make([][]Finding, len(consumers))
	var wg sync.WaitGroup
	wg.Add(len(consumers))
	notPinned := func([]string) string { return "" }
	ProbeEach(ctx, consumers, Options{CheckSink: kinds.Check, PinnedCluster: notPinned}, func(i int, f []Finding) {
		found[i] = f
		wg.Done()
	})
	wg.Wait()
	var all []Finding
	for _, f := range found {
		all = append(all, f...)
	}
	return all
}

// Options say how a probe checks what depends on its caller.
type Options struct {
	CheckSink     func(context.Context, sink.Spec) error // returns why a sink cannot be opened
	PinnedCluster func(brokers []string) string          // returns the id of the cluster that brokers are pinned to; "" if none
}

// ProbeEach calls report once for each consumer, with its findings, as soon as they are
// known. report is called by several goroutines, with the consumer's index. ProbeEach returns
// when all clusters are checked, which takes probeTimeout at most and ends soon after ctx;
// a check of a sink on a file system that hangs may be reported later.
func ProbeEach(ctx context.Context, consumers []config.Consumer, o Options, report func(i int, found []Finding)) {
	answers := make([]chan []Finding, len(consumers))
	var groups [][]int // consumers of one cluster
next:
	for i, c := range consumers {
		answers[i] = make(chan []Finding, 1)
		go func() {
			var err error
			if c.Sink.Kind() != "" { // a pre-check of new credentials checks the cluster alone
				for _, s := range c.Sinks() {
					err = errors.Join(err, o.CheckSink(ctx, s))
				}
			}
			found := <-answers[i]
			if err != nil {
				found = append(found, Finding{c.Name, "sink", err})
			}
			report(i, found)
		}()
		for g, have := range groups {
			if reflect.DeepEqual(consumers[have[0]].Cluster, c.Cluster) {
				groups[g] = append(have, i)
				continue next
			}
		}
		groups = append(groups, []int{i})
	}
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() {
			cs := make([]config.Consumer, len(g))
			for at, i := range g {
				cs[at] = consumers[i]
			}
			probeCluster(ctx, cs, o.PinnedCluster(cs[0].Cluster.Brokers), func(at int, found []Finding) { answers[g[at]] <- found })
		})
	}
	wg.Wait()
}

// probeCluster checks everything that consumers need of one cluster. If the cluster is
// pinned, brokers of other clusters are rejected.
func probeCluster(ctx context.Context, consumers []config.Consumer, pinned string, report func(i int, found []Finding)) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cluster := consumers[0].Cluster
	brokers := "reach brokers " + strings.Join(cluster.Brokers, ",")
	p := &clusterProbe{brokers: brokers, coordinators: make(map[string]*coordinatorProbe), reached: make(map[string]func() error), Fetcher: fetch.New(fetch.Options{
		Name: "probe", Brokers: cluster.Brokers, Pin: fetch.NewPin(pinned),
		Config: func() (*sarama.Config, error) {
			creds, err := login.ReadCredentials(cluster)
			if err != nil {
				return nil, err
			}
			return kafka.SaramaConfig("kcagent/probe", cluster, creds)
		},
	})}
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := p.loadTopics(ctx, consumers); err != nil {
		err = timeoutError(ctx, brokers, err)
		for i, c := range consumers {
			report(i, []Finding{{c.Name, "cluster", kafka.ExplainFirst(&c, err)}})
		}
		return
	}
	var checking sync.WaitGroup // at once: one after the other, a cluster with a long round trip would take minutes
	for i := range consumers {
		checking.Go(func() { report(i, p.checkConsumer(ctx, &consumers[i])) })
	}
	checking.Wait()
	p.closeLinks()
}

// timeoutError returns err, or an error that names the operation if the time of the probe is
// over.
func timeoutError(ctx context.Context, what string, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: no response within %s", what, probeTimeout)
	}
	return err
}

// A clusterProbe is the probe of one cluster, over connections of its own.
type clusterProbe struct {
	*fetch.Fetcher
	brokers string   // names the brokers in errors
	all     []string // every topic, if a consumer has topics_regex

	mu           sync.Mutex
	coordinators map[string]*coordinatorProbe // by address
	reached      map[string]func() error      // by address
}

// loadTopics requests the metadata of all topics at once. Its error concerns every consumer.
func (p *clusterProbe) loadTopics(ctx context.Context, consumers []config.Consumer) error {
	var topics []string
	patterns := false
	for _, c := range consumers {
		topics = append(topics, c.Topics...)
		patterns = patterns || c.TopicsRegex != ""
	}
	if err := p.Refresh(ctx, topics); err != nil && !errors.As(err, new(*fetch.TopicError)) {
		return err
	}
	if !patterns {
		return nil
	}
	var err error
	p.all, err = p.Topics(ctx, 0)
	return err
}

// checkConsumer returns what is wrong with one consumer. It may be called concurrently.
func (p *clusterProbe) checkConsumer(ctx context.Context, c *config.Consumer) (found []Finding) {
	topics := c.Topics
	for _, t := range c.Topics {
		if _, err := p.Partitions(t); err != nil {
			found = append(found, Finding{c.Name, "topics", &fetch.TopicError{Topic: t, Err: err}})
		}
	}
	if c.TopicsRegex != "" {
		var err error
		if topics, err = kafka.Matching(p.all, c.TopicsRegex); err != nil {
			found = append(found, Finding{c.Name, "topics_regex", err})
		}
	}
	id, addr, err := p.coordinator(ctx, c.Group)
	if err != nil {
		err = kafka.Explain(c, err)
		return append(found, Finding{c.Name, "group", fmt.Errorf("find the coordinator of group %s: %w", c.Group, err)})
	}
	q := &groupCheck{spec: c, topics: topics}
	p.coordinatorAt(addr).check(ctx, q)
	switch {
	case q.failed != nil:
		err = advertised(c, advertisedBroker{id, addr}, kafka.Explain(c, timeoutError(ctx, "connect to "+addr, q.failed)))
		return append(found, Finding{c.Name, "group", fmt.Errorf("reach the coordinator of group %s: %w", c.Group, err)})
	case q.err != nil:
		found = append(found, Finding{c.Name, "group", q.err})
	}
	return append(found, p.reachLeaders(ctx, c, q.leaders)...)
}
