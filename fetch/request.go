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
	// peekEvery is how often partitions without news are asked for along with
	// those that have records waiting.
	peekEvery = 200 * time.Millisecond
	// idlePace is how long the broker is left alone for each partition without
	// news in a request. With a thousand of them, each of which gets a record now
	// and then, one request brings the news of many.
	idlePace = 20 * time.Microsecond
	idleRest = 100 * time.Millisecond
	// shortWait is how long at least the last free lane waits for news while
	// consumers are about to come back for more.
	shortWait = 10 * time.Millisecond
	// lastWait is how long at most it waits for news: a partition that is new, or
	// that can be fetched again, would otherwise wait for max_wait.
	lastWait = 250 * time.Millisecond
	// gatherTime is how long a request is put off until another lane is back.
	gatherTime = 5 * time.Millisecond
)

// TopicPartition is the key of s in a request, where each partition stands once.
func (s *Subscription) topicPartition() wire.TopicPartition {
	return wire.TopicPartition{Topic: s.spec.Topic, Partition: s.spec.Partition}
}

// A wanted is one partition in a request: all members are at one position.
type wanted struct {
	wire.TopicPartition
	offset int64
	epoch  int32        // of the leader
	last   leader.Epoch // of the last record before the position; it may be unknown to some members
	ask    int64
	subs   []member
	// unchecked: the leader was not asked for the end of epoch last.
	unchecked bool
}

// A fetchJob asks for records.
type fetchJob struct {
	f       *Fetcher
	iso     sarama.IsolationLevel
	rack    string
	wait    time.Duration
	granted int64 // promised by the budget
	room    batch.Allowance
	owner   *Subscription // which waits for memory for large batches
	bytes   int64         // what the answer may have
	wants   []*wanted
}

func (j *fetchJob) members() []member {
	var all []member
	for _, w := range j.wants {
		all = append(all, w.subs...)
	}
	return all
}

func (j *fetchJob) done() {
	j.f.budget.promised -= j.granted
	j.granted = 0
	j.room.Close()
}

// request chooses whom to ask for. Those with records waiting come first, those
// that waited longest first of all, and no more of them than this lane's share
// and its memory: the other lanes are to have something to ask for, too. Those
// without news are asked for all at once.
func (l *lane) request(now time.Time, wait time.Duration, told *calls) plan {
	iso, peek := l.level(now)
	if iso < 0 {
		for i, at := range l.b.idleAt {
			if left := at.Sub(now); left > 0 && len(l.b.idle[i]) > 0 {
				wait = min(wait, left)
			}
		}
		return plan{wait: wait}
	}
	hot := len(l.b.hot[iso]) > 0
	if !hot && !peek && l.gathers(now) {
		return plan{wait: gatherTime}
	}
	l.f.fitBudget()
	granted := l.f.budget.promise()
	if granted == 0 {
		l.f.reclaim(now)
		if granted = l.f.budget.promise(); granted == 0 {
			l.short, l.b.heldAt = true, now
			return plan{wait: min(wait, shortRetry)}
		}
	}
	b := builder{
		fetchJob: &fetchJob{f: l.f, iso: iso, wait: l.f.set.MaxWait, granted: granted, room: batch.NewAllowance(l.f.memory)},
		now:      now, byPartition: make(map[wire.TopicPartition]*wanted), told: told,
	}
	b.addHot(l, (len(l.b.hot[0])+len(l.b.hot[1])+l.f.set.Lanes-1)/l.f.set.Lanes)
	if !b.alone {
		b.addIdle(l, len(b.wants) == 0)
	}
	if len(b.wants) == 0 { // all need memory for large batches, or go back to their leaders
		b.done()
		return plan{wait: min(wait, largeRetry)}
	}
	b.owner = b.wants[0].subs[0].Subscription
	switch {
	case peek:
		b.wait = 0
	case !hot:
		b.wait = l.patience(now, b.wait)
	}
	b.rack = b.rackOf(now)
	b.size()
	return plan{job: b.fetchJob}
}

// level is the isolation level of the next request; less than 0 if none is due.
// It is that of those with records waiting, but that now and then the others are
// looked at, too.
func (l *lane) level(now time.Time) (iso sarama.IsolationLevel, peek bool) {
	idle := l.b.idle
	for i, at := range l.b.idleAt {
		if at.After(now) {
			idle[i] = nil
		}
	}
	hot, first := oldest(l.b.hot), oldest(idle)
	switch {
	case hot == nil && first == nil:
		return -1, false
	case hot == nil:
		return first.iso, false
	case first != nil && first.iso != hot.iso && sinceBoot(now)-first.rank >= int64(peekEvery):
		return first.iso, true
	}
	return hot.iso, false
}

// A builder makes a fetchJob.
type builder struct {
	*fetchJob
	now         time.Time
	byPartition map[wire.TopicPartition]*wanted
	memory      int64   // that the answer is likely to need
	ratio       float64 // of memory to bytes, at worst
	alone       bool
	told        *calls
}

