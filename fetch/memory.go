package fetch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
)

// A budget limits the memory of requests in flight and of frames that are not read yet, in bytes.
// f.mu guards it.
type budget struct {
	lanes    int64 // of all brokers together
	limit    int64 // of promised and kept together
	grant    int64 // for one request
	promised int64 // to requests in flight
	kept     int64 // in frames with a part that is still to be read
	peak     int64 // the largest sum of promised and kept so far
}

// promise reserves memory for a request, and returns how much; 0 if there is too little.
func (b *budget) promise() int64 {
	free := b.limit - b.promised - b.kept
	if free < b.grant/4 {
		return 0
	}
	n := min(b.grant, free)
	b.promised += n
	b.peak = max(b.peak, b.promised+b.kept)
	return n
}

// keep counts a frame of which a part is still to be read.
func (b *budget) keep(size int64) {
	b.kept += size
	b.peak = max(b.peak, b.promised+b.kept)
}

// releasePart drops one part of a frame, which may be nil. The last one releases the frame, and
// wakes lanes that lack memory. f.mu is held.
func (f *Fetcher) releasePart(fr *batch.Frame) {
	if fr == nil || !fr.Unref() {
		return
	}
	f.budget.kept -= fr.Size()
	fr.Release()
	for _, b := range f.brokers {
		for _, l := range b.lanes {
			if l.outOfMemory {
				l.outOfMemory = false
				l.wake.Set()
			}
		}
	}
}

const (
	// unreadAfter is how long a part that was fetched ahead is kept for its consumer when others
	// need the memory. Nothing is fetched ahead for a consumer that was away for longer.
	unreadAfter = 100 * time.Millisecond
	// memoryRetry is how often a lane without memory tries to reclaim some.
	memoryRetry = 20 * time.Millisecond
)

// reclaimUnread drops parts that consumers did not read in time. f.mu is held.
func (f *Fetcher) reclaimUnread(now time.Time) {
	for s := range f.subs {
		if len(s.cursor.Queue) > 0 && !s.reader.taking && now.Sub(s.cursor.Queue[0].Since) > unreadAfter {
			s.drop(s.cursor.Next)
			s.reader.prefetch = false
		}
	}
}

const (
	// largeRetry is how often a lane tries to acquire the memory that a large batch needs.
	largeRetry = 50 * time.Millisecond
	// largeUnreadAfter is how long a large batch may stay unread while another one waits for its
	// memory.
	largeUnreadAfter = time.Second
)

// largePatience is how long a large batch waits for memory before its consumer reports that. Tests
// shorten it.
var largePatience = 10 * time.Second

// handleDeferred handles a response with a batch for which there was no memory. It is fetched again:
// as the first one of a response, or once there is memory for a large batch.
func (s *Subscription) handleDeferred(c *batch.Content, now time.Time, later *callbacks) {
	s.sizing.Misses, s.sizing.Barren = 0, false
	s.sizing.Adjust(c, s.spec.MaxBytes)
	if c.LargeBytes == 0 {
		later.add(s.recover())
		return
	}
	s.waitForMemory(c.LargeBytes, now, later)
}

// waitForMemory records that s needs memory for a large batch that others hold now.
func (s *Subscription) waitForMemory(need int64, now time.Time, later *callbacks) {
	if s.sizing.LargeBytes == 0 {
		s.sizing.WaitingSince = now
	}
	s.sizing.LargeBytes, s.request.retryAt = need, now.Add(largeRetry)
	s.touch()
	if s.route.broker != nil {
		s.route.broker.heldBackAt = now // it is not a stall
	}
	if now.Sub(s.sizing.WaitingSince) > largePatience {
		later.add(s.fail(fmt.Errorf("read %s/%d at offset %d: waiting for memory: record batch needs %d bytes, and other large batches use %d of %d bytes; raise the memory limit if this persists",
			s.spec.Topic, s.spec.Partition, s.cursor.FetchOffset, need, s.f.memory.Used(), s.f.memory.Large()), true, now))
	}
}

// acquireLarge acquires the memory that the next batch of s is known to need. It returns false if
// that is not possible now, or if the request has other entries: a large batch is requested alone.
func (b *fetchBuilder) acquireLarge(s *Subscription) bool {
	switch m := b.f.memory; {
	case s.sizing.LargeBytes > m.Large(): // the limits have changed
		s.sizing.LargeBytes = 0
	case len(b.entries) > 0:
		return false
	case !m.Acquire(s, s.sizing.LargeBytes):
		s.waitForMemory(s.sizing.LargeBytes, b.now, b.later)
		return false
	default:
		b.allowance.AddLarge(s.sizing.LargeBytes)
	}
	return true
}

// handleMemoryBusy handles a response that was not read for lack of memory. It returns false if err
// is another error. A batch that is larger than requested is alone in its response, but it is
// unknown which partition that is: the participants are then requested one by one.
func (j *fetchJob) handleMemoryBusy(l *lane, err error) (ok bool) {
	busy, ok := errors.AsType[*batch.MemoryBusyError](err)
	if !ok {
		return false
	}
	now := time.Now()
	var later callbacks
	defer func() { later.run() }()
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	l.reconnect = true // the rest of the response is not read
	for _, p := range j.participants() {
		if !p.finish() {
			continue
		}
		if len(j.entries) == 1 {
			p.waitForMemory(busy.Need, now, &later)
		} else {
			p.sizing.Alone = true
		}
	}
	return true
}

// reclaimLarge drops large batches that consumers do not read, because others wait for the memory.
func (f *Fetcher) reclaimLarge(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if len(s.cursor.Queue) > 0 && !s.reader.taking && now.Sub(s.cursor.Queue[0].Since) > largeUnreadAfter &&
			slices.ContainsFunc(s.cursor.Queue, func(p *partition.QueuedPart) bool { return p.Frame.HoldsLarge() }) {
			s.drop(s.cursor.Next)
			s.reader.prefetch = false
		}
	}
}
