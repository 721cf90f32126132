package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/retry"
	"kcagent/sink"
)

// adoptDelay is how long the first of several partitions waits for the others before the
// flusher starts, so that one flush and one commit serve all of them.
const adoptDelay = 20 * time.Millisecond

// runPartition takes a partition through its phases until ctx ends. An error of the sink
// that a retry in place cannot correct ends a round, and the next round opens the sink
// again. Other partitions are not affected, and the generation continues.
func (g *generation) runPartition(ctx context.Context, p *partition) {
	var wait retry.Backoff
	for {
		err := g.runRound(ctx, p)
		if g.mustEnd(ctx, err) {
			return
		}
		if p.hasFlushed() {
			wait.Reset()
		}
		g.reportSinkFault(p, err)
		if g.mustEnd(ctx, g.commitStart(ctx, p)) || !wait.Wait(ctx, nil) {
			return
		}
	}
}

// mustEnd reports, after ctx has ended, that an error leaves nothing to retry in this
// generation. It ends the generation where the next one has to decide again.
func (g *generation) mustEnd(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil:
	case errors.As(err, new(*fetch.RenewedError)), errors.Is(err, errMoved):
		g.abandon(err)
	case errors.Is(err, fetch.ErrClosed), errors.Is(err, fetch.ErrEnded): // the agent ends
	default:
		return false
	}
	<-ctx.Done()
	return true
}

// runRound goes through the phases once. It returns why the round ended.
func (g *generation) runRound(ctx context.Context, p *partition) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.beginRound(cancel)
	d, err := g.openPartition(ctx, p)
	g.countOpened(p)
	if err == nil {
		err = g.resume(ctx, p, d)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// openPartition has the sink open what it holds of p, and decides where p resumes.
func (g *generation) openPartition(ctx context.Context, p *partition) (decision, error) {
	l, err := g.env.sink.Resume(ctx, p.TopicPartition, g.commitsOf)
	if err != nil {
		return decision{}, err
	}
	now := g.identity(p)
	if differ(now.Cluster, g.clusterID) { // the committed offsets are another cluster's
		return decision{}, errMoved
	}
	// If the ledger was found to be a copy before, its commits may still have the former id.
	copies := &g.env.history.copies
	id, inLedger := l.ID, l.Next >= 0
	l.ID = copies.original(id, p.TopicPartition)
	c, before := p.decisionInput(&l)
	d := decide(c, l, now, g.policy(p))
	if d.copied {
		id = copies.rename(l.ID)
	}
	d.adopt = d.adopt || id != "" && !inLedger && !d.blocked
	copies.markDecided(id, p.TopicPartition)
	if d.lineage == "" && d.reason == before.reason {
		d.lineage = before.lineage
	}
	if d.lineage == "" {
		d.lineage = newID()
	}
	p.setDecision(d, id, now)
	switch {
	case d.reason == clusterReplaced:
		return d, fmt.Errorf("resume %s/%d: %w", p.Topic, p.Partition, &clusterReplacedError{g.startedWith.Cluster.Brokers, l.Topic.Cluster, now.Cluster})
	case d.blocked:
		return d, fmt.Errorf("resume %s/%d: %w, and on_offset_out_of_range is fail: choose earliest or latest, or stop the consumer and reset the group's offsets",
			p.Topic, p.Partition, &recreatedError{p.Topic})
	case before.reopened && d.reason.level < slog.LevelWarn:
		g.env.log.Info("sink was reopened; resuming after the last flushed record", "topic", p.Topic, "partition", p.Partition, "offset", d.offset)
	case d.reason != before.reason:
		g.logDecision(p, d, c, l)
	}
	return d, nil
}

// policy is what the configuration says of p.
func (g *generation) policy(p *partition) policy {
	spec := g.startedWith
	start := startPoint{offset: sarama.OffsetOldest, at: spec.Start.At}
	switch {
	case p.addedLater:
		start = startPoint{offset: sarama.OffsetOldest}
	case spec.Start.Latest:
		start.offset = sarama.OffsetNewest
	}
	return policy{start: start, outOfRange: spec.OnOutOfRange, recreated: p.recreated}
}

// commitsOf implements [sink.Commits].
func (g *generation) commitsOf(ledgerID string) map[sink.TopicPartition]sink.Position {
	commits := make(map[sink.TopicPartition]sink.Position)
	for tp, p := range g.partitions {
		if pos, ok := p.committedIn(ledgerID, g.identity(p)); ok {
			commits[tp] = pos
		}
	}
	return commits
}

// identity distinguishes the current topic of p from deleted ones of its name, and from
// those of other clusters.
func (g *generation) identity(p *partition) sink.Identity {
	cluster, topic := g.env.cluster.Identity(p.Topic)
	return sink.Identity{Cluster: cluster, Topic: topic, Brokers: g.env.cluster.brokers}
}

// resume subscribes to the decided position, adopts it, and stores records until the
// round ends.
func (g *generation) resume(ctx context.Context, p *partition, d decision) error {
	sub := g.subscribe(p, d)
	defer sub.Close()
	if pos, _ := p.position(); differ(g.identity(p).Topic, pos.Topic.Topic) { // recreated between the two
		return &fetch.RenewedError{Topic: p.Topic}
	}
	next, outOfRange, err := g.resolvePosition(ctx, p, sub)
	if err != nil {
		return err
	}
	if outOfRange {
		err = g.resetPosition(ctx, p, next, sub.Epoch())
	} else {
		pos, _ := p.position()
		pos.Next, pos.Epoch = next, sub.Epoch()
		err = g.adoptPosition(ctx, p, pos, d.adopt, d.adopt, d.commit)
	}
	if err != nil {
		return err
	}
	return g.flow(ctx, p, sub)
}

// resolvePosition waits until the leader has resolved the position, or confirmed that it
// is in range. outOfRange says that it was not, and on_offset_out_of_range moved it.
func (g *generation) resolvePosition(ctx context.Context, p *partition, sub *fetch.Subscription) (next int64, outOfRange bool, err error) {
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
			return next, sub.Jumped(), nil
		}
	}
}

