package generation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/task"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
	"kcagent/retry"
	"kcagent/sink"
)

const (
	// watchInterval is how often the watchdog checks the partitions, at most.
	watchInterval = 2500 * time.Millisecond
	// responseTimeout is how long the coordinator may take for a response while a
	// generation lasts. It has no reason to delay one then.
	responseTimeout = 10 * time.Second
)

// A watchdog reports why partitions of a generation cannot be fetched, and ends the generation
// if one of them makes no progress without a known reason. Its work waits only for the state
// machine of its own consumer, so that it can report what blocks. Each generation has a timer of
// its own: a check of one consumer cannot delay the check of another.
type watchdog struct {
	g    *Generation
	ctx  context.Context // of the session
	work *task.Task

	changed retry.Signal // a partition may have started or stopped failing

	// Used by the work alone.
	due          time.Time // of the next check
	progress     map[*Partition]lastProgress
	unresponsive time.Time // since when the coordinator does not respond
	over         bool      // it has ended the generation
}

func newWatchdog(ctx context.Context, g *Generation) *watchdog {
	w := &watchdog{g: g, ctx: ctx, changed: retry.NewSignal(), progress: make(map[*Partition]lastProgress, len(g.partitions))}
	w.work = task.New(ctx, w.run)
	return w
}

// fetchChanged makes the watchdog look for partitions that have started or stopped failing. It may
// be called from any goroutine, and never blocks.
func (w *watchdog) fetchChanged() {
	w.changed.Set()
	w.work.Request()
}

// stop ends the work and the reminders of the generation.
func (w *watchdog) stop() {
	w.work.Stop()
	w.g.endReminders()
}

// run is the watchdog's work: it checks what is due, and sets the timer for the next check.
func (w *watchdog) run() {
	if w.over || w.ctx.Err() != nil {
		return
	}
	if isSet(w.changed) {
		w.g.reportFetchFaults()
	}
	now := time.Now()
	limit := w.g.env.Spec.Load().StallTimeout
	if w.due.IsZero() {
		w.due = now.Add(min(limit/8, watchInterval))
	}
	if !now.Before(w.due) {
		if cause := w.check(limit); cause != nil {
			w.over = true
			w.g.abandon(cause)
			return
		}
		w.due = time.Now().Add(min(limit/8, watchInterval))
	}
	w.work.At(w.due)
}

// check looks at the coordinator, the topics and the partitions. It returns why the generation
// has to end, nil if it can continue.
func (w *watchdog) check(limit time.Duration) (cause error) {
	w.unresponsive = w.g.checkCoordinator(w.unresponsive)
	if topic, deleted := w.g.deletedTopic(); deleted {
		w.g.env.Log.Warn("topic was deleted", logkey.Topic, topic)
		return ErrTopicsChanged
	}
	if w.g.partitionsChanged() {
		return sarama.ErrSessionPartitionCountChanged
	}
	return w.g.checkPartitions(w.progress, limit)
}

// checkCoordinator reports that the coordinator does not respond, and replaces its
// connection. Otherwise sarama would wait for half a minute, as long as a join may take, and
// longer on each new connection. It takes and returns since when the coordinator has not
// responded.
func (g *Generation) checkCoordinator(since time.Time) time.Time {
	addr, received := g.env.Client.DropOverdue(responseTimeout)
	switch {
	case addr != nil:
		if since.IsZero() {
			since = time.Now()
		}
		g.env.Observer.Report(OriginGroup, fmt.Errorf("stay in group %s: %w", g.StartedWith.Group,
			fetch.NotKafkaError(fmt.Sprintf("its coordinator at %s has not responded within %s", addr, responseTimeout))))
	case !since.IsZero() && received.After(since):
		g.env.Observer.Report(OriginGroup, nil)
		return time.Time{}
	}
	return since
}

// A StallError reports that a partition makes no progress without a known reason. Faults of
// Kafka clients (sarama issues 2219, 2621 and 3628) and of brokers have had no other
// symptom, so the consumer is restarted.
type StallError struct {
	partition  *Partition
	limit      time.Duration
	seen       fetch.Progress
	unanswered bool // no broker has responded for the partition either
}

// Error implements error. The text contains no measured time, so that it stays the same
// while the stall lasts.
func (e *StallError) Error() string {
	responds := "responds without records"
	if e.unanswered {
		responds = "has not responded for it"
	}
	request := "no request is in flight"
	if e.seen.InFlight {
		request = "a request is in flight"
	}
	return fmt.Sprintf("no progress on %s/%d for %s: position %d, end of the log %d, broker %s %s, %s; restarting the consumer",
		e.partition.Topic, e.partition.Partition, e.limit, e.seen.Next, e.seen.End, cmp.Or(e.seen.Broker, "unknown"), responds, request)
}

