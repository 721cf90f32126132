package generation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/agent/reject"
	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/logkey"
	"kcagent/retry"
	"kcagent/sink"
)

// adoptDelay is how long the first of several partitions waits for the others before the
// flusher starts, so that one flush and one commit serve all of them.
const adoptDelay = 20 * time.Millisecond

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
	p.setDecision(d, id, now)
	switch {
	case d.Reason == offsets.ClusterReplaced:
		return d, fmt.Errorf("resume %s/%d: %w", p.Topic, p.Partition, &kafka.ClusterReplacedError{Brokers: g.StartedWith.Cluster.Brokers, Was: l.Topic.Cluster, Now: now.Cluster})
	case d.Blocked:
		return d, fmt.Errorf("resume %s/%d: %w, and on_offset_out_of_range is fail: choose earliest or latest, or stop the consumer and reset the group's offsets",
			p.Topic, p.Partition, &recreatedError{p.Topic})
	case before.reopened && d.Reason.Level < slog.LevelWarn:
		g.env.Log.Info("sink was reopened; resuming after the last flushed record", logkey.Topic, p.Topic, logkey.Partition, p.Partition, logkey.Offset, d.Offset)
	case d.Reason != before.reason:
		g.logDecision(p, d, c, l)
	}
	return d, nil
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

// resume subscribes to the decided position, and adopts it.
func (g *Generation) resume(p *Partition, r *round, d offsets.Decision) error {
	r.sub = g.subscribe(p, d)
	if pos, _ := p.position(); offsets.Differ(g.identity(p).Topic, pos.Topic.Topic) { // recreated between the two
		return &fetch.RecreatedError{Topic: p.Topic}
	}
	next, outOfRange, err := g.resolvePosition(r.ctx, p, r.sub)
	if err != nil {
		return err
	}
	if outOfRange {
		return g.resetPosition(r.ctx, p, next, r.sub.Epoch())
	}
	pos, _ := p.position()
	pos.Next, pos.Epoch = next, r.sub.Epoch()
	return g.adoptPosition(r.ctx, p, pos, d.Adopt, d.Adopt, d.Commit)
}

// resolvePosition waits until the leader has resolved the position, or confirmed that it
// is in range. outOfRange says that it was not, and on_offset_out_of_range moved it.
func (g *Generation) resolvePosition(ctx context.Context, p *Partition, sub *fetch.Subscription) (next int64, outOfRange bool, err error) {
	var wait retry.Backoff
	for {
		if err := sub.Wait(ctx); err != nil {
			return 0, false, err
		}
		// The first Take returns no records.
		next, ok, err := sub.Take(func(*fetch.Record) bool { return false })
		switch {
		case positionLost(err): // the watchdog reports it
			if !wait.Wait(ctx, nil) {
				return 0, false, ctx.Err()
			}
			sub.Retry()
		case err != nil:
			return 0, false, err
		case ok:
			return next, sub.WasReset(), nil
		}
	}
}

// positionLost reports that the log no longer contains the position, and
// on_offset_out_of_range is fail.
func positionLost(err error) bool { return errors.Is(err, sarama.ErrOffsetOutOfRange) }

// adoptPosition makes pos the position of p before the first record. The ledger gets it if
// inLedger is set. The flusher flushes and commits it first, if that is asked for.
func (g *Generation) adoptPosition(ctx context.Context, p *Partition, pos sink.Position, inLedger, flushFirst, commitFirst bool) error {
	if inLedger {
		_, ledgerID := p.position()
		if err := g.env.Sink.Adopt(ctx, p.TopicPartition, g.env.History.copies.Current(ledgerID), pos); err != nil {
			return err
		}
	}
	if ready := p.setPosition(pos, flushFirst, commitFirst); flushFirst || commitFirst {
		if err := g.awaitFlusher(ctx, ready); err != nil {
			return err
		}
	} else {
		g.flusher.request(g.flusher.accepted) // what is committed may be behind
	}
	g.clearSinkFault(p)
	if !p.flowed {
		p.flowed = true
		if g.unpositioned.Add(-1) == 0 {
			g.positioned.Store(true)
			g.env.Observer.Positioned()
		}
	}
	return nil
}

