// Package schedule says when the sink of a consumer is flushed.
package schedule

import (
	"errors"
	"hash/fnv"
	"time"

	"kcagent/retry"
	"kcagent/sink"
)

// flushEpoch is the origin of the times at which consumers flush.
var flushEpoch = time.Now()

// flushPhases is how many groups of consumers flush one after the other within an
// interval. The consumers of a group flush at the same moments, because a file system
// makes files that are synced together durable with few writes. If all consumers did,
// they would wait for each other.
const flushPhases = 5

// New returns the schedule of the consumer of a name.
func New(name string) Schedule { return Schedule{phase: flushPhase(name)} }

// flushPhase is the group of a consumer.
func flushPhase(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return int(h.Sum32() % flushPhases)
}

// flushAt is when to flush what was accepted at since: at the next moment of the phase.
// There is one such moment in each interval.
func flushAt(since time.Time, interval time.Duration, phase int) time.Time {
	if interval <= 0 {
		return since
	}
	first := flushEpoch.Add(interval * time.Duration(phase) / flushPhases)
	past := since.Sub(first) % interval
	if past < 0 {
		past += interval
	}
	return since.Add(interval - past)
}

// A Schedule says when the flusher of a consumer runs next. One goroutine uses it.
type Schedule struct {
	phase   int
	since   time.Time // when the first unflushed record was accepted; zero if there is none
	regular time.Time // when flush.interval requires to flush it; zero if there is none
	early   time.Time // when a first flush or a retry is due; zero if there is none
	failed  bool      // the last commit failed, so only the retry counts
	wait    retry.Backoff
}

// Accepted records that the first record after a flush was accepted.
func (s *Schedule) Accepted(now time.Time, interval time.Duration) {
	s.since = now
	s.regular = earlier(s.regular, flushAt(now, interval, s.phase))
}

// SetInterval applies a changed flush.interval.
func (s *Schedule) SetInterval(interval time.Duration) {
	if !s.since.IsZero() {
		s.regular = flushAt(s.since, interval, s.phase)
	}
}

// Sooner makes a flush due at the given time or earlier. While a failed commit waits for its
// retry, it does nothing.
func (s *Schedule) Sooner(at time.Time) {
	if !s.failed {
		s.early = earlier(s.early, at)
	}
}

// Flushed records the result of a flush. Partitions that failed are retried after a
// backoff; the others do not wait for that.
func (s *Schedule) Flushed(now time.Time, err error) {
	s.since, s.regular, s.early = time.Time{}, time.Time{}, time.Time{}
	s.failed = err != nil && !errors.As(err, new(*sink.FlushError))
	if err == nil {
		s.wait.Reset()
		return
	}
	s.early = now.Add(s.wait.Next())
}

// Next is when the timer has to fire, for a flush or for another purpose; zero if never.
func (s *Schedule) Next(other time.Time) time.Time {
	at := s.early
	if !s.failed {
		at = earlier(at, s.regular)
	}
	return earlier(at, other)
}

// Failed reports that the last commit failed.
func (s *Schedule) Failed() bool { return s.failed }

// earlier returns the earlier of two times. A zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
