package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/offsets"
	"kcagent/agent/reject"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/retry"
	"kcagent/sink"
)

// adoptDelay is how long the first of several partitions waits for the others before the
// flusher starts, so that one flush and one commit serve all of them.
const adoptDelay = 20 * time.Millisecond

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
	switch {
	case d.Plan != nil:
		return g.resumePlan(p, r, d.Plan, next)
	case outOfRange:
		return g.resetPosition(r.ctx, p, next, r.sub.Epoch())
	}
	pos, _ := p.position()
	pos.Next, pos.Epoch = next, r.sub.Epoch()
	planned, _ := p.publishesByPlan()
	return g.adoptPosition(r.ctx, p, pos, d.Adopt, d.Adopt && !planned, d.Commit)
}

// Keys of the settings of a plan with which the agent reads its records.
const (
	planIsolation   = "isolation"
	planDecodeKey   = "decode.key"
	planDecodeValue = "decode.value"
	planOnError     = "on_error"
)

// planSettings returns the settings with which a consumer reads the records of a plan.
func planSettings(spec *config.Consumer) map[string]string {
	action := spec.OnError.Action
	if spec.OnError.DeadLetter != nil {
		action = config.ToDeadLetters
	}
	return map[string]string{
		planIsolation: string(spec.Isolation), planOnError: string(action),
		planDecodeKey: string(spec.Decode.Key), planDecodeValue: string(spec.Decode.Value),
	}
}

// rulesOf returns the rules for the records of a plan. Its dead letters were durable before the sink
// accepted the records that follow them, so they are not written again.
func rulesOf(plan *sink.Plan) *reject.Rules {
	set := plan.Settings
	action := config.ErrorAction(set[planOnError])
	if action == config.ToDeadLetters {
		action = config.Skip
	}
	return reject.New(&config.Consumer{
		Decode:  config.Decode{Key: config.Decoding(set[planDecodeKey]), Value: config.Decoding(set[planDecodeValue])},
		OnError: config.OnError{Action: action},
	}, nil)
}

// resumePlan has the sink complete a plan, whose records are read from next on: the log may have
// lost the first of them since.
func (g *Generation) resumePlan(p *Partition, r *round, plan *sink.Plan, next int64) error {
	if next < plan.First {
		return truncatedSince(p, plan)
	}
	pos, _ := p.position()
	if err := g.env.Sink.Complete(r.ctx, p.TopicPartition, pos, *plan); err != nil {
		return err
	}
	r.plan, r.first = plan, next
	p.setPosition(pos, false, false)
	g.adopted(p)
	return nil
}

// truncatedSince returns the error of a plan whose records the log no longer has. It may have others
// at their offsets.
func truncatedSince(p *Partition, plan *sink.Plan) error {
	return &planError{fmt.Errorf("complete the plan of %s/%d: the log was truncated since objects of the offsets from %d to %d were planned, so their records may differ: "+
		"stop the consumer and reset the group's offset to %d; records may then be in two objects", p.Topic, p.Partition, plan.First, plan.Next-1, plan.First)}
}

// completePlan does what a round that completes a plan has to do before it reads. It returns nil if
// it has to read.
func (g *Generation) completePlan(p *Partition, r *round) error {
	pos, _ := p.position()
	switch {
	case p.publishedPlan():
		return errDecideAgain
	case pos.Next >= r.plan.Next: // its objects are being published
		return errNothingToRead
	case r.first <= pos.Next:
		return nil
	}
	c := chunk{Chunk: sink.Chunk{TopicPartition: p.TopicPartition, Next: min(r.first, r.plan.Next), Epoch: pos.Epoch}}
	switch err := g.store(r.ctx, p, c); {
	case errors.Is(err, errPaused):
		return errNothingToRead // tuneSubscriptions requests the work
	case err != nil:
		return err
	}
	return g.completePlan(p, r)
}

// confirmTopic returns an error if the topic of p was recreated. Fetch requests have the name of the
// topic, and no id. So until the brokers have reported the new topic, its records may have been read.
// They must not be published by a plan for the former topic.
func (g *Generation) confirmTopic(ctx context.Context, p *Partition) error {
	failed, err := g.env.Cluster.Confirm(ctx, []string{p.Topic})
	if err = cmp.Or(err, failed[p.Topic]); err != nil {
		return err
	}
	if pos, _ := p.position(); offsets.Differ(g.identity(p).Topic, pos.Topic.Topic) {
		return &fetch.RecreatedError{Topic: p.Topic}
	}
	return nil
}

// checkPlan returns an error if a later leader has replaced records of a plan: then the records that
// are read now differ from the planned ones. Without a plan, it returns nil.
func checkPlan(p *Partition, plan *sink.Plan, c chunk) error {
	if plan == nil {
		return nil
	}
	pos, _ := p.position()
	if c.reset && c.Next < pos.Next || c.Next <= plan.Next && plan.Epoch.Known() && c.Epoch.Known() && c.Epoch.Kafka() > plan.Epoch.Kafka() {
		return truncatedSince(p, plan)
	}
	return nil
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
	g.adopted(p)
	return nil
}

// adopted records that p has a position that survives a crash.
func (g *Generation) adopted(p *Partition) {
	g.clearSinkFault(p)
	if !p.flowed {
		p.flowed = true
		if g.unpositioned.Add(-1) == 0 {
			g.positioned.Store(true)
			g.env.Observer.Positioned()
		}
	}
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
	planned, adopted := p.publishesByPlan()
	switch {
	case planned && adopted:
		// Publish what the sink has first: it begins a new range at the position.
		if err := g.awaitFlusher(ctx, p.setPosition(pos, true, true)); err != nil {
			return err
		}
	case planned:
	case to < pos.Next:
		if to > p.CommittedOffset() {
			// Commit the former position first. Otherwise a crash between the flush of the
			// reset and its commit would lead back to the committed offset, and the file
			// would repeat the records from there.
			if err := g.awaitFlusher(ctx, p.setPosition(pos, true, true)); err != nil {
				return err
			}
		}
	}
	if to < pos.Next {
		pos.Lineage = offsets.NewID()
	}
	pos.Next, pos.Epoch = to, epoch
	return g.adoptPosition(ctx, p, pos, ledgerID != "" || planned || p.windows, !planned, true)
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
		p.setDecision(d, sink.Ledger{}, now)
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
		!errors.As(err, new(*reject.StopError)) && !errors.As(err, new(*planError)) {
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
