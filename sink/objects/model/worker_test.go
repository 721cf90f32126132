package model

// A span is a range of offsets with the records that the worker has read of it.
type span struct {
	first, next int
	low, high   int // offsets of the first and last record
	records     set
	hours       [2]set // the records by their window
	closed      bool
	probed      bool
}

func emptySpan(first int) span { return span{first: first, next: first} }

func (s *span) add(o int, e entry) {
	if s.records.empty() {
		s.low = o
	}
	s.high = o
	s.records |= one(e.id)
	s.hours[e.hour] |= one(e.id)
}

// A phase says what a worker does.
type phase int

const (
	resuming phase = iota // reads the committed offset next
	starting              // commits the start offset
	running               // reads, plans, uploads
	unknown               // the result of a commit is unknown
	failed                // ERROR
	ended
)

// A worker serves the partition for one assignment, by §1 of the protocol. It may continue after
// the assignment has ended.
type worker struct {
	id             int // index in the world
	agent, process int
	token          token
	early          bool // start, not the group, has the committed offset, see lateFetch
	start          commit
	startExists    bool

	phase    phase
	history  int // in which it has read the committed offset
	cluster  int
	topic    int
	settings settings

	growing span // the range that it reads
	found   bool // growing is the range of the plan that it has found

	planned bool // plan is open, as far as the worker knows
	plan    plan
	objects [2]object // of the plan
	count   int       // of these
	done    [2]bool
	waiting int // the object whose PUT has no response yet, +1

	sent     bool // pending has no response yet
	pending  commit
	resent   bool // it got an error response before
	requests int  // of commits
}

// An action is what a worker does in one step.
type action int

const (
	read action = iota
	closeRange
	probeKeys
	commitNext
	upload
	lastAction = upload
)

// step lets a worker act. While it runs, it does the first possible action from a on.
func (w *world) step(k *worker, a action) bool {
	switch k.phase {
	case resuming:
		w.resume(k)
		return true
	case unknown:
		w.readBack(k)
		return true
	case running:
		for i := range lastAction + 1 {
			if w.act(k, (a+i)%(lastAction+1)) {
				return true
			}
		}
	}
	return false
}

func (w *world) act(k *worker, a action) bool {
	switch a {
	case read:
		return w.read(k)
	case closeRange:
		if k.found || k.growing.closed || k.growing.records.empty() {
			return false
		}
		k.growing.closed = true
		w.say("%v closes the range [%d,%d)", k, k.growing.first, k.growing.next)
		return true
	case probeKeys:
		return w.probe(k)
	case commitNext:
		return w.commitNext(k)
	default:
		return w.upload(k)
	}
}

// resume is steps 1 and 2 of the protocol.
func (w *world) resume(k *worker) {
	k.history, k.settings, k.cluster, k.topic = w.history, w.settings, w.topic.cluster, w.topic.id
	c, exists := w.group.committed, w.group.exists
	if k.early {
		c, exists, k.early = k.start, k.startExists, false
	}
	mine := exists && c.ours && c.cluster == k.cluster && c.topic == k.topic
	adopts := c.planned && mine && c.plan.first == c.offset && c.plan.cluster == k.cluster && c.plan.topic == k.topic
	offset := c.offset
	switch {
	case !exists && w.latest:
		offset = w.topic.stable()
	case !exists:
		offset = w.topic.start
	case !w.rules.holds(sameTopic):
		mine, adopts = c.ours, c.planned
	case c.ours && c.cluster == k.cluster && c.topic != k.topic:
		offset = w.topic.start
	}
	k.growing = emptySpan(offset)
	if adopts && w.rules.holds(adopt) {
		w.say("%v finds the plan of [%d,%d) and adopts it", k, c.plan.first, c.plan.next)
		k.phase, k.found = running, true
		k.growing = emptySpan(c.plan.first)
		k.plan = c.plan
		return
	}
	w.say("%v resumes at %d", k, offset)
	if mine && !(c.planned && w.rules.holds(adopt)) || !w.rules.holds(startCommitted) {
		k.phase = running
		return
	}
	k.phase = starting
	w.send(k, commit{offset: offset})
}

