package generation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation/schedule"
	"kcagent/agent/group"
	"kcagent/agent/offsets"
	"kcagent/agent/task"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
	"kcagent/retry"
	"kcagent/sink"
)

// A flusher makes durable what the sink of a generation accepted, and then commits it. Its
// work flushes when that is due, and has no goroutine until then. Other goroutines request
// it with a signal, and never wait for it, except for the first flush or commit of a
// partition.
type flusher struct {
	env        *Env
	group      string
	instanceID string
	session    sarama.ConsumerGroupSession
	offsets    group.Offsets
	partitions map[sink.TopicPartition]*Partition
	abandon    context.CancelCauseFunc // ends the generation with a cause

	unflushed       atomic.Int64 // bytes accepted since the last flush began
	accepted        retry.Signal // unflushed was 0 before, or a committed offset is behind
	firstFlush      retry.Signal // partitions wait for a flush or a commit before their first record
	now             retry.Signal // flush now
	requested       atomic.Int64 // number of the newest request of FlushNow; 0 if there was none
	intervalChanged retry.Signal // flush.interval may have changed

	ctx    context.Context    // of the work; outlives the session
	cancel context.CancelFunc // ends a flush in progress
	work   *task.Task

	// Used by the work, and by Cleanup after stop.
	schedule schedule.Schedule
	always   bool     // flush the sink even if nothing was written: the sink requested it
	absent   []string // topics that do not exist, for the commit metadata
	later    []string // topics that were created later, and of which nothing is committed yet
	commits  commitState
	pending  bool // after the last flush, the sink has to publish more
	planned  bool // the sink publishes by plan
	// unconfirmed are the partitions of a commit of a sink that publishes by plan that got no
	// response; nil if there is none.
	unconfirmed  map[*Partition]commitPoint
	resent       map[*Partition]string // nonce of the last commit that got an error response
	commitLost   bool                  // unconfirmed may arrive later, and the generation ends
	planSettings map[string]string     // with which the agent reads the records of a new plan
}

func newFlusher(e *Env, spec *config.Consumer, session sarama.ConsumerGroupSession, offsets group.Offsets, partitions map[sink.TopicPartition]*Partition, abandon context.CancelCauseFunc) *flusher {
	f := &flusher{
		env: e, abandon: abandon, group: spec.Group, instanceID: spec.InstanceID, session: session, offsets: offsets, partitions: partitions,
		accepted:        retry.NewSignal(),
		firstFlush:      retry.NewSignal(),
		now:             retry.NewSignal(),
		intervalChanged: retry.NewSignal(),
		schedule:        schedule.New(spec.Name),
		planned:         spec.Sink.Objects != nil,
		resent:          make(map[*Partition]string),
		planSettings:    planSettings(spec),
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(session.Context()))
	f.work = task.New(f.ctx, f.run)
	return f
}

// request sets one of the flusher's signals, and requests its work. It may be called from any
// goroutine, and does nothing after stop.
func (f *flusher) request(s retry.Signal) {
	s.Set()
	f.work.Request()
}

func (f *flusher) settings() config.Flush { return f.env.Spec.Load().Flush }

// recordAccepted counts bytes that the sink accepted. It requests a flush once flush.bytes
// have accumulated. It may be called from any goroutine.
func (f *flusher) recordAccepted(bytes int64) {
	before := f.unflushed.Add(bytes) - bytes
	if before == 0 {
		f.request(f.accepted)
	}
	if limit := int64(f.settings().Bytes); before < limit && before+bytes >= limit {
		f.request(f.now)
	}
}

// stop ends the work: a flush in progress is aborted, and no other begins.
func (f *flusher) stop() {
	f.cancel()
	f.work.Stop()
}

// run is the flusher's work. It flushes once in flush.interval while there are unflushed
// records, and when another goroutine requests it, and sets the timer for the next time. An
// idle consumer has neither a timer nor a goroutine for it.
func (f *flusher) run() {
	if f.ctx.Err() != nil { // stop follows, and then the last flush
		return
	}
	if isSet(f.accepted) {
		f.schedule.Accepted(time.Now(), f.settings().Interval)
	}
	if isSet(f.intervalChanged) {
		f.schedule.SetInterval(f.settings().Interval)
	}
	if isSet(f.firstFlush) {
		f.schedule.Sooner(time.Now().Add(adoptDelay))
	}
	now := isSet(f.now)
	if isSet(f.env.FlushDue) {
		now, f.always = true, true
	}
	if at := f.schedule.Next(f.commits.verifyAt); now || !at.IsZero() && !time.Now().Before(at) {
		f.flushNow()
	}
	f.work.At(f.schedule.Next(f.commits.verifyAt))
}

// isSet reports whether a signal is set, and resets it.
func isSet(s <-chan struct{}) bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}

// flushNow flushes and commits, and schedules the retry if that fails. While the gate is shut, the sink
// publishes everything.
func (f *flusher) flushNow() {
	f.verifyCommits()
	requested := f.requested.Load() // before the flush points: what was accepted by then is covered
	failed := f.schedule.Failed()
	all := requested > 0 && f.env.Gate.IsShut()
	err := f.flush(f.ctx, all)
	if f.ctx.Err() != nil {
		return
	}
	err = f.reportCommit(err, failed)
	f.schedule.Flushed(time.Now(), err)
	if err == nil && !f.pending && requested > 0 && f.env.Gate.IsShut() {
		f.env.Observer.Clean(requested)
	}
}

