package fetch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"kcagent/fetch/batch"
)

// A budget keeps what is asked for and what is fetched and not yet read within
// lanes × brokers × max_bytes. f.mu guards it.
type budget struct {
	lanes    int64 // that there may be
	limit    int64
	grant    int64 // what a lane asks for
	promised int64 // to requests in flight
	kept     int64 // in answers of which a part is still to be read
	most     int64 // the largest sum of the two there has been
}

// promise sets memory aside for a request; 0 if there is too little.
func (b *budget) promise() int64 {
	free := b.limit - b.promised - b.kept
	if free < b.grant/4 {
		return 0
	}
	n := min(b.grant, free)
	b.promised += n
	b.most = max(b.most, b.promised+b.kept)
	return n
}

func (b *budget) keep(size int64) {
	b.kept += size
	b.most = max(b.most, b.promised+b.kept)
}

// unref gives one part of a frame back.
func (f *Fetcher) unref(fr *batch.Frame) {
	if fr == nil {
		return
	}
	if !fr.Unref() {
		return
	}
	f.budget.kept -= fr.Size()
	fr.Release()
	for _, b := range f.brokers {
		for _, l := range b.lanes {
			if l.short {
				l.short = false
				l.wake.Set()
			}
		}
	}
}

const (
	// leftLying is how long what was fetched ahead may wait for its consumer
	// when somebody else needs the memory. It is also how long a consumer may
	// be away to have records fetched ahead at all.
	leftLying = 100 * time.Millisecond
	// shortRetry is how often a lane without memory looks for such parts.
	shortRetry = 20 * time.Millisecond
)

// reclaim drops what consumers have left lying.
func (f *Fetcher) reclaim(now time.Time) {
	for s := range f.subs {
		if len(s.queue) > 0 && !s.busy && now.Sub(s.queue[0].since) > leftLying {
			s.drop(s.next)
			s.eager = false
		}
	}
}

const (
	// largeRetry is how often a lane asks for the memory that a large batch needs.
	largeRetry = 50 * time.Millisecond
	// largeLying is how long a large batch may stay unread while another one waits for the
	// memory.
	largeLying = time.Second
)

// largePatience is how long a batch waits for memory before its consumer reports that.
// Tests shorten it.
var largePatience = 10 * time.Second

// hold handles an answer with records for which there was no memory. They are fetched
// again: first in an answer, or once there is memory for a large batch.
func (s *Subscription) hold(c *batch.Content, now time.Time, told *calls) {
	s.missed, s.void = 0, false
	s.learn(c)
	if c.LargeBytes == 0 {
		told.add(s.recover())
		return
	}
	s.lack(c.LargeBytes, now, told)
}

// lack records that s needs memory for a large batch, which others hold now.
func (s *Subscription) lack(need int64, now time.Time, told *calls) {
	if s.needs == 0 {
		s.lackSince = now
	}
	s.needs, s.retryAt = need, now.Add(largeRetry)
	s.touch()
	if s.broker != nil {
		s.broker.heldAt = now // it is not stalled
	}
	if now.Sub(s.lackSince) > largePatience {
		told.add(s.fail(fmt.Errorf("read %s/%d at offset %d: waiting for memory: record batch needs %d bytes, and other large batches use %d of %d bytes; raise the memory limit if this persists",
			s.spec.Topic, s.spec.Partition, s.pos, need, s.f.memory.Used(), s.f.memory.Large()), true, now))
	}
}

// acquire takes the memory that the next batch of s is known to need, for a request with
// s alone.
func (b *builder) acquire(s *Subscription) bool {
	switch m := b.f.memory; {
	case s.needs > m.Large(): // the limits were changed
		s.needs = 0
	case len(b.wants) > 0:
		return false
	case !m.Acquire(s, s.needs):
		s.lack(s.needs, b.now, b.told)
		return false
	default:
		b.room.AddLarge(s.needs)
	}
	return true
}

// postpone handles an answer that could not be received for lack of memory; ok is false if
// err is another error. A batch that is larger than what was asked for is alone in its answer,
// but the partition is unknown: the members of a request with several are asked for one by one.
func (j *fetchJob) postpone(l *lane, err error) (ok bool) {
	var short *batch.MemoryBusyError
	if !errors.As(err, &short) {
		return false
	}
	now := time.Now()
	var told calls
	defer func() { told.run() }()
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	l.stale = true // the rest of the answer is not read
	for _, m := range j.members() {
		if !m.current() {
			continue
		}
		if len(j.wants) == 1 {
			m.lack(short.Need, now, &told)
		} else {
			m.alone = true
		}
	}
	return true
}

// reclaimLarge drops large batches that consumers do not read while others wait for the
// memory.
func (f *Fetcher) reclaimLarge(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if len(s.queue) > 0 && !s.busy && now.Sub(s.queue[0].since) > largeLying &&
			slices.ContainsFunc(s.queue, func(p *queuedPart) bool { return p.frame.HoldsLarge() }) {
			s.drop(s.next)
			s.eager = false
		}
	}
}
