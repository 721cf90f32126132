package fetch

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/wire"
	"kcagent/leader"
	"kcagent/retry"
)

// comparingVersion is the version of the fetch request since which leaders compare epochs.
const comparingVersion = 12

// A truncationCase is what a subscription does at a position, with what the leader reports
// of its log.
type truncationCase struct {
	pos        int64
	end        wire.EpochEnd // for the epoch of the position, which is 4
	start, hwm int64
	policy     Policy
	truncated  bool
	diverging  int64
	to         int64
	epoch      leader.Epoch // of the position where it continues
}

// TestTruncated has one case for each rule.
func TestTruncated(t *testing.T) {
	at := func(epoch int32, offset int64) wire.EpochEnd {
		return wire.EpochEnd{Of: leader.NewEpoch(4), Epoch: leader.NewEpoch(epoch), Offset: offset}
	}
	e4, e3, none := leader.NewEpoch(4), leader.NewEpoch(3), at(-1, -1)
	for name, c := range map[string]truncationCase{
		"the epoch ends before the position":           {500, at(4, 350), 0, 600, Earliest, true, 350, 350, e4},
		"it does so with latest, too":                  {500, at(4, 350), 0, 600, Latest, true, 350, 350, e4},
		"it does so with fail":                         {500, at(4, 350), 0, 600, Fail, true, 350, -1, e4},
		"a smaller epoch ends before the position":     {500, at(3, 350), 0, 600, Earliest, true, 350, 350, e3},
		"the log is shorter than the position":         {500, at(4, 350), 0, 350, Earliest, true, 350, 350, e4},
		"the log lacks every record of the epoch":      {500, at(4, 0), 0, 600, Earliest, true, 0, 0, e4},
		"the epoch ends at the position":               {500, at(4, 500), 0, 600, Earliest, false, 0, 0, e4},
		"the epoch goes on behind the position":        {500, at(4, 600), 0, 600, Earliest, false, 0, 0, e4},
		"a smaller epoch ends behind the position":     {500, at(3, 550), 0, 600, Earliest, false, 0, 0, e4},
		"what was consumed was deleted by retention":   {500, at(4, 600), 500, 600, Earliest, false, 0, 0, e4},
		"so was the position":                          {500, at(4, 550), 550, 600, Earliest, false, 0, 0, e4},
		"no epoch in common":                           {500, none, 100, 600, Earliest, true, -1, 100, leader.Unknown},
		"no epoch in common with latest":               {500, none, 100, 600, Latest, true, -1, 600, leader.Unknown},
		"no epoch in common with fail":                 {500, none, 100, 600, Fail, true, -1, -1, e4},
		"no epoch in common and out of range":          {500, none, 100, 400, Earliest, false, 0, 0, e4},
		"the diverging offset was deleted":             {500, at(4, 350), 400, 600, Earliest, true, 350, 400, leader.Unknown},
		"the diverging offset was deleted with latest": {500, at(4, 350), 400, 600, Latest, true, 350, 600, leader.Unknown},
	} {
		var told []TruncatedError
		s := &Subscription{
			f: New(Options{}), ready: retry.NewSignal(), want: lookupRange, epoch: 7, next: c.pos, pos: c.pos, nextEpoch: e4, posEpoch: e4,
			spec: Spec{Topic: "t", OnOutOfRange: c.policy, Truncated: func(e TruncatedError) { told = append(told, e) }},
		}
		var call calls
		got := s.truncated(c.end, c.start, c.hwm, &call)
		call.run()
		if got != c.truncated {
			t.Errorf("%s: truncated is %v", name, got)
			continue
		}
		want := TruncatedError{"t", 0, c.pos, e4, c.diverging, leader.NewEpoch(7), c.to}
		switch {
		case !got:
			if s.pos != c.pos || len(told) > 0 || s.fatal != nil {
				t.Errorf("%s: the position is %d, told %v, error %v", name, s.pos, told, s.fatal)
			}
		case c.to < 0:
			if e, ok := s.fatal.(*TruncatedError); !ok || *e != want || s.pos != c.pos || len(told) > 0 {
				t.Errorf("%s: the position is %d, told %v, error %v", name, s.pos, told, s.fatal)
			}
		default:
			if s.next != c.to || s.pos != c.to || s.posEpoch != c.epoch || s.nextEpoch != c.epoch || !s.reset || !slices.Equal(told, []TruncatedError{want}) {
				t.Errorf("%s: continues at %d in epoch %s, reset %v, told %v", name, s.pos, s.posEpoch, s.reset, told)
			}
		}
	}
}

func TestTruncatedErrorsNameTheNextStep(t *testing.T) {
	e := TruncatedError{"t", 3, 500, leader.NewEpoch(4), 350, leader.NewEpoch(7), -1}
	want := "log of t/3 was truncated: it diverges at offset 350 from what was consumed up to offset 500 in leader epoch 4, the leader epoch is now 7, " +
		"and on_offset_out_of_range is fail: choose earliest or latest to continue at offset 350, or stop the consumer and reset the group's offsets"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e.Error(), want)
	}
	e.Diverging = -1
	if !strings.Contains(e.Error(), "has no leader epoch in common with what was consumed up to offset 500") || strings.Contains(e.Error(), "-1") {
		t.Error(e.Error())
	}
}

