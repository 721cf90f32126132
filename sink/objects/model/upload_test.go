package model

// build returns the objects of a plan, from the records that were read.
func (w *world) build(k *worker, p plan) (objects [2]object, n int) {
	s := &k.growing
	o := object{identity: p.identity(), nonce: p.nonce, histories: 1 << k.history}
	o.key = key{settings: p.settings, hour: noKey, topic: p.topic, first: p.first, last: p.next - 1}
	if !w.rules.holds(planSettings) {
		o.key.settings = k.settings
	}
	if !w.rules.holds(planRange) {
		o.key.first, o.key.last = s.low, s.high
	}
	w.shorten(&o.key)
	if !o.key.settings.hourly {
		if o.records = s.records; o.records.empty() {
			return objects, 0
		}
		objects[0] = o
		return objects, 1
	}
	for hour, records := range s.hours {
		if o.key.hour, o.records = hour, records; !records.empty() {
			objects[n] = o
			n++
		}
	}
	return objects, n
}

// shorten removes from a key what a rule that is dropped would put there.
func (w *world) shorten(k *key) {
	if !w.rules.holds(topicInKey) {
		k.topic = noKey
	}
	if !w.rules.holds(lastInKey) {
		k.last = noKey
	}
}

// beginUploads begins step 6.
func (w *world) beginUploads(k *worker, p plan) {
	k.planned, k.plan, k.done, k.waiting = true, p, [2]bool{}, 0
	k.objects, k.count = w.build(k, p)
}

// upload begins the next PUT, after a HEAD.
func (w *world) upload(k *worker) bool {
	if !k.planned || k.waiting > 0 {
		return false
	}
	for i := range k.count {
		if k.done[i] {
			continue
		}
		if at, ok := w.store.head(k.objects[i].key); ok && w.rules.holds(headFirst) {
			w.seen(k, i, at)
			return true
		}
		w.say("%v sends PUT of %v", k, &k.objects[i])
		k.waiting = i + 1
		w.messages = append(w.messages, message{put: true, worker: k.id, index: i, object: k.objects[i]})
		if w.prompt {
			w.deliver(len(w.messages)-1, answered)
		}
		return true
	}
	return false
}

// seen is what a worker does when an object with the key exists already.
func (w *world) seen(k *worker, i, at int) {
	there := &w.store.objects[at]
	if w.rules.holds(checkIdentity) && there.identity != k.objects[i].identity {
		w.say("%v finds another object under the key of its plan", k)
		k.phase = failed
		return
	}
	w.say("%v finds %v in the store", k, there)
	k.done[i] = true
	there.histories |= 1 << k.history
	w.checkRepeated(at)
}

// send sends a commit.
func (w *world) send(k *worker, c commit) {
	n := k.newNonce()
	c.ours, c.nonce, c.cluster, c.topic, c.plan.nonce = true, n, k.cluster, k.topic, n
	k.pending, k.resent = c, false
	w.transmit(k)
}

// resend sends the pending commit again. If the second copy gets no response, the nonce in force may be
// that of the first one.
func (w *world) resend(k *worker) {
	k.resent = true
	w.transmit(k)
}

// newNonce returns a nonce that no other commit has.
func (k *worker) newNonce() int {
	k.requests++
	return k.id + maxWorkers*k.requests
}

// transmit puts the pending commit on the way.
func (w *world) transmit(k *worker) {
	k.sent = true
	t := k.token
	if a := &w.agents[k.agent]; !w.rules.holds(ownToken) && a.process == k.process {
		t = a.token
	}
	w.say("%v sends commit %v with generation %d", k, k.pending, t.generation)
	w.messages = append(w.messages, message{worker: k.id, commit: k.pending, token: t})
}

// committed is what a worker does after the success of the pending commit.
func (w *world) committed(k *worker) {
	c := k.pending
	k.sent = false
	k.phase = running
	if k.found && k.planned { // the plan that it found is complete: a new round
		k.phase, k.found, k.planned = resuming, false, false
		return
	}
	if !c.planned {
		k.planned = false
		return
	}
	if !k.planned || k.plan.nonce != c.plan.nonce { // else uploads have begun before the success
		w.beginUploads(k, c.plan)
	}
	k.growing = emptySpan(c.plan.next)
}

// timeOut is what a worker does when it has no response.
func (w *world) timeOut(k *worker) bool {
	switch {
	case k.phase >= failed:
		return false
	case k.sent && k.phase != unknown:
		w.say("%v has no response to its commit", k)
		switch {
		case w.rules.holds(unknownResult):
			k.phase = unknown
		case !w.rules.holds(noResend):
			w.transmit(k)
		case k.phase == starting:
			w.resend(k)
		default: // a new plan
			k.sent, k.growing.closed, k.growing.probed = false, false, false
		}
		return true
	case k.waiting > 0:
		w.say("%v has no response to its PUT", k)
		k.waiting = 0
		return true
	}
	return false
}

// readBack is rule 6.
func (w *world) readBack(k *worker) {
	proves := !k.resent || !w.rules.holds(resentProvesNothing)
	if w.group.exists && w.group.committed.ours && w.group.committed.nonce == k.pending.nonce && proves {
		w.say("%v finds its own commit in force", k)
		w.committed(k)
		return
	}
	w.say("%v does not know whether its commit will arrive, and leaves the group", k)
	k.phase = ended
	if m := &w.group.members[k.agent]; *m == k.token.member {
		*m = 0
	}
}