// read reads up to the next offset.
func (w *world) read(k *worker) bool {
	if k.growing.closed || k.found && w.rebuilt(k) {
		return false
	}
	if k.topic != w.topic.id {
		if k.sent {
			return false
		}
		w.say("%v notices another topic", k)
		k.phase, k.planned, k.found, k.waiting = resuming, false, false, 0
		return true
	}
	limit := w.topic.stable()
	if !w.rules.holds(stableOnly) {
		limit = w.topic.end()
	}
	if k.growing.next < w.topic.start {
		w.say("%v continues at the log start %d", k, w.topic.start)
		k.growing.next = w.topic.start
		return w.advanced(k)
	}
	o, ok := w.topic.next(k.growing.next, limit)
	if !ok {
		return false
	}
	e := w.topic.entries[o]
	k.growing.next = o + 1
	switch {
	case k.found && o >= k.plan.next: // the position only
		w.say("%v reads past the plan to %d", k, o+1)
	case e.record():
		if k.history == w.history {
			w.promised |= one(e.id)
		}
		k.growing.add(o, e)
		w.say("%v reads record %d at %d", k, e.id, o)
	default:
		w.say("%v reads offset %d without a record", k, o)
	}
	return w.advanced(k)
}

// advanced begins the uploads of a plan that was found, once its records are complete.
func (w *world) advanced(k *worker) bool {
	if k.found && w.rebuilt(k) {
		w.beginUploads(k, k.plan)
	}
	return true
}

// rebuilt reports whether the records of the plan that was found are complete.
func (w *world) rebuilt(k *worker) bool {
	if w.rules.holds(endByPosition) {
		return k.growing.next >= k.plan.next
	}
	return !k.growing.records.empty() && k.growing.high == k.plan.next-1
}

// probe is step 4.
func (w *world) probe(k *worker) bool {
	if !k.growing.closed || k.growing.probed {
		return false
	}
	objects, n := w.build(k, w.newPlan(k, 0))
	for _, o := range objects[:n] {
		i, ok := w.store.head(o.key)
		if ok && w.store.objects[i].identity != o.identity && w.rules.holds(probe) {
			if !k.planned && !k.sent {
				w.say("%v finds another object under its key", k)
				k.phase = failed
			}
			return false
		}
	}
	k.growing.probed = true
	return true
}

// newPlan is the plan of the closed range.
func (w *world) newPlan(k *worker, nonce int) plan {
	return plan{nonce, k.cluster, k.topic, k.growing.first, k.growing.next, k.settings}
}

// commitNext is step 5, and the end of step 6.
func (w *world) commitNext(k *worker) bool {
	if k.sent || k.found && !k.planned || k.planned && !w.uploaded(k) {
		return false
	}
	next := k.growing.closed && k.growing.probed
	if !k.planned && !next {
		return false
	}
	c := commit{offset: k.growing.first, planned: next && !k.found}
	if k.found {
		c.offset = k.plan.next
	}
	if c.planned {
		c.plan = w.newPlan(k, 0)
	}
	if c.planned && !w.rules.holds(planFirst) {
		if k.planned {
			c.planned = false
		} else {
			w.say("%v plans [%d,%d) without a commit", k, c.plan.first, c.plan.next)
			w.beginUploads(k, c.plan)
			k.growing = emptySpan(c.plan.next)
			return true
		}
	}
	w.send(k, c)
	if c.planned && !w.rules.holds(putAfterPlan) && !k.planned {
		w.beginUploads(k, k.pending.plan)
	}
	return true
}

// uploaded reports whether every object of the plan was acknowledged or seen.
func (w *world) uploaded(k *worker) bool {
	n := 0
	for _, d := range k.done[:k.count] {
		if d {
			n++
		}
	}
	return n == k.count || n > 0 && !w.rules.holds(allObjects)
}
