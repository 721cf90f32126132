package model

// A kind is a kind of event.
type kind uint8

const (
	produce kind = iota
	endTransaction
	retention
	compaction
	edit
	recreate
	mirror
	reset
	expire
	otherGroup
	crash
	start
	rejoin // of a static member
	rebalance
	assign
	earlyFetch
	step
	arrive
	drop
	timeOut
	kinds
)

// An event is one event of a schedule. What a and b choose follows from the world: an event that is
// not possible does nothing. So any part of a schedule is a schedule.
type event struct {
	kind kind
	a, b uint8
}

func (w *world) do(e event) {
	a, b := int(e.a), int(e.b)
	who := a % (agents - 1)
	x := &w.agents[who]
	switch e.kind {
	case produce:
		w.produce(b%2, b&4 != 0)
	case endTransaction:
		w.endTransaction(a%2 == 0)
	case retention:
		w.remove(w.topic.start, min(w.topic.start+1+a%2, w.topic.stable()))
	case compaction:
		if n := w.topic.stable() - 1; n > w.topic.start { // the last record is never removed
			o := w.topic.start + a%(n-w.topic.start)
			w.removeOne(o)
		}
	case edit:
		w.settings = settings{destination: a % 2, hourly: b%2 == 0}
		w.say("edit: %+v", w.settings)
	case recreate:
		w.recreate(a%2 == 0)
	case mirror:
		w.mirror(b % 4)
	case reset:
		w.reset(a, b%4 == 0)
	case expire:
		w.expire()
	case otherGroup:
		w.otherGroup(a, b)
	case crash:
		if x.alive {
			w.say("agent %s crashes", name(who))
			w.killProcess(who)
		}
	case start:
		x.alive = true
	case rejoin:
		w.rejoin(who, b%2 == 0)
	case rebalance:
		w.rebalance(a%(1<<(agents-1)), b%(agents-1))
	case assign:
		w.assign(who, b%2 == 0)
	case earlyFetch:
		if x.alive && !w.rules.holds(lateFetch) {
			x.early, x.earlyExists, x.committed = true, w.group.exists, w.group.committed
			w.say("agent %s reads the committed offset early: %v", name(who), x.committed)
		}
	case step, timeOut:
		w.disturb(e.kind, a, b)
	case arrive:
		if n := len(w.messages); n > 0 {
			o := answered
			if b < 100 {
				o = outcome(b) % outcomes
			}
			w.deliver(a%n, o)
		}
	case drop:
		if n := len(w.messages); n > 0 {
			m := w.messages[a%n]
			w.say("a request of %v is dropped", &w.workers[m.worker])
			w.messages = append(w.messages[:a%n:a%n], w.messages[a%n+1:]...)
		}
	}
}

// disturb lets the a-th worker that has not ended act, or wait too long.
func (w *world) disturb(kind kind, a, b int) {
	var alive [maxWorkers]*worker
	n := 0
	for i := range w.workers {
		if k := &w.workers[i]; k.phase < failed {
			alive[n] = k
			n++
		}
	}
	switch {
	case n == 0:
	case kind == step:
		w.step(alive[a%n], action(b)%(lastAction+1))
	default:
		w.timeOut(alive[a%n])
	}
}

func (w *world) produce(hour int, transactional bool) {
	if w.lastRecord >= maxRecords-1 || w.topic.end() > 8 {
		return
	}
	w.lastRecord++
	w.say("record %d is produced at %d, hour %d%s", w.lastRecord, w.topic.end(), hour, map[bool]string{true: ", in a transaction"}[transactional])
	w.topic.entries = append(w.topic.entries, entry{id: w.lastRecord, hour: hour, open: transactional})
}

func (w *world) endTransaction(commit bool) {
	n := w.topic.end()
	w.aborted |= w.topic.endTransaction(commit)
	if w.topic.end() > n {
		w.say("the transaction ends: committed=%v, control record at %d", commit, n)
	}
}

// remove is retention up to an offset.
func (w *world) remove(from, to int) {
	for o := from; o < to; o++ {
		w.removeOne(o)
	}
	w.topic.start = max(w.topic.start, to)
}

func (w *world) removeOne(o int) {
	e := &w.topic.entries[o]
	if e.open || e.removed {
		return
	}
	w.say("offset %d is removed from the log", o)
	e.removed = true
}

// newHistory begins a history at the offset from: records below it are not due.
func (w *world) newHistory(from int) {
	w.history++
	w.promised = 0
	w.skipped = w.topic.records(0, from)
}

// recreate deletes the topic and creates it again. Some coordinators keep the offsets.
func (w *world) recreate(keep bool) {
	c := w.group.committed
	if w.full() {
		return
	}
	// An offset without metadata of this cluster is used, see limit 3.
	keep = keep && (!w.group.exists || c.ours && c.cluster == w.topic.cluster)
	w.lastTopic++
	w.topic = &topic{cluster: w.topic.cluster, id: w.lastTopic}
	w.newHistory(0)
	w.group.exists = w.group.exists && keep
	w.say("the topic is recreated as %d, the committed offset is kept: %v", w.lastTopic, w.group.exists)
}

