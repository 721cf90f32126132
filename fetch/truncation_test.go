package fetch

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

// comparingVersion is the version of the fetch request since which leaders compare epochs.
const comparingVersion = 12

// A truncationCase is what a subscription does at a position, for what the leader reports of its log.
type truncationCase struct {
	pos        int64
	end        wire.EpochEnd // for the epoch of the position, which is 4
	start, hwm int64
	policy     partition.Policy
	truncated  bool
	diverging  int64
	to         int64
	epoch      leader.Epoch // of the position where it continues
}

// TestTruncationRules has one case for each rule.
func TestTruncationRules(t *testing.T) {
	at := func(epoch int32, offset int64) wire.EpochEnd {
		return wire.EpochEnd{Of: leader.NewEpoch(4), Epoch: leader.NewEpoch(epoch), Offset: offset}
	}
	e4, e3, none := leader.NewEpoch(4), leader.NewEpoch(3), at(-1, -1)
	for name, c := range map[string]truncationCase{
		"the epoch ends before the position":           {500, at(4, 350), 0, 600, partition.Earliest, true, 350, 350, e4},
		"it does so with latest, too":                  {500, at(4, 350), 0, 600, partition.Latest, true, 350, 350, e4},
		"it does so with fail":                         {500, at(4, 350), 0, 600, partition.Fail, true, 350, -1, e4},
		"a smaller epoch ends before the position":     {500, at(3, 350), 0, 600, partition.Earliest, true, 350, 350, e3},
		"the log is shorter than the position":         {500, at(4, 350), 0, 350, partition.Earliest, true, 350, 350, e4},
		"the log lacks every record of the epoch":      {500, at(4, 0), 0, 600, partition.Earliest, true, 0, 0, e4},
		"the epoch ends at the position":               {500, at(4, 500), 0, 600, partition.Earliest, false, 0, 0, e4},
		"the epoch ends after the position":            {500, at(4, 600), 0, 600, partition.Earliest, false, 0, 0, e4},
		"a smaller epoch ends after the position":      {500, at(3, 550), 0, 600, partition.Earliest, false, 0, 0, e4},
		"what was consumed was deleted by retention":   {500, at(4, 600), 500, 600, partition.Earliest, false, 0, 0, e4},
		"so was the position":                          {500, at(4, 550), 550, 600, partition.Earliest, false, 0, 0, e4},
		"no epoch in common":                           {500, none, 100, 600, partition.Earliest, true, -1, 100, leader.Unknown},
		"no epoch in common with latest":               {500, none, 100, 600, partition.Latest, true, -1, 600, leader.Unknown},
		"no epoch in common with fail":                 {500, none, 100, 600, partition.Fail, true, -1, -1, e4},
		"no epoch in common and out of range":          {500, none, 100, 400, partition.Earliest, false, 0, 0, e4},
		"the diverging offset was deleted":             {500, at(4, 350), 400, 600, partition.Earliest, true, 350, 400, leader.Unknown},
		"the diverging offset was deleted with latest": {500, at(4, 350), 400, 600, partition.Latest, true, 350, 600, leader.Unknown},
	} {
		var reported []partition.TruncatedError
		s := &Subscription{
			f: New(Options{}), route: route{leaderEpoch: 7},
			cursor: partition.Cursor{Lookup: partition.LookupRange, Next: c.pos, FetchOffset: c.pos, NextEpoch: e4, FetchEpoch: e4},
			spec:   Spec{Topic: "t", OnOutOfRange: c.policy, Truncated: func(e partition.TruncatedError) { reported = append(reported, e) }},
		}
		var call callbacks
		got := s.applyTruncation(c.end, c.start, c.hwm, &call)
		call.run()
		if got != c.truncated {
			t.Errorf("%s: truncated is %v", name, got)
			continue
		}
		want := TruncatedError{Topic: "t", Offset: c.pos, Epoch: e4, Diverging: c.diverging, Leader: leader.NewEpoch(7), To: c.to}
		switch {
		case !got:
			if s.cursor.FetchOffset != c.pos || len(reported) > 0 || s.fatal != nil {
				t.Errorf("%s: the position is %d, reported %v, error %v", name, s.cursor.FetchOffset, reported, s.fatal)
			}
		case c.to < 0:
			if e, ok := s.fatal.(*partition.TruncatedError); !ok || *e != want || s.cursor.FetchOffset != c.pos || len(reported) > 0 {
				t.Errorf("%s: the position is %d, reported %v, error %v", name, s.cursor.FetchOffset, reported, s.fatal)
			}
		default:
			if s.cursor.Next != c.to || s.cursor.FetchOffset != c.to || s.cursor.FetchEpoch != c.epoch || s.cursor.NextEpoch != c.epoch || !s.cursor.Reset || !slices.Equal(reported, []partition.TruncatedError{want}) {
				t.Errorf("%s: continues at %d in epoch %s, reset %v, reported %v", name, s.cursor.FetchOffset, s.cursor.FetchEpoch, s.cursor.Reset, reported)
			}
		}
	}
}

