package objects

import (
	"context"
	"time"

	"kcagent/leader"
	"kcagent/retry"
	"kcagent/sink"
	"kcagent/sink/objects/spool"
	"kcagent/sink/template"
)

// maxWindows is how many objects a range has at most. A plan names a contiguous range, so a record
// of a further window closes the whole range.
const maxWindows = 32

// An offsetRange is a range of offsets of one partition whose records are published together. The
// mutex of the partition guards it; only spool files are written without the mutex, by the one Write
// of the partition.
type offsetRange struct {
	*settings
	rotate sink.ObjectRotate
	ctx    context.Context // of jobs; ends when the range is dropped
	cancel context.CancelFunc

	topic       sink.Identity
	first, next int64
	epoch       leader.Epoch // of the record at next-1
	records     int64
	objects     []*object
	since       time.Time // by the clock, of the first record
	from        time.Time // timestamp from which the age of the records counts: the newest up to the first record
	newest      time.Time // timestamp of the records of the partition, up to the end of the range

	due      bool // close it as soon as no Write is in progress
	closed   bool
	closedAt time.Time // or when the plan was found in the group
	probed   bool      // no key is used by an object with other records
	plan     *sink.Plan
	planned  bool // the plan is committed, or must not be replaced, so that it can be uploaded
	adopted  bool // the plan was found in the group: the range ends at plan.Next, by position
	job      bool // a job waits, runs, or will be retried
	uploaded bool // all objects are acknowledged or seen

	backoff retry.Backoff
	retryAt time.Time
	fault   error // of the last job
}

// An object is the records of a range with the same key.
type object struct {
	time     time.Time // of a record of it; renders the key
	window   sink.Window
	name     string // the key without the range
	file     *spool.File
	size     int64 // of the file, without records that are not compressed yet
	spooled  int64 // bytes on the disk
	records  int64
	uploaded bool
}

// end returns the offset after the range. A plan that was found in the group decides it.
func (r *offsetRange) end() int64 {
	if r.adopted {
		return r.plan.Next
	}
	return r.next
}

// endEpoch returns the leader epoch of the last record of the range. A plan that was found in the
// group has the epoch with which the record was first read.
func (r *offsetRange) endEpoch() leader.Epoch {
	if r.adopted && r.plan.Epoch.Known() {
		return r.plan.Epoch
	}
	return r.epoch
}

// complete reports whether nothing is left to upload.
func (r *offsetRange) complete() bool {
	return r.closed && (r.uploaded || len(r.objects) == 0 && !r.adopted)
}

// object returns the object of a chunk, and creates it if there is none. It returns nil if the range
// has as many as it may have.
func (r *offsetRange) object(p *partition, c *sink.Chunk) (*object, error) {
	for _, o := range r.objects {
		if o.window.Has(c.Time) {
			return o, nil
		}
	}
	// Several windows may have one key, such as an hour that daylight saving repeats.
	name, err := r.template.Render(template.Values{Topic: p.tp.Topic, Partition: p.tp.Partition, Time: c.Time})
	if err != nil {
		return nil, err
	}
	for _, o := range r.objects {
		if o.name == name {
			return o, nil
		}
	}
	if len(r.objects) >= maxWindows && !r.adopted {
		return nil, nil
	}
	o := &object{time: c.Time, window: r.template.Window(c.Time), name: name, file: p.sink.spool.New(r.codec)}
	r.objects = append(r.objects, o)
	return o, nil
}

// accepted records that a chunk is in the spool.
func (r *offsetRange) accepted(c *sink.Chunk, o *object, now time.Time) {
	r.next, r.epoch = max(r.next, c.Next), c.Epoch
	if o == nil {
		return
	}
	n := int64(max(c.Count, 1))
	o.size, o.spooled = o.file.Size(), o.file.Spooled()
	o.records += n
	r.records += n
	if r.since.IsZero() {
		r.since = now.Round(0) // steps of the clock count, as in the timer
	}
	t := c.Time
	if t.After(now) { // by a wrong clock: it must not close each range
		t = now
	}
	if t.After(r.newest) {
		r.newest = t
	}
	if r.from.IsZero() {
		r.from = r.newest
	}
}

// isDue reports whether the range is complete: by its size, its age, or the age of its records. Late
// records have no age, not even the first of a range: otherwise, each late record would close a range
// if producers send older and newer records by turns. A clock that was set back closes the range,
// because its age is unknown then.
func (r *offsetRange) isDue(now time.Time) bool {
	if r.records == 0 || r.adopted {
		return false
	}
	if r.due || !now.Before(r.dueAt()) || now.Before(r.since) || r.newest.Sub(r.from) >= r.rotate.Every && r.rotate.Every > 0 {
		return true
	}
	for _, o := range r.objects {
		if o.size >= int64(r.rotate.Size) && r.rotate.Size > 0 {
			return true
		}
	}
	return false
}

// dueAt returns when the range is closed because of its age; zero if it has no record.
func (r *offsetRange) dueAt() time.Time {
	if r.since.IsZero() || r.closed || r.adopted {
		return time.Time{}
	}
	return r.since.Add(r.rotate.Every)
}

// key returns the key of an object of a range that is closed.
func (r *offsetRange) key(p *partition, o *object) (string, error) {
	id := r.identity(p)
	key, err := r.template.Render(template.Values{
		Topic: id.topic, Partition: id.partition, First: id.first, Last: id.last, TopicID: id.topicID, Time: o.time,
	})
	return key + r.ext, err
}

// identity returns the identity of all objects of a range that is closed.
func (r *offsetRange) identity(p *partition) identity {
	return identity{
		cluster: r.topic.Cluster, topicID: r.topic.Topic, topic: p.tp.Topic, partition: p.tp.Partition,
		first: r.first, last: r.end() - 1,
	}
}

// bytes returns how many bytes the range has in the spool.
func (r *offsetRange) bytes() (n int64) {
	for _, o := range r.objects {
		n += o.spooled
	}
	return n
}

// drop ends the jobs of the range and removes its files.
func (r *offsetRange) drop() {
	r.cancel()
	for _, o := range r.objects {
		o.file.Remove()
	}
}