// A lastProgress is when a partition last made progress, and its position then.
type lastProgress struct {
	next int64
	at   time.Time
}

// A stallPoint is where a partition is stalled: its position, and the end of the log.
type stallPoint struct{ next, end int64 }

// stalledAt returns the stall point of a partition that gets no records although its log
// continues. There is none if position or end are unknown, or if no broker has responded
// for the partition: a restart may change that.
func stalledAt(seen fetch.Progress, limit time.Duration, now time.Time) (at stallPoint, ok bool) {
	return stallPoint{seen.Next, seen.End}, seen.Next >= 0 && seen.End > seen.Next && now.Sub(seen.Answered) < limit
}

// stalls has the stalled partitions of a consumer, with their positions. It must outlive the
// generation that a stall ends: a partition is stalled until it makes progress, and not only
// until the consumer is restarted. Only the watchdog uses it, and there is one at a time.
type stalls map[sink.TopicPartition]int64

// retain removes the partitions that are not assigned to the consumer or are paused.
func (s stalls) retain(assigned map[sink.TopicPartition]*Partition, state config.State) {
	for tp := range s {
		if assigned[tp] == nil || state == config.Paused {
			delete(s, tp)
		}
	}
}

// observe removes tp once its position has changed, or a broker has responded that there is
// nothing to read.
func (s stalls) observe(tp sink.TopicPartition, seen fetch.Progress, limit time.Duration, now time.Time) {
	was, stalled := s[tp]
	atEnd := seen.End >= 0 && seen.Next >= seen.End && now.Sub(seen.Answered) < limit
	if stalled && seen.Next >= 0 && (seen.Next != was || atEnd) {
		delete(s, tp)
	}
}

// holes records for which stalls the consumer was restarted. If a restart leads to the same
// stall point, it does not help: the last records of the log were compacted away, and the
// broker still counts them, as Redpanda does. The record must outlive the generation that
// the restart ends. Only the watchdog uses it, and there is one at a time.
type holes map[sink.TopicPartition]*hole

// A hole is a stall point for which the consumer was restarted.
type hole struct {
	stallPoint
	since  time.Time // when the stall began
	logged bool      // that the restart did not help
}

// observe forgets the hole of tp once position or end are beyond it. A position before the
// hole was reset, and leads to the hole again. It returns the hole that it has forgotten.
func (hs holes) observe(tp sink.TopicPartition, seen fetch.Progress) (over *hole) {
	h := hs[tp]
	if h == nil || seen.Next <= h.next && seen.End <= h.end {
		return nil
	}
	delete(hs, tp)
	return h
}

// at returns the hole of tp if the partition is at it.
func (hs holes) at(tp sink.TopicPartition, seen fetch.Progress, limit time.Duration, now time.Time) *hole {
	h := hs[tp]
	if at, ok := stalledAt(seen, limit, now); h == nil || !ok || at != h.stallPoint {
		return nil
	}
	return h
}

// waitAtHole logs that a restart did not help, and starts the reminders of it.
func (g *Generation) waitAtHole(h *hole, tp sink.TopicPartition, seen fetch.Progress, now time.Time) {
	if !h.logged {
		g.env.Log.Warn("broker has no records up to the end of the log; waiting for the end to move", logkey.Topic, tp.Topic, logkey.Partition, tp.Partition,
			logkey.Position, h.next, logkey.End, h.end, logkey.Lag, h.end-h.next, logkey.Broker, seen.Broker, logkey.Lasts, condition.Duration(now.Sub(h.since)))
	}
	h.logged = true
	g.env.Conditions.Begin(condition.EndNotReached, g.holeID(tp), condition.Report{
		Consumer: g.env.Spec.Load().Name, Key: "hole", Since: h.since,
		Cause: fmt.Sprintf("%s/%d has no records from position %d to the end of the log, %d", tp.Topic, tp.Partition, h.next, h.end),
	})
}

// leaveHole logs that the partition no longer waits at h, which may be nil.
func (g *Generation) leaveHole(h *hole, tp sink.TopicPartition, seen fetch.Progress, now time.Time) {
	if h == nil || !h.logged {
		return
	}
	g.env.Conditions.End(condition.EndNotReached, g.holeID(tp))
	g.env.Log.Info("end of the log has moved; no longer waiting for it", logkey.Topic, tp.Topic, logkey.Partition, tp.Partition,
		logkey.Position, seen.Next, logkey.End, seen.End, logkey.Lasted, condition.Duration(now.Sub(h.since)))
}

