package fetch

import "time"

// patience is how long the broker may hold back the answer to a request for partitions
// without news. A lane that waits for the answer can ask for nothing else. So the last
// free lane keeps its wait short. The other lanes end theirs with it, and one of them
// then asks for the partitions of both: as long as nothing happens, one lane waits for
// all partitions and the others are free.
func (l *lane) patience(now time.Time, wait time.Duration) time.Duration {
	b := l.b
	if b.lastFree(l) {
		if s := b.away.first(); s != nil {
			wait = min(wait, max(shortWait, now.Sub(s.gotAt))) // as long again as the consumer has been away
		}
		if len(b.lanes) > 1 {
			wait = min(wait, lastWait)
		}
	}
	for _, o := range b.lanes {
		if left := o.until.Sub(now); o != l && o.working && o.brief && left > 0 {
			wait = min(wait, left)
		}
	}
	l.until, l.brief = now.Add(wait), wait < l.f.set.MaxWait
	return wait
}

// gathers reports, once, that a brief request of another lane ends now: one request for
// the partitions of both is enough.
func (l *lane) gathers(now time.Time) bool {
	held := l.held
	l.held = false
	for _, o := range l.b.lanes {
		if o != l && o.working && o.brief && o.until.Sub(now) <= gatherTime {
			l.held = !held
		}
	}
	return l.held
}
