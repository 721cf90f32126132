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
	phase   int
	since   time.Time // when the first unflushed record was accepted; zero if there is none
	regular time.Time // when flush.interval requires to flush it; zero if there is none
	early   time.Time // when a first flush or a retry is due; zero if there is none
	failed  bool      // the last commit failed, so only the retry counts
	wait    retry.Backoff
}

// accepted records that the first record after a flush was accepted.
func (f *flushSchedule) accepted(now time.Time, interval time.Duration) {
	f.since = now
	f.regular = earlier(f.regular, flushAt(now, interval, f.phase))
}

// setInterval applies a changed flush.interval.
func (f *flushSchedule) setInterval(interval time.Duration) {
	if !f.since.IsZero() {
		f.regular = flushAt(f.since, interval, f.phase)
	}
}

// sooner makes a flush due at the given time or earlier. While a failed commit waits for its
// retry, it does nothing.
func (f *flushSchedule) sooner(at time.Time) {
	if !f.failed {
		f.early = earlier(f.early, at)
	}
}

// flushed records the result of a flush. Partitions that failed are retried after a
// backoff; the others do not wait for that.
func (f *flushSchedule) flushed(now time.Time, err error) {
	f.since, f.regular, f.early = time.Time{}, time.Time{}, time.Time{}
	f.failed = err != nil && !errors.As(err, new(*sink.FlushError))
	if err == nil {
		f.wait.Reset()
		return
	}
	f.early = now.Add(f.wait.Next())
}

// next is when the timer has to fire, for a flush or for another purpose; zero if never.
func (f *flushSchedule) next(other time.Time) time.Time {
	at := f.early
	if !f.failed {
		at = earlier(at, f.regular)
	}
	return earlier(at, other)
}

// earlier returns the earlier of two times. A zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