// positionLost reports that the log no longer contains the position, and
// on_offset_out_of_range is fail.
func positionLost(err error) bool { return errors.Is(err, sarama.ErrOffsetOutOfRange) }

// adoptPosition makes pos the position of p before the first record. The ledger gets it if
// inLedger is set. The flusher flushes and commits it first, if that is asked for.
func (g *generation) adoptPosition(ctx context.Context, p *partition, pos sink.Position, inLedger, flushFirst, commitFirst bool) error {
	if inLedger {
		_, ledgerID := p.position()
		if err := g.env.sink.Adopt(ctx, p.TopicPartition, g.env.history.copies.current(ledgerID), pos); err != nil {
			return err
		}
	}
	if ready := p.setPosition(pos, flushFirst, commitFirst); flushFirst || commitFirst {
		if err := g.awaitFlusher(ctx, ready); err != nil {
			return err
		}
	} else {
		g.flusher.accepted.Set() // what is committed may be behind
	}
	g.clearSinkFault(p)
	if !p.flowed {
		p.flowed = true
		if g.unpositioned.Add(-1) == 0 {
			g.positioned.Store(true)
			g.env.observer.Positioned()
		}
	}
	return nil
}

// awaitFlusher has the flusher do what has to be done before the first record.
func (g *generation) awaitFlusher(ctx context.Context, ready <-chan struct{}) error {
	g.flusher.firstFlush.Set()
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
func (g *generation) resetPosition(ctx context.Context, p *partition, to int64, epoch leader.Epoch) error {
	pos, ledgerID := p.position()
	if to < pos.Next {
		if to > p.committedOffset() {
			// Commit the former position first. Otherwise a crash between the flush of the
			// reset and its commit would lead back to the committed offset, and the file
			// would repeat the records from there.
			if err := g.awaitFlusher(ctx, p.setPosition(pos, true, true)); err != nil {
				return err
			}
		}
		pos.Lineage = newID()
	}
	pos.Next, pos.Epoch = to, epoch
	return g.adoptPosition(ctx, p, pos, ledgerID != "", true, true)
}

// commitStart commits where a partition starts whose sink cannot be opened, if a later
// start would skip records that are produced meanwhile. Once the sink is open, decide
// finds this commit, and prefers a ledger that has the partition.
func (g *generation) commitStart(ctx context.Context, p *partition) error {
	l, now := sink.Ledger{Position: sink.Position{Next: -1}}, g.identity(p)
	if differ(now.Cluster, g.clusterID) {
		return errMoved
	}
	c, before := p.decisionInput(&l)
	d := decide(c, l, now, g.policy(p))
	if !d.startMoves() || before.reason == clusterReplaced {
		return nil
	}
	pos, _ := p.position()
	if d.reason != before.reason || pos.Next < 0 || differ(pos.Topic.Topic, now.Topic) { // not resolved yet
		d.lineage = newID()
		p.setDecision(d, "", now)
		if d.reason != before.reason {
			g.logDecision(p, d, c, l)
		}
		sub := g.subscribe(p, d)
		defer sub.Close()
		if pos, _ = p.position(); differ(g.identity(p).Topic, pos.Topic.Topic) {
			return &fetch.RenewedError{Topic: p.Topic}
		}
		next, _, err := g.resolvePosition(ctx, p, sub)
		if err != nil {
			return err
		}
		pos.Next, pos.Epoch = next, sub.Epoch()
	}
	_ = g.awaitFlusher(ctx, p.setStart(pos)) // an error says that ctx has ended
	return nil
}

// reportSinkFault reports an error of the sink that concerns p.
func (g *generation) reportSinkFault(p *partition, err error) {
	// The flusher counts its own errors, and the others are not the sink's.
	if !errors.As(err, new(*flushError)) && !errors.As(err, new(*recreatedError)) && !errors.As(err, new(*clusterReplacedError)) {
		g.env.stats.sinkErrors.Add(1)
	}
	p.sinkFailed = true
	g.env.observer.Report(sinkOrigin(p), err)
}

// clearSinkFault reports that what reportSinkFault reported is over.
func (g *generation) clearSinkFault(p *partition) {
	if p.sinkFailed {
		p.sinkFailed = false
		g.env.observer.Report(sinkOrigin(p), nil)
	}
}

func sinkOrigin(p *partition) string {
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