// flushLast flushes and commits at the end of the generation, after stop. It does not
// leave a commit that may arrive late to the next owner of the partitions. A sink that publishes
// by plan publishes everything, until ctx ends.
func (f *flusher) flushLast(ctx context.Context) error {
	defer f.env.Conditions.End(condition.OffsetsUnverified, f.env.Spec.Load().Name)
	err := f.flush(ctx, true)
	for wait := (retry.Backoff{}); f.mustPublish(err); err = f.flush(ctx, true) {
		if err == nil { // until an upload has ended
			select {
			case <-f.env.FlushDue:
			case <-ctx.Done():
				return errUnpublished
			}
		} else if !wait.Wait(ctx, f.env.FlushDue) {
			return fmt.Errorf("%w: %w", errUnpublished, err)
		}
	}
	if err != nil || f.commits.verifyAt.IsZero() {
		return err
	}
	f.commits.verifyAt = time.Now()
	f.verifyCommits()
	return f.flush(ctx, true)
}

// errUnpublished says that the time limit of the last flush ended before all uploads.
var errUnpublished = errors.New("publish objects: uploads have not ended in time; the next owner of the partitions completes what is planned, and reads the rest again")

// mustPublish reports that flushLast has to continue: the sink has more to publish, or an error may
// be over soon.
func (f *flusher) mustPublish(err error) bool {
	switch {
	case !f.planned, generationOver(err), errors.Is(err, ErrCommitLost):
		return false
	case f.unconfirmed != nil:
		return true
	}
	return err != nil || f.pending
}

// flush makes durable what the sink accepted before the call, and only then commits it.
// Partitions continue meanwhile: what they accept is for the next flush. A partition that
// the sink cannot flush keeps no other from being committed; the error is a
// [sink.FlushError] then. all is that of [sink.Sink].
func (f *flusher) flush(ctx context.Context, all bool) error {
	if err := f.confirm(); err != nil {
		return err
	}
	f.unflushed.Store(0)
	points := make(map[*Partition]flushPoint, len(f.partitions))
	needed := f.always
	for _, p := range f.partitions {
		if at, ok := p.flushPoint(); ok {
			points[p] = at
			needed = needed || at.unflushed || p.flushFault != "" // a failed one is retried
			f.planned = f.planned || at.planned
			all = all || at.planned && at.flushFirst
		}
	}
	var failed error
	if needed {
		failed = f.flushSink(ctx, points, all)
	}
	for {
		published, err := f.commit(ctx, f.commitPoints(points))
		if err != nil {
			return err
		}
		if published == 0 {
			return failed
		}
		// Once a commit is published, the sink may have the next one.
	}
}

// flushSink flushes the sink, and removes the failed partitions from points.
func (f *flusher) flushSink(ctx context.Context, points map[*Partition]flushPoint, all bool) error {
	began := time.Now()
	err := f.env.Sink.Flush(ctx, all)
	if err == nil {
		f.always = false
		f.env.Stats.FlushSeconds.Observe(time.Since(began).Seconds())
		f.env.Stats.LastFlush.Store(time.Now().UnixNano())
	} else {
		f.env.Stats.SinkErrors.Add(1)
	}
	failed := make(map[sink.TopicPartition]error)
	for p, at := range points {
		if at.earlyStart { // the sink has nothing of it
			continue
		}
		cause := sink.PartitionError(err, p.TopicPartition)
		if cause != nil {
			failed[p.TopicPartition] = cause
			delete(points, p)
		}
		if errors.Is(cause, sink.ErrReopen) { // the partition itself reports it
			p.endRound(at.round, &flushError{fmt.Errorf("flush: %w", cause)})
			cause = nil
		}
		if ctx.Err() == nil {
			f.reportFlush(p, cause)
		}
	}
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return nil
}

// reportFlush reports that p cannot be flushed, or that it can be again.
func (f *flusher) reportFlush(p *Partition, err error) {
	text := ""
	if err != nil {
		err = SinkError{Err: fmt.Errorf("flush: %w", err)}
		text = err.Error()
	}
	if p.flushFault != text {
		p.flushFault = text
		f.env.Observer.Report(fmt.Sprintf("flush %s/%d", p.Topic, p.Partition), err)
	}
}

// reportCommit reports whether commits fail, and returns the error that is to be retried.
// Errors of the sink are reported by partition.
func (f *flusher) reportCommit(err error, failed bool) error {
	switch {
	case generationOver(err):
		// Not a fault: the group is about to assign the partitions again, and the next
		// generation reads again what was not committed.
		f.env.Log.Info("commit rejected: the generation is over", logkey.Error, err)
		if membershipLost(err) {
			f.abandon(MembershipLostError{err})
		}
		return nil
	case errors.Is(err, ErrCommitLost):
		return nil
	case errors.As(err, new(*fetch.RecreatedError)), errors.Is(err, fetch.ErrDisputed) && !failed:
		return err // the round of the partition ends, or is about to
	case err == nil || errors.As(err, new(*sink.FlushError)):
		if failed {
			f.env.Observer.Report(originCommit, nil)
		}
	case !errors.Is(err, net.ErrClosed) && (failed || !Transient(err)): // the watchdog reports connections that it closes
		f.env.Observer.Report(originCommit, err)
	}
	return err
}

// awaits returns the topics that the metadata of the next commit names.
func (f *flusher) awaits() string {
	f.later = slices.DeleteFunc(f.later, f.hasCommitted)
	return offsets.JoinAwaited(slices.Concat(f.absent, f.later))
}

// hasCommitted reports whether a partition of the topic that this generation has been
// assigned has a committed offset.
func (f *flusher) hasCommitted(topic string) bool {
	for tp, p := range f.partitions {
		if tp.Topic == topic && p.CommittedOffset() >= 0 {
			return true
		}
	}
	return false
}
