package generation

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/logkey"
	"kcagent/sink"
)

// openPartition has the sink open what it holds of p, and decides where p resumes.
func (g *Generation) openPartition(ctx context.Context, p *Partition) (offsets.Decision, error) {
	l, err := g.env.Sink.Resume(ctx, p.TopicPartition, g.commitsOf)
	if err != nil {
		return offsets.Decision{}, err
	}
	now := g.identity(p)
	if offsets.Differ(now.Cluster, g.clusterID) { // the committed offsets are another cluster's
		return offsets.Decision{}, ErrClusterChanged
	}
	// If the ledger was found to be a copy before, its commits may still have the former id.
	copies := &g.env.History.copies
	id, inLedger := l.ID, l.Next >= 0
	l.ID = copies.Original(id, p.TopicPartition)
	c, before := p.decisionInput(&l)
	d := offsets.Decide(c, l, now, g.policy(p))
	if d.Copied {
		id = copies.Rename(l.ID)
	}
	d.Adopt = d.Adopt || id != "" && !inLedger && !d.Blocked
	copies.MarkDecided(id, p.TopicPartition)
	if d.Lineage == "" && d.Reason == before.reason {
		d.Lineage = before.lineage
	}
	if d.Lineage == "" {
		d.Lineage = offsets.NewID()
	}
	p.setDecision(d, sink.Ledger{ID: id, Planned: l.Planned}, now)
	p.windows = l.Windows
	switch {
	case d.Reason == offsets.PlanWithoutObjects, d.Reason == offsets.PlanUnreadable:
		return d, blockedByPlan(p, d, c)
	case d.Reason == offsets.ClusterReplaced:
		return d, fmt.Errorf("resume %s/%d: %w", p.Topic, p.Partition, &kafka.ClusterReplacedError{Brokers: g.StartedWith.Cluster.Brokers, Was: l.Topic.Cluster, Now: now.Cluster})
	case d.Blocked:
		return d, fmt.Errorf("resume %s/%d: %w, and on_offset_out_of_range is fail: choose earliest or latest, or stop the consumer and reset the group's offsets",
			p.Topic, p.Partition, &recreatedError{p.Topic})
	case before.reopened && l.Planned && d.Reason == before.reason:
		g.env.Log.Info("sink was reopened; resuming at the committed offset", logkey.Topic, p.Topic, logkey.Partition, p.Partition, logkey.Offset, d.Offset)
	case before.reopened && !l.Planned && d.Reason.Level < slog.LevelWarn:
		g.env.Log.Info("sink was reopened; resuming after the last flushed record", logkey.Topic, p.Topic, logkey.Partition, p.Partition, logkey.Offset, d.Offset)
	case d.Reason != before.reason:
		g.logDecision(p, d, c, l)
	}
	return d, nil
}

// A planError says why an open plan keeps a partition from resuming.
type planError struct{ error }

// blockedByPlan explains a decision that an open plan blocks.
func blockedByPlan(p *Partition, d offsets.Decision, c offsets.Committed) error {
	if d.Plan == nil {
		return &planError{fmt.Errorf("resume %s/%d: this version of the agent cannot complete the open plan at offset %d (%s): run the version that committed it until the plan is completed",
			p.Topic, p.Partition, c.Offset, c.Meta.BadPlan)}
	}
	return &planError{fmt.Errorf("resume %s/%d: objects of the offsets from %d to %d are planned at %s and may be incomplete: restore sink.objects until the plan is completed",
		p.Topic, p.Partition, d.Plan.First, d.Plan.Next-1, cmp.Or(d.Plan.Settings["url"], "an unknown url"))}
}

// policy is what the configuration says of p.
func (g *Generation) policy(p *Partition) offsets.Policy {
	spec := g.StartedWith
	start := offsets.StartPoint{Offset: sarama.OffsetOldest, At: spec.Start.At}
	switch {
	case p.addedLater:
		start = offsets.StartPoint{Offset: sarama.OffsetOldest}
	case spec.Start.Latest:
		start.Offset = sarama.OffsetNewest
	}
	return offsets.Policy{Start: start, OutOfRange: spec.OnOutOfRange, Recreated: p.recreated}
}