// awaitFlusher has the flusher do what has to be done before the first record.
func (g *Generation) awaitFlusher(ctx context.Context, ready <-chan struct{}) error {
	g.flusher.request(g.flusher.firstFlush)
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resetPosition resumes at an offset that on_offset_out_of_range has led to. It is
// committed before the first record: otherwise a restart would choose again, and skip what
// was produced meanwhile. An earlier offset begins a new lineage, because positions of a
// lineage only grow.
func (g *Generation) resetPosition(ctx context.Context, p *Partition, to int64, epoch leader.Epoch) error {
	pos, ledgerID := p.position()
	if to < pos.Next {
		if to > p.CommittedOffset() {
			// Commit the former position first. Otherwise a crash between the flush of the
			// reset and its commit would lead back to the committed offset, and the file
			// would repeat the records from there.
			if err := g.awaitFlusher(ctx, p.setPosition(pos, true, true)); err != nil {
				return err
			}
		}
		pos.Lineage = offsets.NewID()
	}
	pos.Next, pos.Epoch = to, epoch
	return g.adoptPosition(ctx, p, pos, ledgerID != "", true, true)
}

// commitEarlyStart commits an early start offset for a partition whose sink cannot be opened,
// if a later start would skip records that are produced meanwhile. Once the sink is open,
// [offsets.Decide] finds this commit, and prefers a ledger that has the partition.
func (g *Generation) commitEarlyStart(ctx context.Context, p *Partition) error {
	l, now := sink.Ledger{Position: sink.Position{Next: -1}}, g.identity(p)
	if offsets.Differ(now.Cluster, g.clusterID) {
		return ErrClusterChanged
	}
	c, before := p.decisionInput(&l)
	d := offsets.Decide(c, l, now, g.policy(p))
	if !d.StartMoves() || before.reason == offsets.ClusterReplaced {
		return nil
	}
	pos, _ := p.position()
	if d.Reason != before.reason || pos.Next < 0 || offsets.Differ(pos.Topic.Topic, now.Topic) { // not resolved yet
		d.Lineage = offsets.NewID()
		p.setDecision(d, "", now)
		if d.Reason != before.reason {
			g.logDecision(p, d, c, l)
		}
		sub := g.subscribe(p, d)
		defer sub.Close()
		if pos, _ = p.position(); offsets.Differ(g.identity(p).Topic, pos.Topic.Topic) {
			return &fetch.RecreatedError{Topic: p.Topic}
		}
		next, _, err := g.resolvePosition(ctx, p, sub)
		if err != nil {
			return err
		}
		pos.Next, pos.Epoch = next, sub.Epoch()
	}
	_ = g.awaitFlusher(ctx, p.setEarlyStart(pos)) // an error says that ctx has ended
	return nil
}

// reportSinkFault reports an error of the sink that concerns p.
func (g *Generation) reportSinkFault(p *Partition, err error) {
	// The flusher counts its own errors, and the others are not the sink's.
	if !errors.As(err, new(*flushError)) && !errors.As(err, new(*recreatedError)) && !errors.As(err, new(*kafka.ClusterReplacedError)) &&
		!errors.As(err, new(*reject.StopError)) {
		g.env.Stats.SinkErrors.Add(1)
	}
	p.sinkFailed = true
	g.env.Observer.Report(sinkOrigin(p), err)
}

// clearSinkFault reports that what reportSinkFault reported is over.
func (g *Generation) clearSinkFault(p *Partition) {
	if p.sinkFailed {
		p.sinkFailed = false
		g.env.Observer.Report(sinkOrigin(p), nil)
	}
}

func sinkOrigin(p *Partition) string {
	return fmt.Sprintf("partition %s/%d", p.Topic, p.Partition)
}

// A recreatedError says that a topic was deleted and recreated while it was not subscribed
// to.
type recreatedError struct{ topic string }

func (e *recreatedError) Error() string {
	return fmt.Sprintf("topic %q was deleted and recreated", e.topic)
}

// A flushError is an error of a flush after which the sink must be opened again.
type flushError struct{ error }

func (e *flushError) Unwrap() error { return e.error }
