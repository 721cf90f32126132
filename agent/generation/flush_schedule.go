package generation

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

// A flushSchedule says when the flusher runs next. Only its work uses it.
type flushSchedule struct {
	phase  int
	since  time.Time // when the first unflushed record was accepted; zero if there is none
	due    time.Time // zero if there is nothing to do
	failed bool      // the last commit failed: due is the time of the retry
	wait   retry.Backoff
}

// accepted records that the first record after a flush was accepted.
func (f *flushSchedule) accepted(now time.Time, interval time.Duration) {
	f.since = now
	f.sooner(flushAt(now, interval, f.phase))
}

// setInterval applies a changed flush.interval.
func (f *flushSchedule) setInterval(interval time.Duration) {
	if !f.since.IsZero() && !f.failed {
		f.due = flushAt(f.since, interval, f.phase)
	}
}

// sooner makes a flush due at, unless one is due before or waits for a retry.
func (f *flushSchedule) sooner(at time.Time) {
	if !f.failed && (f.due.IsZero() || at.Before(f.due)) {
		f.due = at
	}
}

// flushed records the result of a flush. Partitions that failed are retried after a
// backoff; the others do not wait for that.
func (f *flushSchedule) flushed(now time.Time, err error) {
	f.since, f.due = time.Time{}, time.Time{}
	f.failed = err != nil && !errors.As(err, new(*sink.FlushError))
	if err == nil {
		f.wait.Reset()
		return
	}
	f.due = now.Add(f.wait.Next())
}

// next is when the timer has to fire, for a flush or for another purpose; zero if never.
func (f *flushSchedule) next(other time.Time) time.Time {
	if f.due.IsZero() || !other.IsZero() && other.Before(f.due) {
		return other
	}
	return f.due
}
