package fetch

import (
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

const (
	// peekInterval is how often caught-up partitions are requested along with those that are
	// behind.
	peekInterval = 200 * time.Millisecond
	// caughtUpPace is how long caught-up partitions are not requested again, for each one in the
	// last request, and caughtUpRest is the maximum. So with a thousand partitions, each of
	// which gets a record now and then, one request brings the records of many.
	caughtUpPace = 20 * time.Microsecond
	caughtUpRest = 100 * time.Millisecond
	// minLongPoll is the shortest long poll of the last free lane while consumers are about to
	// come back for more.
	minLongPoll = 10 * time.Millisecond
	// maxLastLongPoll is its longest one. Otherwise a partition that is new, or that can be
	// fetched again, would wait for MaxWait.
	maxLastLongPoll = 250 * time.Millisecond
	// gatherTime is how long a request waits for another lane to come back.
	gatherTime = 5 * time.Millisecond
)

// topicPartition returns the key of s in a request, which has each partition once.
func (s *Subscription) topicPartition() wire.TopicPartition {
	return wire.TopicPartition{Topic: s.spec.Topic, Partition: s.spec.Partition}
}

// A fetchEntry is one partition in a request. All its participants have the same offset.
type fetchEntry struct {
	wire.TopicPartition
	offset      int64
	leaderEpoch int32
	lastEpoch   leader.Epoch // of the last record before offset; some participants may not know it
	bytes       int64        // to request
	subs        []participant
	unconfirmed bool // no leader of this epoch has confirmed lastEpoch
}

// A fetchJob requests records.
type fetchJob struct {
	f         *Fetcher
	iso       sarama.IsolationLevel
	rack      string
	wait      time.Duration // how long the broker may hold back the response
	granted   int64         // bytes that the budget has promised
	allowance batch.Allowance
	owner     *Subscription // the first participant, for which memory for large batches is acquired
	bytes     int64         // to request for all entries together
	entries   []*fetchEntry
}

func (j *fetchJob) participants() []participant {
	var all []participant
	for _, e := range j.entries {
		all = append(all, e.subs...)
	}
	return all
}

func (j *fetchJob) release() {
	j.f.budget.promised -= j.granted
	j.granted = 0
	j.allowance.Close()
}

// planFetch chooses the partitions of the next request. Partitions that are behind come first,
// beginning with the one that has waited longest. The lane takes as many of them as its share and
// the memory allow, so that the other lanes have something to request, too. Caught-up partitions
// are requested all at once.
func (l *lane) planFetch(now time.Time, wait time.Duration, later *callbacks) plan {
	iso, peek := l.chooseIsolation(now)
	if iso < 0 {
		for i, at := range l.b.caughtUpAt {
			if left := at.Sub(now); left > 0 && len(l.b.caughtUp[i]) > 0 {
				wait = min(wait, left)
			}
		}
		return plan{wait: wait}
	}
	behind := len(l.b.behind[iso]) > 0
	if !behind && !peek && l.waitsForOthers(now) {
		return plan{wait: gatherTime}
	}
	l.f.fitBudget()
	granted := l.f.budget.promise()
	if granted == 0 {
		l.f.reclaimUnread(now)
		if granted = l.f.budget.promise(); granted == 0 {
			l.outOfMemory, l.b.heldBackAt = true, now
			return plan{wait: min(wait, memoryRetry)}
		}
	}
	b := fetchBuilder{
		fetchJob: &fetchJob{f: l.f, iso: iso, wait: l.f.settings.MaxWait, granted: granted, allowance: batch.NewAllowance(l.f.memory)},
		now:      now, byPartition: make(map[wire.TopicPartition]*fetchEntry), later: later,
	}
	b.addBehind(l, (len(l.b.behind[0])+len(l.b.behind[1])+l.f.settings.Lanes-1)/l.f.settings.Lanes)
	if !b.alone {
		b.addCaughtUp(l, len(b.entries) == 0)
	}
	if len(b.entries) == 0 { // all wait for memory for large batches, or return to their leaders
		b.release()
		return plan{wait: min(wait, largeRetry)}
	}
	b.owner = b.entries[0].subs[0].Subscription
	switch {
	case peek:
		b.wait = 0
	case !behind:
		b.wait = l.longPoll(now, b.wait)
	}
	b.rack = b.rackFor(now)
	b.setSize()
	return plan{job: b.fetchJob}
}

// chooseIsolation returns the isolation level of the next request, less than 0 if none is due.
// Usually it is that of the partition that is behind and has waited longest. If caught-up
// partitions of the other level have waited for peekInterval, it is theirs, and peek is true.
func (l *lane) chooseIsolation(now time.Time) (iso sarama.IsolationLevel, peek bool) {
	caughtUp := l.b.caughtUp
	for i, at := range l.b.caughtUpAt {
		if at.After(now) {
			caughtUp[i] = nil
		}
	}
	behind, first := firstOf(l.b.behind), firstOf(caughtUp)
	switch {
	case behind == nil && first == nil:
		return -1, false
	case behind == nil:
		return first.iso, false
	case first != nil && first.iso != behind.iso && sinceStart(now)-first.entry.rank >= int64(peekInterval):
		return first.iso, true
	}
	return behind.iso, false
}

// A fetchBuilder adds subscriptions to a fetchJob.
type fetchBuilder struct {
	*fetchJob
	now         time.Time
	byPartition map[wire.TopicPartition]*fetchEntry
	memory      int64   // that the response is likely to need
	ratio       float64 // the largest ratio of memory to requested bytes of an entry
	alone       bool    // the only entry has to be requested alone
	later       *callbacks
}

// addBehind adds up to share partitions that are behind, as far as the memory allows, and the other
// subscriptions at the same positions. If no broker has confirmed a position yet, it is added
// whatever memory it needs, because the response confirms it with or without records.
// Otherwise a start with a thousand partitions would take a round trip for every thirty of them.
func (b *fetchBuilder) addBehind(l *lane, share int) {
	behind := &l.b.behind[b.iso]
	var skipped []*Subscription
	for len(*behind) > 0 && !b.alone && len(b.entries) < share {
		s := behind.first()
		if s.cursor.Confirmed && b.memory >= b.granted {
			break
		}
		l.b.unlist(s)
		if !b.add(s) {
			skipped = append(skipped, s)
			continue
		}
		for _, other := range l.f.byPartition[s.spec.Topic][s.spec.Partition] {
			if other.route.broker == l.b && other.state == stateBehind && other.iso == b.iso && b.join(other) {
				l.b.unlist(other)
			}
		}
	}
	for _, s := range skipped {
		s.touch()
	}
}

// add adds s to the request. It returns false if s has to wait: its partition is requested at another
// offset, or s or another subscription is to be requested alone, for example.
func (b *fetchBuilder) add(s *Subscription) bool {
	if b.byPartition[s.topicPartition()] != nil {
		return b.join(s)
	}
	if b.alone || s.sizing.Alone && len(b.entries) > 0 || s.expireLease(b.now) {
		return false
	}
	if s.sizing.LargeBytes > 0 && !b.acquireLarge(s) {
		return false
	}
	b.alone = s.sizing.Alone || s.sizing.LargeBytes > 0
	if !s.cursor.Confirmed {
		b.wait = 0 // its consumer waits until the position is confirmed
	}
	bytes, memory := s.sizing.Request()
	e := &fetchEntry{
		TopicPartition: s.topicPartition(), offset: s.cursor.FetchOffset, leaderEpoch: s.route.leaderEpoch, lastEpoch: s.cursor.FetchEpoch,
		bytes: bytes, unconfirmed: s.unconfirmed(), subs: []participant{addToRequest(s, b.now)},
	}
	b.byPartition[s.topicPartition()] = e
	b.entries = append(b.entries, e)
	b.memory += memory
	b.ratio = max(b.ratio, float64(memory)/float64(bytes))
	return true
}

// join adds s to the entry of its partition. It returns false if the entry has another position.
func (b *fetchBuilder) join(s *Subscription) bool {
	e := b.byPartition[s.topicPartition()]
	if e == nil || e.offset != s.cursor.FetchOffset || e.leaderEpoch != s.route.leaderEpoch || e.lastEpoch != s.cursor.FetchEpoch && e.lastEpoch.Known() && s.cursor.FetchEpoch.Known() {
		return false
	}
	if !e.lastEpoch.Known() {
		e.lastEpoch = s.cursor.FetchEpoch
	}
	e.bytes = max(e.bytes, int64(s.sizing.Bytes))
	e.subs = append(e.subs, addToRequest(s, b.now))
	e.unconfirmed = e.unconfirmed || s.unconfirmed()
	return true
}

// addCaughtUp adds caught-up partitions: all of them if they are the only ones, and otherwise those
// that were not requested within peekInterval.
func (b *fetchBuilder) addCaughtUp(l *lane, only bool) {
	n := 0
	add := func(s *Subscription) {
		if b.add(s) {
			n++
		} else {
			s.touch()
		}
	}
	caughtUp := &l.b.caughtUp[b.iso]
	if only { // emptying the whole list needs no order
		all := *caughtUp
		*caughtUp = nil
		for _, s := range all {
			s.state = stateNone
			add(s)
		}
	}
	for s := caughtUp.first(); s != nil && sinceStart(b.now)-s.entry.rank >= int64(peekInterval); s = caughtUp.first() {
		l.b.unlist(s)
		add(s)
	}
	if n > 0 {
		l.b.caughtUpAt[b.iso] = b.now.Add(min(time.Duration(n)*caughtUpPace, caughtUpRest))
	}
}

// setSize sets how many bytes to request, so that the response fits into the grant.
func (b *fetchBuilder) setSize() {
	for _, e := range b.entries {
		b.bytes += e.bytes
	}
	b.bytes = max(1, min(b.bytes, int64(float64(b.granted)/max(b.ratio, 1))))
}

// send implements job. The broker reads the partitions in the order of the entries.
func (j *fetchJob) send(l *lane) error {
	if done, err := j.confirmEpochs(l); done || err != nil {
		return err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(j.wait.Milliseconds()), 1, int32(j.bytes)
	req.IsolationLevel, req.Rack = int8(j.iso), j.rack
	for _, e := range j.entries {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = e.Partition, e.offset, int32(e.bytes), e.leaderEpoch
		p.LastFetchedEpoch = e.lastEpoch.Kafka()
		last := len(req.Topics) - 1
		if last < 0 || req.Topics[last].Topic != e.Topic {
			t := kmsg.NewFetchRequestTopic()
			t.Topic = e.Topic
			req.Topics = append(req.Topics, t)
			last++
		}
		req.Topics[last].Partitions = append(req.Topics[last].Partitions, p)
	}
	j.allowance.Grant(j.owner, j.granted)
	fr, resp, err := l.conn.Fetch(req, &j.allowance)
	if j.handleMemoryBusy(l, err) {
		return nil
	}
	if err != nil {
		return l.annotate("fetch", err)
	}
	if resp.ThrottleMillis > 0 && j.throttle(l.b, time.Duration(resp.ThrottleMillis)*time.Millisecond, len(resp.Topics) == 0) {
		fr.Release()
		return nil
	}
	if resp.ErrorCode != 0 {
		fr.Release()
		return dial.ResponseError{Err: sarama.KError(resp.ErrorCode)}
	}
	j.handleResponse(fr, resp)
	return nil
}

// throttle respects a quota: the broker does not read the next request before wait is over
// (KIP-219). It returns true if the response is empty for that reason, and so has nothing to apply.
func (j *fetchJob) throttle(b *broker, wait time.Duration, empty bool) bool {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	b.retryAt = time.Now().Add(wait)
	b.heldBackAt = b.retryAt
	if empty {
		for _, p := range j.participants() {
			p.finish()
		}
	}
	return empty
}