// addHot takes in share of those with records waiting, as far as the memory goes, and
// the other consumers at the same positions. Those whose position no broker has confirmed
// yet are all taken in: the answer confirms it, whether it brings records or not, and a
// start with a thousand partitions would else take one round trip for every thirty.
func (b *builder) addHot(l *lane, share int) {
	hot := &l.b.hot[b.iso]
	var left []*Subscription
	for len(*hot) > 0 && !b.alone && len(b.wants) < share {
		s := hot.first()
		if s.placed && b.memory >= b.granted {
			break
		}
		l.b.unseat(s)
		if !b.add(s) {
			left = append(left, s)
			continue
		}
		for _, other := range l.f.readers[s.spec.Topic][s.spec.Partition] {
			if other.broker == l.b && other.seat == seatHot && other.iso == b.iso && b.join(other) {
				l.b.unseat(other)
			}
		}
	}
	for _, s := range left {
		s.touch()
	}
}

// add takes s into the request, unless its partition is asked for at another position.
func (b *builder) add(s *Subscription) bool {
	if b.byPartition[s.topicPartition()] != nil {
		return b.join(s)
	}
	if b.alone || s.alone && len(b.wants) > 0 || s.leaseOver(b.now) {
		return false
	}
	if s.needs > 0 && !b.acquire(s) {
		return false
	}
	b.alone = s.alone || s.needs > 0
	if !s.placed {
		b.wait = 0 // its consumer waits to hear whether the position is good
	}
	bytes, memory := s.asked()
	w := &wanted{s.topicPartition(), s.pos, s.epoch, s.posEpoch, bytes, []member{enlist(s, b.now)}, s.unchecked()}
	b.byPartition[s.topicPartition()] = w
	b.wants = append(b.wants, w)
	b.memory += memory
	b.ratio = max(b.ratio, float64(memory)/float64(bytes))
	return true
}

// join takes s in if its position is asked for.
func (b *builder) join(s *Subscription) bool {
	w := b.byPartition[s.topicPartition()]
	if w == nil || w.offset != s.pos || w.epoch != s.epoch || w.last != s.posEpoch && w.last.Known() && s.posEpoch.Known() {
		return false // its turn comes
	}
	if !w.last.Known() {
		w.last = s.posEpoch
	}
	w.ask = max(w.ask, int64(s.ask))
	w.subs = append(w.subs, enlist(s, b.now))
	w.unchecked = w.unchecked || s.unchecked()
	return true
}

// addIdle takes in those without news: all, or beside others those that were not
// asked for lately.
func (b *builder) addIdle(l *lane, only bool) {
	n := 0
	add := func(s *Subscription) {
		if b.add(s) {
			n++
		} else {
			s.touch()
		}
	}
	idle := &l.b.idle[b.iso]
	if only { // all leave the list, which needs no order for that
		all := *idle
		*idle = nil
		for _, s := range all {
			s.seat = seatNone
			add(s)
		}
	}
	for s := idle.first(); s != nil && sinceBoot(b.now)-s.rank >= int64(peekEvery); s = idle.first() {
		l.b.unseat(s)
		add(s)
	}
	if n > 0 {
		l.b.idleAt[b.iso] = b.now.Add(min(time.Duration(n)*idlePace, idleRest))
	}
}

// size says how much the answer may have.
func (b *builder) size() {
	for _, w := range b.wants {
		b.bytes += w.ask
	}
	b.bytes = max(1, min(b.bytes, int64(float64(b.granted)/max(b.ratio, 1))))
}

// ask implements job. The partitions stand in the order in which they were
// chosen.
func (j *fetchJob) ask(l *lane) error {
	if done, err := j.check(l); done || err != nil {
		return err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(j.wait.Milliseconds()), 1, int32(j.bytes)
	req.IsolationLevel, req.Rack = int8(j.iso), j.rack
	for _, w := range j.wants {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = w.Partition, w.offset, int32(w.ask), w.epoch
		p.LastFetchedEpoch = w.last.Kafka()
		last := len(req.Topics) - 1
		if last < 0 || req.Topics[last].Topic != w.Topic {
			t := kmsg.NewFetchRequestTopic()
			t.Topic = w.Topic
			req.Topics = append(req.Topics, t)
			last++
		}
		req.Topics[last].Partitions = append(req.Topics[last].Partitions, p)
	}
	j.room.Grant(j.owner, j.granted)
	fr, resp, err := l.conn.Fetch(req, &j.room)
	if j.postpone(l, err) {
		return nil
	}
	if err != nil {
		return l.describe("fetch", err)
	}
	if resp.ThrottleMillis > 0 && j.throttled(l.b, time.Duration(resp.ThrottleMillis)*time.Millisecond, len(resp.Topics) == 0) {
		fr.Release()
		return nil
	}
	if resp.ErrorCode != 0 {
		fr.Release()
		return dial.ResponseError{Err: sarama.KError(resp.ErrorCode)}
	}
	j.take(fr, resp)
	return nil
}

// throttled keeps to a quota: the broker will not read the next request before
// wait is over (KIP-219). An answer that it has emptied for that reason says
// nothing of the partitions; then throttled reports true.
func (j *fetchJob) throttled(b *broker, wait time.Duration, empty bool) bool {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	b.retryAt = time.Now().Add(wait)
	b.heldAt = b.retryAt
	if empty {
		for _, m := range j.members() {
			m.current()
		}
	}
	return empty
}
