package model

import (
	"fmt"
	"strings"
)

// A message is a request on its way to the coordinator or to the store.
type message struct {
	put    bool
	worker int

	commit commit
	token  token

	object object
	index  int // of the object in its plan
}

// An agent is a process with a member of the group.
type agent struct {
	process  int // counts restarts
	alive    bool
	token    token // of its last assignment
	assigned bool  // the response with next is on its way
	next     token
	owner    bool // with next, it is assigned the partition

	early, earlyExists bool // committed is what it has read too early, see lateFetch
	committed          commit
}

// A world is everything that the protocol runs in. Its fields are values, so a copy of it, see
// clone, is independent.
type world struct {
	rules    dropped
	inOrder  bool // see scenario
	prompt   bool
	latest   bool // the start policy
	topic    *topic
	group    group
	store    store
	agents   [agents]agent
	workers  []worker
	messages []message
	settings settings // in the file of the operator

	lastRecord, lastTopic int

	// What only the invariants use:
	history  int // a reset, and another topic, begin a new one
	promised set // read by a worker of this history
	skipped  set // below the start offset, by the policy or the operator
	aborted  set
	accepted [maxWorkers]uint64 // nonces of plans that the coordinator has accepted
	violated string
	broken   string // the invariant

	trace *strings.Builder // nil if it is not read
}

// maxRecords and maxHistories are how many the sets of bits can hold.
const (
	maxRecords   = 64
	maxHistories = 32
	maxWorkers   = 24
)

func newWorld(rules dropped, conditional, latest bool) *world {
	w := &world{rules: rules, latest: latest, topic: &topic{id: 1}, store: store{conditional: conditional}, lastTopic: 1}
	for i := range w.agents[:agents-1] {
		w.agents[i].alive = true
	}
	return w
}

// clone returns a copy that is independent of w.
func (w *world) clone() *world {
	c := *w
	t := *w.topic
	t.entries = append([]entry(nil), t.entries...)
	c.topic = &t
	c.store.objects = append([]object(nil), w.store.objects...)
	c.workers = append([]worker(nil), w.workers...)
	c.messages = append([]message(nil), w.messages...)
	return &c
}

// full reports whether a set of bits could overflow.
func (w *world) full() bool {
	return w.history >= maxHistories-1 || len(w.workers) >= maxWorkers
}

func (w *world) say(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "  "+format+"\n", args...)
	}
}

func (w *world) violate(format string, args ...any) {
	if w.violated == "" {
		w.broken = format
		w.violated = fmt.Sprintf(format, args...)
	}
}

// An outcome is what happens to a request.
type outcome int

const (
	answered   outcome = iota
	noResponse         // it takes effect
	errorAfter         // it takes effect, and the response is an error
	errorOnly          // it has no effect, and the response is an error
	again              // it takes effect, and another copy stays on its way; only of a PUT
	outcomes
)

// deliver delivers a message.
func (w *world) deliver(i int, o outcome) {
	if w.inOrder {
		i = w.before(i)
	}
	m := w.messages[i]
	if !m.put || o != again {
		w.messages = append(w.messages[:i:i], w.messages[i+1:]...)
	}
	k := &w.workers[m.worker]
	if m.put {
		w.deliverPut(k, m, o)
		return
	}
	ok := w.group.accepts(m.token)
	w.say("commit %v of %v arrives: accepted=%v%s", m.commit, k, ok, [...]string{"", ", response lost", ", error response", ", not applied, error response", ""}[o])
	if ok && o != errorOnly {
		w.apply(m.commit)
	}
	waits := k.sent && k.pending.nonce == m.commit.nonce && k.phase < unknown
	switch {
	case !waits || o == noResponse:
	case o == errorAfter || o == errorOnly:
		w.resend(k)
	case ok:
		w.committed(k)
	default:
		k.phase = ended
	}
}

// before returns the first commit that is on its way from the process that has sent message i.
func (w *world) before(i int) int {
	k := &w.workers[w.messages[i].worker]
	for j, m := range w.messages[:i] {
		if other := &w.workers[m.worker]; !m.put && !w.messages[i].put && other.agent == k.agent && other.process == k.process {
			return j
		}
	}
	return i
}

// apply is what the coordinator does with a commit that it accepts.
func (w *world) apply(c commit) {
	g := &w.group
	if !g.exists && c.topic == w.topic.id { // the start policy has decided
		w.skipped |= w.topic.records(0, c.offset) &^ w.promised
	}
	g.exists, g.committed = true, c
	if c.planned {
		w.accepted[c.nonce%maxWorkers] |= 1 << (c.nonce / maxWorkers)
	}
	w.checkLost()
}

func (w *world) deliverPut(k *worker, m message, o outcome) {
	at, exists := w.store.head(m.object.key)
	refused := exists && w.store.conditional
	w.say("PUT of %v by %v arrives%s", &m.object, k, map[bool]string{true: ": exists already"}[refused])
	if o != errorOnly && !refused {
		w.land(m.object)
	}
	waits := k.waiting == m.index+1 && k.phase == running && k.plan.nonce == m.object.nonce && k.objects[m.index].key == m.object.key
	if !waits || o == noResponse {
		return
	}
	k.waiting = 0
	switch {
	case o == errorAfter || o == errorOnly: // repeated
	case refused:
		w.seen(k, m.index, at)
	default:
		k.done[m.index] = true
	}
}

// land makes an object visible.
func (w *world) land(o object) {
	at, exists := w.store.head(o.key)
	if !exists {
		at = len(w.store.objects)
		w.store.objects = append(w.store.objects, o)
	} else {
		old := &w.store.objects[at]
		if gone := old.records &^ o.records &^ w.elsewhere(at); !gone.empty() && old.nonce != 0 {
			w.violate("%v overwrites %v: %d records are not visible any more", &o, old, gone.size())
		}
		o.histories |= old.histories
		*old = o
	}
	w.checkRepeated(at)
}

// elsewhere returns the records of all objects but one.
func (w *world) elsewhere(at int) (all set) {
	for i, o := range w.store.objects {
		if i != at {
			all |= o.records
		}
	}
	return all
}

// checkRepeated: no record is in two objects of one history.
func (w *world) checkRepeated(at int) {
	o := &w.store.objects[at]
	for i := range w.store.objects {
		other := &w.store.objects[i]
		if both := o.records & other.records; i != at && o.histories&other.histories != 0 && !both.empty() {
			w.violate("%d records are in two objects: %v and %v", both.size(), other, o)
		}
	}
}

// checkLost: each committed record below the committed offset is visible, unless retention was
// first.
func (w *world) checkLost() {
	c := w.group.committed
	if !w.group.exists || !c.ours || c.topic != w.topic.id {
		return
	}
	if missing := w.missing(c.offset); !missing.empty() {
		w.violate("%d records below the committed offset %d are not visible", missing.size(), c.offset)
	}
}

func (w *world) missing(below int) set {
	return w.topic.records(0, below) &^ w.skipped &^ w.store.visible(w.history)
}

// checkObjects: no object of a plan that was never accepted, and no record of an aborted transaction.
func (w *world) checkObjects() {
	for i := range w.store.objects {
		o := &w.store.objects[i]
		if o.records&w.aborted != 0 {
			w.violate("%v has records of an aborted transaction", o)
		}
		if o.nonce != 0 && w.accepted[o.nonce%maxWorkers]&(1<<(o.nonce/maxWorkers)) == 0 {
			w.violate("%v is of a plan that was never accepted", o)
		}
	}
}
