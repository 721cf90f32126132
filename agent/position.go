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
	"kcagent/sink"
)

// consume takes a partition through its phases until ctx ends. An error of the sink
// that a retry in place cannot heal ends a round, and the next round opens the sink
// again: other partitions are not affected, and the generation continues.
func (s *session) consume(ctx context.Context, p *partition) {
	var wait backoff
	for {
		err := s.round(ctx, p)
		if s.ended(ctx, err) {
			return
		}
		if p.progressed() {
			wait.reset()
		}
		s.failed(p, err)
		if s.ended(ctx, s.pin(ctx, p)) || !wait.wait(ctx, nil) {
			return
		}
	}
}

// ended reports, after ctx has ended, that an error leaves nothing to retry in this
// generation.
func (s *session) ended(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil:
	case errors.As(err, new(*fetch.RenewedError)), errors.Is(err, errMoved):
		s.abandon(err) // the next generation finds out where to start in the new one
	case errors.Is(err, fetch.ErrClosed), errors.Is(err, fetch.ErrEnded): // the agent ends
	default:
		return false
	}
	<-ctx.Done()
	return true
}

// pin commits where a partition starts whose sink cannot be opened, if a later start
// would be behind records that are produced meanwhile. Once the sink is open, decide
// finds the commit, and prefers a ledger that has the partition.
func (s *session) pin(ctx context.Context, p *partition) error {
	l, now := sink.Ledger{Position: sink.Position{Next: -1}}, s.identity(p)
	if differ(now.Cluster, s.within) {
		return errMoved
	}
	c, before := p.known(&l)
	d := decide(c, l, now, s.policy(p))
	if !d.moves() || before.reason == clusterReplaced {
		return nil
	}
	at, _ := p.position()
	if d.reason != before.reason || at.Next < 0 || differ(at.Topic.Topic, now.Topic) { // not resolved yet
		d.lineage = newID()
		p.locate(d, "", now)
		if d.reason != before.reason {
			s.logDecision(p, d, c, l)
		}
		sub := s.subscribe(p, d)
		defer sub.Close()
		if at, _ = p.position(); differ(s.identity(p).Topic, at.Topic.Topic) {
			return &fetch.RenewedError{Topic: p.Topic}
		}
		next, _, err := s.locate(ctx, p, sub)
		if err != nil {
			return err
		}
		at.Next, at.Epoch = next, sub.Epoch()
	}
	done := p.pin(at)
	signal(s.adoptions)
	select {
	case <-done:
	case <-ctx.Done():
	}
	return nil
}