// commitsOf implements [sink.Commits].
func (g *Generation) commitsOf(ledgerID string) map[sink.TopicPartition]sink.Position {
	commits := make(map[sink.TopicPartition]sink.Position)
	for tp, p := range g.partitions {
		if pos, ok := p.committedIn(ledgerID, g.identity(p)); ok {
			commits[tp] = pos
		}
	}
	return commits
}

// identity distinguishes the current topic of p from deleted topics of its name, and from
// topics of that name in other clusters.
func (g *Generation) identity(p *Partition) sink.Identity {
	cluster, topic := g.env.Cluster.Identity(p.Topic)
	return sink.Identity{Cluster: cluster, Topic: topic, Brokers: g.env.Cluster.Brokers}
}

// A startCount counts the partitions to which the start policy was applied, so that one log
// line reports all partitions of a new group.
type startCount struct {
	mu         sync.Mutex
	all, later int  // not reported yet; later: added after the group started
	opened     bool // every partition was opened once: each further one has a line of its own
}

// add counts a partition. It reports whether it has to be reported now.
func (c *startCount) add(addedLater bool) (now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all++
	if addedLater {
		c.later++
	}
	return c.opened
}

// take returns the numbers to report, and counts from 0.
func (c *startCount) take() (all, later int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, later = c.all, c.later
	c.all, c.later, c.opened = 0, 0, true
	return all, later
}

// countOpened counts the first attempt to open p. After that of the last partition, it
// reports to how many the start policy was applied.
func (g *Generation) countOpened(p *Partition) {
	if p.openAttempted {
		return
	}
	p.openAttempted = true
	if g.unopened.Add(-1) == 0 {
		g.logStarts()
	}
}

func (g *Generation) logStarts() {
	if all, later := g.starts.take(); all > 0 {
		g.env.Log.Info(offsets.NoCommittedStart.Message, logkey.Start, g.StartedWith.Start.String(), logkey.Partitions, all, logkey.AddedLater, later)
	}
}

// logDecision logs why p resumes where it does, and counts it.
func (g *Generation) logDecision(p *Partition, d offsets.Decision, c offsets.Committed, l sink.Ledger) {
	log := g.env.Log.With(logkey.Topic, p.Topic, logkey.Partition, p.Partition)
	if !l.Planned && !l.Windows { // those have no single file with a position
		log = log.With(logkey.InFile, l.Next)
	}
	switch d.Reason {
	case offsets.NoCommittedStart:
		g.env.Stats.Starts.Add(1)
		if g.starts.add(p.addedLater) {
			g.logStarts()
		}
		return
	case offsets.TopicRecreated:
		g.env.Stats.OffsetResets.Add(1)
		log = log.With(logkey.Policy, string(g.StartedWith.OnOutOfRange))
	case offsets.AtExternalReset, offsets.AtMovedPlan:
		g.env.Stats.OffsetResets.Add(1)
	case offsets.AtCommitOfCopy:
		g.env.Stats.LedgerCopies.Add(1)
		from, gap, offset := any("unknown"), any("unknown"), "FROM"
		if l.Next >= 0 {
			from, gap, offset = l.Next, c.Offset-l.Next, strconv.FormatInt(l.Next, 10)
		}
		log = log.With(logkey.From, from, logkey.To, c.Offset, logkey.Gap, gap, logkey.NextStep, fmt.Sprintf(
			"to read the missing records again, stop the consumer, run kafka-consumer-groups --group %s --topic %s:%d --reset-offsets --to-offset %s --execute, and start it",
			g.StartedWith.Group, p.Topic, p.Partition, offset))
	case offsets.AtMismatch:
		g.env.Stats.LedgerCopies.Add(1)
		log = log.With(logkey.NextStep, "if the file and its checkpoint are a copy or a restored backup, find the first record that is missing, stop the consumer, reset the group's offset to it, and start the consumer")
	}
	log.Log(context.Background(), d.Reason.Level, d.Reason.Message, logkey.Offset, d.Offset, logkey.Committed, c.Offset)
}
