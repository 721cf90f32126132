package generation

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
)

// subscribe subscribes to the position of a decision, with the settings in force.
func (g *Generation) subscribe(p *Partition, d offsets.Decision) *fetch.Subscription {
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	sub := g.env.Cluster.Subscribe(g.subscriptionSpec(p, d))
	p.subscription.Store(sub)
	p.held.Store(false)
	g.watchdog.fetchChanged() // a fault of the former subscription may be over
	return sub
}

// deletedTopic returns a topic of the generation that does not exist any more, as far as
// the shared metadata of the cluster says.
func (g *Generation) deletedTopic() (topic string, ok bool) {
	for _, t := range g.Topics {
		if _, err := g.env.Cluster.Partitions(t); errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return t, true
		}
	}
	return "", false
}

// partitionsChanged reports whether a topic of any member has another number of partitions than it
// was assigned with, or can no longer be looked up. It returns false unless this member is the
// leader of the group. sarama would use a goroutine of its own; see [group.Config].
func (g *Generation) partitionsChanged() bool {
	for topic, assigned := range g.env.Client.Assigned(g.ID()) {
		if ids, err := g.env.Cluster.Partitions(topic); err != nil || len(ids) != assigned {
			return true
		}
	}
	return false
}

// subscriptionSpec says what to fetch of p.
func (g *Generation) subscriptionSpec(p *Partition, d offsets.Decision) fetch.Spec {
	spec := g.env.Spec.Load()
	isolation, policy := spec.Isolation, spec.OnOutOfRange
	if d.Plan != nil { // what the log has lost is reported, and the rest is published
		isolation, policy = config.Isolation(d.Plan.Settings[planIsolation]), config.ResetEarliest
	}
	offset, at := d.Offset, time.Time{}
	if offset < 0 {
		offset, at = d.Start.Offset, d.Start.At
	}
	return fetch.Spec{
		Topic: p.Topic, Partition: p.Partition, Offset: offset, Epoch: d.Epoch, Time: at,
		ReadCommitted: isolation == config.ReadCommitted,
		MaxBytes:      int(spec.MaxPartitionBytes),
		OnOutOfRange:  outOfRangePolicies[policy],
		Paused:        g.env.Gate.IsShut(),
		Changed:       g.watchdog.fetchChanged,
		Truncated:     func(e fetch.TruncatedError) { g.logTruncated(e, policy) },
		Reset:         func(e fetch.OutOfRangeError) { g.logOutOfRange(e, policy) },
	}
}

var outOfRangePolicies = map[config.OutOfRange]fetch.Policy{
	config.ResetEarliest: fetch.Earliest,
	config.ResetLatest:   fetch.Latest,
	config.Fail:          fetch.Fail,
}

// logOutOfRange logs and counts that on_offset_out_of_range moved the position of a
// partition.
func (g *Generation) logOutOfRange(e fetch.OutOfRangeError, policy config.OutOfRange) {
	g.env.Stats.OffsetResets.Add(1)
	g.env.Log.Warn("offset out of range; applying on_offset_out_of_range", logkey.Topic, e.Topic, logkey.Partition, e.Partition,
		logkey.Offset, e.Offset, logkey.First, e.Start, logkey.End, e.End, logkey.Policy, string(policy))
}

// logTruncated logs and counts that the log of a partition was truncated, and that
// on_offset_out_of_range moved its position.
func (g *Generation) logTruncated(e fetch.TruncatedError, policy config.OutOfRange) {
	g.env.Stats.OffsetResets.Add(1)
	g.env.Stats.Truncations.Add(1)
	diverging := any("unknown")
	if e.Diverging >= 0 {
		diverging = e.Diverging
	}
	g.env.Log.Warn("log truncated", logkey.Topic, e.Topic, logkey.Partition, e.Partition, logkey.From, e.Offset, logkey.To, e.To, logkey.Diverging, diverging,
		logkey.Epoch, e.Epoch.String(), logkey.LeaderEpoch, e.Leader.String(), logkey.Policy, string(policy))
}

// tuneSubscriptions applies settings, and the gate, to every subscription. Later ones are
// created with them.
func (g *Generation) tuneSubscriptions(spec *config.Consumer) {
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	paused := g.env.Gate.IsShut()
	for _, p := range g.partitions {
		sub := p.subscription.Load()
		switch {
		case sub == nil:
			continue
		case paused || p.held.Load():
			sub.Pause()
		default:
			sub.Resume()
		}
		if !paused && p.completing() { // it may wait for the gate without waiting for records
			p.work.Request()
		}
		sub.SetMaxBytes(int(spec.MaxPartitionBytes))
	}
}

// takes reports whether the sink takes a chunk of p now. If not, nothing is fetched for p, and the
// sink requests its work, see SinkReady.
func (g *Generation) takes(p *Partition, sub *fetch.Subscription) bool {
	_, ok := g.env.Sink.Limits(p.TopicPartition)
	if ok != p.held.Load() { // no change
		return ok
	}
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	p.held.Store(!ok)
	switch {
	case !ok:
		sub.Pause()
	case !g.env.Gate.IsShut():
		sub.Resume()
	}
	return ok
}

// reportFetchFaults reports why partitions cannot be fetched, and when that is over. The
// watchdog calls it.
func (g *Generation) reportFetchFaults() {
	for _, p := range g.partitions {
		var err error
		if sub := p.subscription.Load(); sub != nil {
			err = sub.LastError()
		}
		switch {
		case err == nil && p.fetchFault != "":
			p.fetchFault = ""
			g.env.Observer.Report(fetchOrigin(p), nil)
		case err != nil && p.fetchFault != err.Error():
			p.fetchFault = err.Error()
			g.env.Observer.Report(fetchOrigin(p), kafka.Explain(g.StartedWith, err))
		}
	}
}

func fetchOrigin(p *Partition) string { return fmt.Sprintf("fetch %s/%d", p.Topic, p.Partition) }