// round is one walk through the phases. It returns why it ended.
func (s *session) round(ctx context.Context, p *partition) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	p.beginRound(end)
	d, err := s.open(ctx, p)
	s.tried(p)
	if err == nil {
		err = s.resume(ctx, p, d)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// resume does what follows the decision.
func (s *session) resume(ctx context.Context, p *partition, d decision) error {
	sub := s.subscribe(p, d)
	defer sub.Close()
	if pos, _ := p.position(); differ(s.identity(p).Topic, pos.Topic.Topic) { // recreated between the two
		return &fetch.RenewedError{Topic: p.Topic}
	}
	at, jumped, err := s.locate(ctx, p, sub)
	if err != nil {
		return err
	}
	if jumped {
		err = s.jump(ctx, p, at, sub.Epoch())
	} else {
		pos, _ := p.position()
		pos.Next, pos.Epoch = at, sub.Epoch()
		err = s.adopt(ctx, p, pos, d.adopt, d.adopt, d.commit)
	}
	if err != nil {
		return err
	}
	return s.flow(ctx, p, sub)
}

// failed reports an error of the sink that concerns p.
func (s *session) failed(p *partition, err error) {
	if !errors.As(err, new(*flushFailure)) && !errors.As(err, new(*recreatedError)) && !errors.As(err, new(*clusterReplacedError)) { // the flusher counts its own
		s.stats.sinkErrors.Add(1)
	}
	p.sinkFailed = true
	s.report(partitionOrigin(p), err)
}

// works reports that what failed reported is over.
func (s *session) works(p *partition) {
	if p.sinkFailed {
		p.sinkFailed = false
		s.report(partitionOrigin(p), nil)
	}
}

func partitionOrigin(p *partition) string {
	return fmt.Sprintf("partition %s/%d", p.Topic, p.Partition)
}

// open has the sink open what it holds of p, and decides where p resumes.
func (s *session) open(ctx context.Context, p *partition) (decision, error) {
	l, err := s.sink.Resume(ctx, p.TopicPartition, s.commitsOf)
	if err != nil {
		return decision{}, err
	}
	now := s.identity(p)
	if differ(now.Cluster, s.within) { // the committed offsets are another cluster's
		return decision{}, errMoved
	}
	id, inLedger := l.ID, l.Next >= 0
	c, before := p.known(&l)
	l.ID = s.copies.original(id, p.TopicPartition)
	d := decide(c, l, now, s.policy(p))
	if d.copied {
		id = s.copies.rename(l.ID)
	}
	d.adopt = d.adopt || id != "" && !inLedger && !d.blocked
	s.copies.decided(id, p.TopicPartition)
	if d.lineage == "" && d.reason == before.reason {
		d.lineage = before.lineage
	}
	if d.lineage == "" {
		d.lineage = newID()
	}
	p.locate(d, id, now)
	if d.reason == clusterReplaced {
		return d, fmt.Errorf("resume %s/%d: %w", p.Topic, p.Partition, &clusterReplacedError{s.spec.Cluster.Brokers, l.Topic.Cluster, now.Cluster})
	}
	if d.blocked {
		return d, fmt.Errorf("resume %s/%d: %w, and on_offset_out_of_range is fail: choose earliest or latest, or stop the consumer and reset the group's offsets",
			p.Topic, p.Partition, &recreatedError{p.Topic})
	}
	if before.reopened && d.reason.level < slog.LevelWarn {
		s.log.Info("sink was reopened; resuming after the last flushed record", "topic", p.Topic, "partition", p.Partition, "offset", d.offset)
	} else if d.reason != before.reason {
		s.logDecision(p, d, c, l)
	}
	return d, nil
}

// commitsOf implements [sink.Commits].
func (s *session) commitsOf(ledger string) map[sink.TopicPartition]sink.Position {
	commits := make(map[sink.TopicPartition]sink.Position)
	for tp, p := range s.partitions {
		if at, ok := p.committedIn(ledger, s.identity(p)); ok {
			commits[tp] = at
		}
	}
	return commits
}

// identity tells the topic of p as it is now from others of its name.
func (s *session) identity(p *partition) sink.Identity {
	cluster, topic := s.cluster.Identity(p.Topic)
	return sink.Identity{Cluster: cluster, Topic: topic, Brokers: s.cluster.brokers}
}

// A recreatedError says that a topic was deleted and created again before it was
// subscribed to.
type recreatedError struct{ topic string }

func (e *recreatedError) Error() string {
	return fmt.Sprintf("topic %q was deleted and recreated", e.topic)
}

// locate waits until the leader has resolved the position, or confirmed that it is in
// range. jumped says that it was not, and on_offset_out_of_range moved it.
func (s *session) locate(ctx context.Context, p *partition, sub *fetch.Subscription) (at int64, jumped bool, err error) {
	var wait backoff
	for {
		if err := sub.Wait(ctx); err != nil {
			return 0, false, err
		}
		// The first Take brings no records.
		at, ok, err := sub.Take(func(*fetch.Record) bool { return false })
		switch {
		case positionLost(err): // the watchdog reports it
			if !wait.wait(ctx, nil) {
				return 0, false, ctx.Err()
			}
			sub.Retry()
		case err != nil:
			return 0, false, err
		case ok:
			return at, sub.Jumped(), nil
		}
	}
}

// positionLost reports that the partition does not have the position any more, and
// on_offset_out_of_range is fail.
func positionLost(err error) bool { return errors.Is(err, sarama.ErrOffsetOutOfRange) }

// adopt makes pos the position of p, before the first record: the ledger gets it, and
// the flusher flushes and commits where that is asked for.
func (s *session) adopt(ctx context.Context, p *partition, pos sink.Position, inLedger, flush, commit bool) error {
	if inLedger {
		_, ledger := p.position()
		if err := s.sink.Adopt(ctx, p.TopicPartition, s.copies.current(ledger), pos); err != nil {
			return err
		}
	}
	if done := p.adopt(pos, flush, commit); flush || commit {
		if err := s.flushAndCommit(ctx, done); err != nil {
			return err
		}
	} else {
		signal(s.dirty) // what is committed may be behind
	}
	s.works(p)
	if !p.settled {
		p.settled = true
		if s.unsettled.Add(-1) == 0 {
			s.begun.Store(true)
			s.events <- event{kind: begun}
		}
	}
	return nil
}

// flushAndCommit has the flusher do what is to be done before adopted is closed.
func (s *session) flushAndCommit(ctx context.Context, adopted <-chan struct{}) error {
	signal(s.adoptions)
	select {
	case <-adopted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jump resumes where on_offset_out_of_range leads to. That is committed before the
// first record, for a restart would choose again, behind what was produced meanwhile.
// A jump back begins a new lineage: positions of one only grow.
func (s *session) jump(ctx context.Context, p *partition, to int64, epoch leader.Epoch) error {
	pos, ledger := p.position()
	if to < pos.Next {
		if to > p.committedOffset() {
			// A crash between the flush of the jump and its commit would lead back to what
			// is committed, and the file would repeat what follows that.
			if err := s.flushAndCommit(ctx, p.adopt(pos, true, true)); err != nil {
				return err
			}
		}
		pos.Lineage = newID()
	}
	pos.Next, pos.Epoch = to, epoch
	return s.adopt(ctx, p, pos, ledger != "", true, true)
}

// subscribe subscribes to where the decision says.
func (s *session) subscribe(p *partition, d decision) *fetch.Subscription {
	s.settings.Lock()
	defer s.settings.Unlock()
	sub := s.cluster.Subscribe(s.subscription(p, d))
	p.sub.Store(sub)
	signal(s.trouble) // what is reported of a former subscription may be over
	return sub
}

// A flushFailure is an error of a flush that drops what a partition's sink accepted.
type flushFailure struct{ error }

func (e *flushFailure) Unwrap() error { return e.error }

// adoptDelay is how long the first of several partitions waits for the others, so that
// one flush and one commit serve all.
const adoptDelay = 20 * time.Millisecond