// endReminders ends the reminders of holes with the generation: another member may have the
// partitions next.
func (g *Generation) endReminders() {
	for tp := range g.env.History.holes {
		g.env.Conditions.End(condition.EndNotReached, g.holeID(tp))
	}
}

// holeID identifies the hole of a partition of this consumer, for the reminders of the agent.
func (g *Generation) holeID(tp sink.TopicPartition) string {
	return fmt.Sprintf("%s %s/%d", g.env.Spec.Load().Name, tp.Topic, tp.Partition)
}

// checkPartitions returns an error if partitions are stalled and a restart of the consumer
// may help. Then it also prepares the restart.
func (g *Generation) checkPartitions(progress map[*Partition]lastProgress, limit time.Duration) error {
	now := time.Now()
	var stalled []*StallError
	stalls := g.env.History.stalls
	stalls.retain(g.partitions, g.env.Spec.Load().State)
	for _, p := range g.partitions {
		if sub := p.subscription.Load(); sub != nil {
			seen := sub.Progress()
			stalls.observe(p.TopicPartition, seen, limit, now)
			if err := g.checkProgress(p, progress, seen, limit, now); err != nil {
				stalled = append(stalled, err)
			}
		}
	}
	g.env.Stats.StalledPartitions.Store(int64(len(stalls)))
	if len(stalled) == 0 {
		return nil
	}
	g.rememberHoles(progress, limit, now)
	for _, e := range stalled {
		e.partition.subscription.Load().Reconnect()
	}
	g.env.Stats.Stalls.Add(int64(len(stalled)))
	return slices.MinFunc(stalled, func(a, b *StallError) int { return comparePartitions(a.partition, b.partition) })
}

// rememberHoles remembers where partitions are stalled before a restart. Partitions without
// progress for half of the limit are included: otherwise partitions with holes would
// restart the consumer one after the other.
func (g *Generation) rememberHoles(progress map[*Partition]lastProgress, limit time.Duration, now time.Time) {
	for _, p := range g.partitions {
		sub, was := p.subscription.Load(), progress[p]
		if sub == nil || now.Sub(was.at) < limit/2 {
			continue
		}
		seen := sub.Progress()
		if at, ok := stalledAt(seen, limit, now); ok && seen.Waiting && seen.Next == was.next {
			g.env.History.holes[p.TopicPartition] = &hole{stallPoint: at, since: was.at}
		}
	}
}

// checkProgress returns an error for p if it is stalled, unless a restart has led to the
// same stall point before.
func (g *Generation) checkProgress(p *Partition, progress map[*Partition]lastProgress, seen fetch.Progress, limit time.Duration, now time.Time) *StallError {
	g.leaveHole(g.env.History.holes.observe(p.TopicPartition, seen), p.TopicPartition, seen, now)
	h := g.env.History.holes.at(p.TopicPartition, seen, limit, now)
	known := h != nil && h.logged && seen.Waiting
	var stalled *StallError
	if !known {
		stalled = p.checkStall(progress, seen, limit, now)
	}
	if h != nil && (known || stalled != nil) {
		g.waitAtHole(h, p.TopicPartition, seen, now)
		// This counts as progress: once the end moves, the broker has the whole limit to
		// return new records.
		progress[p] = lastProgress{seen.Next, now}
		g.env.History.stalls[p.TopicPartition] = seen.Next
		return nil
	}
	if stalled != nil {
		g.env.History.stalls[p.TopicPartition] = seen.Next
	}
	return stalled
}

// checkStall records progress of p, and returns an error if there was none for limit. A
// partition that has nothing to wait for makes progress by definition.
func (p *Partition) checkStall(progress map[*Partition]lastProgress, seen fetch.Progress, limit time.Duration, now time.Time) *StallError {
	was, known := progress[p]
	if seen.LastEvent.After(was.at) {
		was.at = seen.LastEvent
		progress[p] = was
	}
	unanswered := now.Sub(seen.Answered) >= limit
	nothing := seen.Next >= 0 && seen.End >= 0 && seen.Next >= seen.End && !unanswered
	switch {
	case !seen.Waiting || nothing || !known || was.next != seen.Next:
		progress[p] = lastProgress{seen.Next, now}
	case now.Sub(was.at) >= limit:
		return &StallError{p, limit, seen, unanswered}
	}
	return nil
}