// mirror moves the consumer to another cluster, which has n records of its own and the group's offset with
// its metadata.
func (w *world) mirror(n int) {
	if w.full() || w.lastRecord+n >= maxRecords {
		return
	}
	w.lastTopic++
	w.topic = &topic{cluster: w.topic.cluster + 1, id: w.lastTopic}
	w.say("the consumer moves to cluster %d, topic %d", w.topic.cluster, w.lastTopic)
	for range n {
		w.produce(0, false)
	}
	g := &w.group
	g.members = [agents]int{}
	g.generation++ // no token of the other coordinator is valid
	g.committed.offset = min(g.committed.offset, n)
	from := 0
	if g.exists {
		from = g.committed.offset
	}
	w.newHistory(from)
}

// reset sets the committed offset of a group without members. Limit 1: no plan is open. A tool
// that copies offsets keeps the metadata.
func (w *world) reset(to int, keep bool) {
	g := &w.group
	if !g.empty() || !g.exists || w.full() || g.openPlan() != keep {
		return
	}
	to = w.topic.start + to%(w.topic.stable()-w.topic.start+1)
	if keep && (to == g.committed.offset || !g.committed.ours) {
		return
	}
	w.say("the committed offset is set from %d to %d, its metadata is kept: %v", g.committed.offset, to, keep)
	if keep {
		g.committed.offset = to
	} else {
		g.committed = commit{offset: to}
	}
	w.newHistory(to)
}

// expire deletes the offset of a group without members.
func (w *world) expire() {
	if !w.group.empty() || !w.group.exists || w.full() || w.group.openPlan() {
		return
	}
	w.say("the committed offset expires")
	w.group.exists = false
	w.newHistory(w.topic.start)
}

// otherGroup puts an object of a group that uses the same prefix.
func (w *world) otherGroup(a, b int) {
	n := w.topic.stable()
	if n == 0 {
		return
	}
	first := a % n
	next := first + 1 + b%(n-first)
	o := object{
		identity: identity{w.topic.cluster, w.topic.id, first, next},
		key:      key{settings: settings{w.settings.destination, false}, hour: noKey, topic: w.topic.id, first: first, last: next - 1},
		records:  w.topic.records(first, next),
	}
	w.shorten(&o.key)
	if _, ok := w.store.head(o.key); ok || o.records.empty() {
		return
	}
	w.say("another group puts %v", &o)
	w.store.objects = append(w.store.objects, o)
}

// killProcess ends the process of an agent, with its workers.
func (w *world) killProcess(who int) {
	x := &w.agents[who]
	for i := range w.workers {
		if k := &w.workers[i]; k.agent == who && k.process == x.process {
			k.phase = ended
		}
	}
	*x = agent{process: x.process + 1}
}

// rejoin replaces the process of a static member, in the same generation. The old process may hang.
func (w *world) rejoin(who int, hangs bool) {
	g, x := &w.group, &w.agents[who]
	if g.members[who] == 0 {
		return
	}
	if hangs {
		*x = agent{process: x.process + 1}
	} else {
		w.killProcess(who)
	}
	g.members[who] = g.newMember()
	x.alive, x.assigned, x.owner = true, true, g.owner == who
	x.next = token{g.generation, g.members[who]}
	w.say("agent %s restarts as a static member, its old process hangs: %v", name(who), hangs)
}

// rebalance begins a generation with the agents of a set. The others are no members any more.
func (w *world) rebalance(members, owner int) {
	g := &w.group
	g.generation++
	g.owner = owner
	for i := range w.agents {
		x := &w.agents[i]
		if members&(1<<i) == 0 || !x.alive {
			g.members[i] = 0
			continue
		}
		if g.members[i] == 0 {
			g.members[i] = g.newMember()
		}
		x.assigned, x.owner, x.next = true, i == owner, token{g.generation, g.members[i]}
	}
	w.say("generation %d begins, members %s, owner %s", g.generation, names(g.members), name(owner))
}

// assign delivers the assignment to an agent. The old work ends, or does not notice.
func (w *world) assign(who int, ends bool) {
	x := &w.agents[who]
	if !x.alive || !x.assigned || len(w.workers) >= maxWorkers {
		return
	}
	if ends {
		for i := range w.workers {
			if k := &w.workers[i]; k.agent == who && k.process == x.process {
				k.phase = ended
			}
		}
	}
	x.token, x.assigned = x.next, false
	w.say("agent %s gets its assignment of generation %d, with the partition: %v, its old work ends: %v", name(who), x.token.generation, x.owner, ends)
	if x.owner {
		k := worker{id: len(w.workers), agent: who, process: x.process, token: x.token, early: x.early, start: x.committed, startExists: x.earlyExists}
		w.workers = append(w.workers, k)
	}
	x.early = false
}