// A truncatedLeader responds like a leader whose log was truncated, until the end of its log is looked
// up. The records of the rig are those of both branches.
type truncatedLeader struct {
	mu         sync.Mutex
	epoch      int32 // of its responses
	end        int64 // -1: no epoch in common
	cut        bool
	pos        int64   // records were truncated that were consumed up to here
	lost       int32   // in this epoch
	last       []int32 // LastFetchedEpoch of each fetch
	positions  []int64 // and its offset
	epochCalls int
}

func (l *truncatedLeader) start(r *rig) {
	r.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		p := req.Topics[0].Partitions[0]
		l.last, l.positions = append(l.last, p.LastFetchedEpoch), append(l.positions, p.FetchOffset)
		asks := req.Version >= comparingVersion
		if p.FetchOffset != l.pos || asks && p.LastFetchedEpoch != l.lost || l.epochCalls > 0 {
			l.cut = false
		}
		if !l.cut || !asks {
			return nil, nil, false
		}
		if l.end < 0 {
			return errorResponse(req, sarama.ErrOffsetOutOfRange), nil, true
		}
		resp := errorResponse(req, sarama.ErrNoError).(*kmsg.FetchResponse)
		d := &resp.Topics[0].Partitions[0]
		d.HighWatermark, d.DivergingEpoch.Epoch, d.DivergingEpoch.EndOffset = 60, l.epoch, l.end
		return resp, nil, true
	})
	r.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.epochCalls++
		epoch, end := l.epoch, l.end
		if !l.cut { // kfake does not know epochs without records
			epoch, end = kreq.(*kmsg.OffsetForLeaderEpochRequest).Topics[0].Partitions[0].LeaderEpoch, 1<<40
		}
		resp := kreq.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = "t"
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		rp.LeaderEpoch, rp.EndOffset = epoch, end
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
}

func (l *truncatedLeader) truncate(pos int64, lost, epoch int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.pos, l.lost, l.epoch, l.end, l.epochCalls = true, pos, lost, epoch, end, 0
}

// useVersion limits the versions of requests on later connections.
func (r *rig) useVersion(v sarama.KafkaVersion) { r.version.Store(&v) }