// A truncatedLeader answers like a leader whose log was truncated, until it is asked for
// what its log holds: the records of the rig are those of both branches.
type truncatedLeader struct {
	mu         sync.Mutex
	epoch      int32 // what it answers
	end        int64 // -1: no epoch in common
	cut        bool
	pos        int64   // truncated is what was consumed up to here
	lost       int32   // in this epoch
	last       []int32 // LastFetchedEpoch of each fetch
	positions  []int64 // and its offset
	epochCalls int
}

func (l *truncatedLeader) start(r *rig) {
	r.fetches(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
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
			return refuse(req, sarama.ErrOffsetOutOfRange), nil, true
		}
		resp := refuse(req, sarama.ErrNoError).(*kmsg.FetchResponse)
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

// older limits the versions of requests, on connections from now on.
func (r *rig) older(v sarama.KafkaVersion) { r.version.Store(&v) }

// TestTruncatedLogIsReadFromTheDivergingOffset: whatever the leader's version, which
// detects it in a fetch since Kafka 2.7, and is asked at a new leader epoch before.
func TestTruncatedLogIsReadFromTheDivergingOffset(t *testing.T) {
	for _, version := range []sarama.KafkaVersion{sarama.MaxVersion, sarama.V2_7_0_0, sarama.V2_6_0_0} {
		for name, tt := range map[string]struct {
			policy    Policy
			epoch     int32
			end       int64
			from      int // where it continues; -1: nowhere
			truncated bool
		}{
			"diverging":               {Earliest, 1, 30, 30, true},
			"diverging with latest":   {Latest, 1, 30, 30, true},
			"diverging with fail":     {Fail, 1, 30, -1, true},
			"an epoch is gone":        {Earliest, 0, 55, 50, false},
			"no epoch in common":      {Earliest, -1, -1, 0, true},
			"the position is the end": {Earliest, 1, 50, 50, false},
		} {
			t.Run(fmt.Sprintf("%s %s", version, name), func(t *testing.T) {
				r := newRig(t, 2, 1, small)
				r.older(version)
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
				var told []TruncatedError
				rd := r.read(Spec{OnOutOfRange: tt.policy, Truncated: func(e TruncatedError) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, e)
				}}, false)
				r.wants(rd, 0, 50)
				l.truncate(50, 3, tt.epoch, tt.end)
				move(0)
				r.produce(0, 50, 10)
				if tt.from < 0 {
					for range 2 {
						r.shows(rd, "was truncated: it diverges at offset 30 from what was consumed up to offset 50")
						<-rd.done
						if got, next, _ := rd.seen(); len(got) != 50 || next != 50 {
							t.Errorf("%d records, next %d", len(got), next)
						}
						rd.Retry()
						if _, err := rd.Read(t.Context(), nil); err == nil {
							t.Error("a second look finds nothing wrong")
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
				if len(got) != want || (len(told) == 1) != tt.truncated {
					t.Errorf("%d records, want %d; told %v", len(got), want, told)
				}
				if len(rd.resets) > 0 {
					t.Errorf("resets: %v", rd.resets)
				}
			})
		}
	}
}

// TestNewLeaderEpochIsNoTruncation: clean elections cost an older broker one question for
// each, a newer one none, and nothing comes twice.
func TestNewLeaderEpochIsNoTruncation(t *testing.T) {
	for version, questions := range map[sarama.KafkaVersion]int{sarama.MaxVersion: 0, sarama.V2_6_0_0: 3} {
		t.Run(version.String(), func(t *testing.T) {
			r := newRig(t, 2, 1, small)
			r.older(version)
			l := &truncatedLeader{}
			l.start(r)
			rd := r.read(Spec{}, false)
			r.produce(0, 0, 10)
			r.wants(rd, 0, 10)
			for n := range int32(3) {
				if err := r.cluster.MoveTopicPartition("t", 0, (n+1)%2); err != nil {
					t.Fatal(err)
				}
				r.produce(0, 10+10*int(n), 10)
				r.wants(rd, 0, 20+10*int(n))
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.epochCalls < questions || l.epochCalls > questions+1 { // the first leader may be asked, too
				t.Errorf("%d questions for epochs, want %d", l.epochCalls, questions)
			}
		})
	}
}

// TestUnknownEpochsShareARequest: subscriptions at one position are in one request although
// the epoch is unknown to some. Those that know different epochs take turns.
func TestUnknownEpochsShareARequest(t *testing.T) {
	b := builder{fetchJob: &fetchJob{}, byPartition: make(map[wire.TopicPartition]*wanted)}
	in := func(e leader.Epoch) bool {
		return b.add(&Subscription{spec: Spec{Topic: "t"}, pos: 5, epoch: 7, posEpoch: e, checked: leader.NewEpoch(7)})
	}
	if !in(leader.Unknown) || !in(leader.NewEpoch(3)) || !in(leader.Unknown) || !in(leader.NewEpoch(3)) || in(leader.NewEpoch(4)) {
		t.Error("epochs share a request that should not, or do not and should")
	}
	if w := b.wants[0]; len(b.wants) != 1 || w.last != leader.NewEpoch(3) || len(w.subs) != 4 || w.unchecked {
		t.Errorf("%d positions, epoch %s, %d subscriptions, unchecked %v", len(b.wants), w.last, len(w.subs), w.unchecked)
	}
}

// TestLastFetchedEpoch: fetches name the epoch of the last record that was consumed, also
// after what was fetched was given back, and none where nothing was consumed.
func TestLastFetchedEpoch(t *testing.T) {
	r := newRig(t, 2, 1, small)
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
