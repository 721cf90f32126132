package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"time"

	"kcagent/sink"
)

// epoch is the origin of the times at which consumers flush.
var epoch = time.Now()

// flushPhases is how many groups of consumers flush one after the other within an
// interval. Those of one group flush at the same moments, for a file system makes
// files that are synced together durable by few writes; if all did, they would wait for
// each other.
const flushPhases = 5

// flushPhase is the group of a consumer.
func flushPhase(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return int(h.Sum32() % flushPhases)
}

// flushAt is when to flush what was accepted since: at the next moment of the phase,
// which comes once in an interval.
func flushAt(since time.Time, interval time.Duration, phase int) time.Time {
	if interval <= 0 {
		return since
	}
	first := epoch.Add(interval * time.Duration(phase) / flushPhases)
	past := since.Sub(first) % interval
	if past < 0 {
		past += interval
	}
	return since.Add(interval - past)
}

// A flushSchedule says when the flusher runs next. Only the flusher uses it.
type flushSchedule struct {
	phase  int
	since  time.Time // when the first unflushed record was accepted; zero if there is none
	due    time.Time // zero if there is nothing to do
	failed bool      // the last commit failed: due is that of the retry
	wait   backoff
}

// dirty records that something was accepted after a flush.
func (f *flushSchedule) dirty(now time.Time, interval time.Duration) {
	f.since = now
	f.sooner(flushAt(now, interval, f.phase))
}

// retune applies a changed interval.
func (f *flushSchedule) retune(interval time.Duration) {
	if !f.since.IsZero() && !f.failed {
		f.due = flushAt(f.since, interval, f.phase)
	}
}

// sooner makes a flush due at, unless it is due before or waits for a retry.
func (f *flushSchedule) sooner(at time.Time) {
	if !f.failed && (f.due.IsZero() || at.Before(f.due)) {
		f.due = at
	}
}

// done records the result of a flush. Partitions that failed are retried after a
// backoff; others do not wait for that.
func (f *flushSchedule) done(now time.Time, err error) {
	f.since, f.due = time.Time{}, time.Time{}
	f.failed = err != nil && !errors.As(err, new(*sink.FlushError))
	if err == nil {
		f.wait.reset()
		return
	}
	f.due = now.Add(f.wait.next())
}

// next is when the timer is to fire; zero if never.
func (f *flushSchedule) next(other time.Time) time.Time {
	if f.due.IsZero() || !other.IsZero() && other.Before(f.due) {
		return other
	}
	return f.due
}

// flushLoop flushes once in flush.interval while there are unflushed records, when
// flush.bytes have accumulated, and when another goroutine requests it. It costs an idle
// consumer nothing.
func (s *session) flushLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	f := flushSchedule{phase: flushPhase(s.name)}
	for {
		timer.Stop()
		if at := f.next(s.commits.verifyAt); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
			f.dirty(time.Now(), s.flushSettings().Interval)
			continue
		case <-s.retune:
			f.retune(s.flushSettings().Interval)
			continue
		case <-s.adoptions:
			f.sooner(time.Now().Add(adoptDelay))
			continue
		case <-s.due:
			s.anyway = true
		case <-s.kick:
		case <-timer.C:
			s.verifyCommits()
		}
		failed := f.failed
		err := s.flush(ctx)
		if ctx.Err() != nil {
			return
		}
		err = s.reportCommit(err, failed)
		f.done(time.Now(), err)
		if err == nil && s.gate.IsShut() {
			s.events <- event{kind: clean}
		}
	}
}

// reportCommit reports whether commits fail. Errors of the sink are reported by
// partition.
func (s *session) reportCommit(err error, failed bool) error {
	switch {
	case generationOver(err):
		// Not a fault: the group is about to assign the partitions again, and the
		// next generation reads again what was not committed.
		s.log.Info("commit rejected: the generation is over", "error", err)
		return nil
	case err == nil || errors.As(err, new(*sink.FlushError)):
		if failed {
			s.report(originCommit, nil)
		}
	case !errors.Is(err, net.ErrClosed) && (failed || !passing(err)): // the watchdog reports what it cut
		s.report(originCommit, err)
	}
	return err
}

// flush makes what the sink accepted before the call safe, and only then commits it.
// It never stops the flow: what arrives meanwhile is for the next flush. Partitions
// that the sink cannot flush keep no other from being committed; the error is a
// [sink.FlushError] then.
func (s *session) flush(ctx context.Context) error {
	s.unflushed.Store(0)
	points := make(map[*partition]flushPoint, len(s.partitions))
	unsafe := s.anyway
	for _, p := range s.partitions {
		if f, ok := p.flushPoint(); ok {
			points[p] = f
			unsafe = unsafe || f.unsafe || p.flushError != "" // what failed is tried again
		}
	}
	var failed error
	if unsafe {
		failed = s.flushSink(ctx, points)
	}
	for p, f := range points {
		if !p.flushedTo(f) {
			delete(points, p)
		}
	}
	if err := s.commit(points); err != nil {
		return err
	}
	return failed
}

// flushSink flushes the sink, and removes the failed partitions from points.
func (s *session) flushSink(ctx context.Context, points map[*partition]flushPoint) error {
	began := time.Now()
	err := s.sink.Flush(ctx)
	if err == nil {
		s.anyway = false
		s.stats.flushSeconds.Observe(time.Since(began).Seconds())
		s.stats.lastFlush.Store(time.Now().UnixNano())
	} else {
		s.stats.sinkErrors.Add(1)
	}
	failed := make(map[sink.TopicPartition]error)
	for p, f := range points {
		if f.pinned { // the sink has nothing of it
			continue
		}
		why := failureOf(err, p)
		if why != nil {
			failed[p.TopicPartition] = why
			delete(points, p)
		}
		if errors.Is(why, sink.ErrReopen) { // the partition's own goroutine reports it
			p.endRound(f.round, &flushFailure{fmt.Errorf("flush: %w", why)})
			why = nil
		}
		if ctx.Err() == nil {
			s.reportFlush(p, why)
		}
	}
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return nil
}

// failureOf is what an error of a flush says of p. Without a [sink.FlushError] it is
// about all partitions.
func failureOf(err error, p *partition) error {
	var each *sink.FlushError
	if errors.As(err, &each) {
		return each.Failed[p.TopicPartition]
	}
	return err
}

// reportFlush reports that p cannot be flushed, or that it can be again.
func (s *session) reportFlush(p *partition, err error) {
	text := ""
	if err != nil {
		err = sinkError{fmt.Errorf("flush: %w", err)}
		text = err.Error()
	}
	if p.flushError != text {
		p.flushError = text
		s.report(fmt.Sprintf("flush %s/%d", p.Topic, p.Partition), err)
	}
}
