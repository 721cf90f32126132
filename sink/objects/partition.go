package objects

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kcagent/sink"
	"kcagent/sink/sinkio"
)

// maxClosed is how many closed ranges a partition has before it takes no further chunks.
const maxClosed = 2

// A partition has the ranges of one partition that are not published yet.
type partition struct {
	sink     *objectsSink
	tp       sink.TopicPartition
	write    sinkio.Mutex             // is held during Write, Resume, Adopt and Complete
	settings atomic.Pointer[settings] // for the encoders

	mu      sync.Mutex
	begun   bool           // there is a position: since the last Resume, Adopt or Complete was called
	base    sink.Position  // what is published ends here
	newest  time.Time      // timestamp of the records that are published
	ranges  []*offsetRange // from base on, without gaps; all but the last are closed
	writing bool           // a Write is in progress, so no range may be closed
	lost    error          // the spool has lost records; wraps sink.ErrReopen
	blocked bool           // Limits has returned false

	offer *sink.Commit // what Plan returns until Publish is called with it; nil if that may change
	nonce string       // of the next commit without a plan; "" if it has none yet
}

// drop forgets everything, and ends the jobs.
func (p *partition) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.ranges {
		r.drop()
	}
	p.begun, p.newest, p.ranges, p.lost, p.blocked, p.offer, p.nonce = false, time.Time{}, nil, nil, false, nil, ""
}

// begin begins a range, or moves the end of the range that grows forward.
func (p *partition) begin(pos sink.Position) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun && p.unpublished() {
		end := p.ranges[len(p.ranges)-1].end()
		if pos.Next < end || pos.Lineage != p.base.Lineage || pos.Topic != p.base.Topic || p.adopted() {
			return errUnpublished
		}
		r := p.growing()
		r.next, r.epoch = pos.Next, pos.Epoch
		return nil
	}
	for _, r := range p.ranges {
		r.drop()
	}
	p.begun, p.base, p.newest, p.ranges, p.lost, p.offer, p.nonce = true, pos, time.Time{}, nil, nil, nil, ""
	p.settings.Store(p.sink.current.Load())
	return nil
}

// adopt begins the range of a plan that the group has.
func (p *partition) adopt(pos sink.Position, plan sink.Plan, s *settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.ranges {
		r.drop()
	}
	p.begun, p.base, p.newest, p.lost, p.offer, p.nonce = true, pos, time.Time{}, nil, nil, ""
	r := p.newRange(s, plan.First)
	r.plan, r.planned, r.adopted, r.epoch, r.closedAt = &plan, true, true, pos.Epoch, p.sink.options.Now()
	p.ranges = []*offsetRange{r}
	p.settings.Store(s)
}

// unpublished reports whether there are records, or closed ranges. The caller holds mu.
func (p *partition) unpublished() bool {
	return len(p.ranges) > 1 || len(p.ranges) == 1 && (p.ranges[0].closed || p.ranges[0].records > 0 || p.ranges[0].adopted)
}

// adopted reports whether the partition completes a plan that the group had. The caller holds mu.
func (p *partition) adopted() bool { return len(p.ranges) == 1 && p.ranges[0].adopted }

// newRange returns a range without records. The caller holds mu.
func (p *partition) newRange(s *settings, first int64) *offsetRange {
	r := &offsetRange{settings: s, rotate: p.sink.spec.Load().Rotate, topic: p.base.Topic, first: first, next: first}
	r.ctx, r.cancel = context.WithCancel(p.sink.ctx)
	return r
}

// growing returns the range that grows, and begins it if there is none. The caller holds mu.
func (p *partition) growing() *offsetRange {
	first, epoch, newest := p.base.Next, p.base.Epoch, p.newest
	if n := len(p.ranges); n > 0 {
		last := p.ranges[n-1]
		if !last.closed {
			return last
		}
		first, epoch, newest = last.end(), last.epoch, last.newest
	}
	r := p.newRange(p.sink.current.Load(), first)
	r.epoch, r.newest = epoch, newest
	p.ranges = append(p.ranges, r)
	return r
}

// closed returns how many ranges are closed. The caller holds mu.
func (p *partition) closed() (n int) {
	for _, r := range p.ranges {
		if r.closed {
			n++
		}
	}
	return n
}

// flush closes the range that grows if it is due, or, if all is set, if it has a record. It returns
// when the range that grows afterwards is due, and why the partition is behind.
func (p *partition) flush(now time.Time, all bool) (dueAt time.Time, fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ranges) == 0 {
		return time.Time{}, p.lost
	}
	r := p.ranges[len(p.ranges)-1]
	if !r.closed && !r.adopted && all {
		r.due = r.records > 0
		if !r.due && !p.writing && r.next > r.first {
			p.close(r)
		}
	}
	p.closeIfDue(r, now)
	fault = p.lost
	if head := p.ranges[0]; fault == nil {
		fault = head.fault
	}
	return r.dueAt(), fault
}

// closeIfDue closes a range if it is complete. The caller holds mu.
func (p *partition) closeIfDue(r *offsetRange, now time.Time) bool {
	if r.closed || p.writing || p.lost != nil {
		return false
	}
	if !r.isDue(now) && !(r.adopted && r.next >= r.plan.Next) {
		return false
	}
	p.close(r)
	return true
}

// close closes a range, and starts its first job. The caller holds mu.
func (p *partition) close(r *offsetRange) {
	r.closed = true
	if !r.adopted {
		r.closedAt = p.sink.options.Now()
	}
	switch {
	case r.adopted || p.sink.atLeastOnce() && len(r.objects) > 0:
		p.startUpload(r)
	case len(r.objects) == 0: // nothing to publish, but the position moves
	default:
		p.startProbe(r)
	}
}

func (s *objectsSink) atLeastOnce() bool { return s.spec.Load().Delivery == sink.AtLeastOnce }

// objects returns what /status shows, and adds to the sums; false if there is nothing.
func (p *partition) objects(all *sink.Objects) (o sink.PartitionObjects, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		return o, false
	}
	o.First = p.base.Next
	for i, r := range p.ranges {
		all.Spool += r.bytes()
		switch {
		case !r.closed && !r.adopted:
			all.Open += len(r.objects)
			o.First, o.Records, o.Bytes, o.Objects, o.Since, o.DueAt = r.first, r.records, r.bytes(), len(r.objects), r.since, r.dueAt()
		case i == 0 || o.Closed == nil:
			o.Closed = r.upload()
		}
		if r.closed || r.adopted {
			o.First = r.end()
		}
	}
	return o, true
}

// upload describes a closed range, or one whose plan was found in the group: the records of that may
// not be read again yet.
func (r *offsetRange) upload() *sink.Upload {
	u := &sink.Upload{First: r.first, Next: r.end(), Records: r.records, Bytes: r.bytes(), Objects: len(r.objects), Planned: r.planned, Since: r.closedAt, Retry: r.retryAt}
	if r.adopted {
		u.Records = r.plan.Records
	}
	for _, o := range r.objects {
		if o.uploaded {
			u.Uploaded++
		}
	}
	if r.fault != nil {
		u.Error = r.fault.Error()
	}
	return u
}