// TestTruncatedLogIsReadFromDivergingOffset: with any version of the leader. Since Kafka 2.7 it detects
// the truncation in a fetch. Before, it is asked after each change of the leader epoch.
func TestTruncatedLogIsReadFromDivergingOffset(t *testing.T) {
	t.Parallel()
	for _, version := range []sarama.KafkaVersion{sarama.MaxVersion, sarama.V2_7_0_0, sarama.V2_6_0_0} {
		for name, tt := range map[string]struct {
			policy    partition.Policy
			epoch     int32
			end       int64
			from      int // where it continues; -1: nowhere
			truncated bool
		}{
			"diverging":               {partition.Earliest, 1, 30, 30, true},
			"diverging with latest":   {partition.Latest, 1, 30, 30, true},
			"diverging with fail":     {partition.Fail, 1, 30, -1, true},
			"an epoch is gone":        {partition.Earliest, 0, 55, 50, false},
			"no epoch in common":      {partition.Earliest, -1, -1, 0, true},
			"the position is the end": {partition.Earliest, 1, 50, 50, false},
		} {
			t.Run(fmt.Sprintf("%s %s", version, name), func(t *testing.T) {
				r := newRig(t, 2, 1, smallSettings)
				r.useVersion(version)
				move := func(to int32) {
					t.Helper()
					if err := r.cluster.MoveTopicPartition("t", 0, to); err != nil {
						t.Fatal(err)
					}
				}
				move(1)
				move(0) // so that a smaller epoch exists
				move(1)
				l := &truncatedLeader{}
				l.start(r)
				r.produce(0, 0, 50)
				var mu sync.Mutex
				var reported []partition.TruncatedError
				rd := r.startReader(Spec{OnOutOfRange: tt.policy, Truncated: func(e partition.TruncatedError) {
					mu.Lock()
					defer mu.Unlock()
					reported = append(reported, e)
				}}, false)
				r.waitForRecords(rd, 0, 50)
				l.truncate(50, 3, tt.epoch, tt.end)
				move(0)
				r.produce(0, 50, 10)
				if tt.from < 0 {
					for range 2 {
						r.waitForError(rd, "was truncated: it diverges at offset 30 from what was consumed up to offset 50")
						<-rd.done
						if got, next, _ := rd.seen(); len(got) != 50 || next != 50 {
							t.Errorf("%d records, next %d", len(got), next)
						}
						rd.Retry()
						if _, err := rd.Read(t.Context(), nil); err == nil {
							t.Error("after Retry, there is no error")
						}
					}
					return
				}
				want := 50 + 60 - tt.from
				r.eventually("the records", func() (bool, any) { got, _, err := rd.seen(); return len(got) >= want, fmt.Sprint(len(got), err) })
				got, _, _ := rd.seen()
				for i, g := range got[50:] {
					if g != fmt.Sprintf("%d=v%d", tt.from+i, tt.from+i) {
						t.Fatalf("record %d is %s", 50+i, g)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if len(got) != want || (len(reported) == 1) != tt.truncated {
					t.Errorf("%d records, want %d; reported %v", len(got), want, reported)
				}
				if len(rd.resets) > 0 {
					t.Errorf("resets: %v", rd.resets)
				}
			})
		}
	}
}

// TestNewLeaderEpochIsNoTruncation: an election costs one lookup if the leader is older, and none
// otherwise, and no record is repeated.
func TestNewLeaderEpochIsNoTruncation(t *testing.T) {
	for version, questions := range map[sarama.KafkaVersion]int{sarama.MaxVersion: 0, sarama.V2_6_0_0: 3} {
		t.Run(version.String(), func(t *testing.T) {
			r := newRig(t, 2, 1, smallSettings)
			r.useVersion(version)
			l := &truncatedLeader{}
			l.start(r)
			rd := r.startReader(Spec{}, false)
			r.produce(0, 0, 10)
			r.waitForRecords(rd, 0, 10)
			for n := range int32(3) {
				if err := r.cluster.MoveTopicPartition("t", 0, (n+1)%2); err != nil {
					t.Fatal(err)
				}
				r.produce(0, 10+10*int(n), 10)
				r.waitForRecords(rd, 0, 20+10*int(n))
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.epochCalls < questions || l.epochCalls > questions+1 { // the first leader may also be asked
				t.Errorf("%d lookups of epochs, want %d", l.epochCalls, questions)
			}
		})
	}
}

// TestUnknownEpochSharesRequest: subscriptions at the same position share a request although some do not
// know the epoch. Those that know different epochs take turns.
func TestUnknownEpochSharesRequest(t *testing.T) {
	b := fetchBuilder{fetchJob: &fetchJob{}, byPartition: make(map[wire.TopicPartition]*fetchEntry)}
	in := func(e leader.Epoch) bool {
		return b.add(&Subscription{spec: Spec{Topic: "t"}, route: route{leaderEpoch: 7}, cursor: partition.Cursor{FetchOffset: 5, FetchEpoch: e, CheckedBy: leader.NewEpoch(7)}})
	}
	if !in(leader.Unknown) || !in(leader.NewEpoch(3)) || !in(leader.Unknown) || !in(leader.NewEpoch(3)) || in(leader.NewEpoch(4)) {
		t.Error("the wrong epochs share a request")
	}
	if w := b.entries[0]; len(b.entries) != 1 || w.lastEpoch != leader.NewEpoch(3) || len(w.subs) != 4 || w.unconfirmed {
		t.Errorf("%d positions, epoch %s, %d subscriptions, unconfirmed %v", len(b.entries), w.lastEpoch, len(w.subs), w.unconfirmed)
	}
}

// TestFetchNamesLastEpoch: fetches name the epoch of the last record that was consumed, also after parts
// were dropped, and none where no record was consumed.
func TestFetchNamesLastEpoch(t *testing.T) {
	r := newRig(t, 2, 1, smallSettings)
	l := &truncatedLeader{}
	l.start(r)
	r.produce(0, 0, 10)
	if err := r.cluster.MoveTopicPartition("t", 0, 1); err != nil {
		t.Fatal(err)
	}
	r.produce(0, 10, 10)
	s := r.fetcher.Subscribe(Spec{Topic: "t", MaxBytes: 1 << 20, Offset: 5})
	defer s.Close()
	read := func(n int) (next int64) {
		t.Helper()
		for n > 0 {
			var err error
			if next, err = s.Read(t.Context(), func(*batch.Record) bool { n--; return n > 0 }); err != nil {
				t.Fatal(err)
			}
		}
		return next
	}
	next := read(2)
	older := s.Epoch()
	read(10)
	newer := s.Epoch()
	if !older.Known() || newer.Kafka() != older.Kafka()+1 {
		t.Fatalf("epochs %s and %s", older, newer)
	}
	s.Rewind(next, older)
	read(3)
	s.Pause()
	s.Resume()
	read(3)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, at := range l.positions {
		want := int32(-1)
		if at > 5 {
			want = older.Kafka()
		}
		if at > 10 {
			want = newer.Kafka()
		}
		if l.last[i] != want {
			t.Errorf("the fetch at %d names epoch %d, want %d", at, l.last[i], want)
		}
	}
	if !slices.Contains(l.positions, next) {
		t.Errorf("fetches at %v", l.positions)
	}
}
