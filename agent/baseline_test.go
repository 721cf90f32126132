package agent

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestStartPolicyIgnoresLaterPartitions(t *testing.T) {
	none := map[string]committedTopic{}
	of := func(topic string, last int32) map[string]committedTopic {
		return map[string]committedTopic{topic: {last, -1}}
	}
	for name, c := range map[string]struct {
		did       func(b *partitionBaseline)
		id        int32
		committed map[string]committedTopic
		want      bool
	}{
		"a new group":                  {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 3, none, false},
		"a new partition":              {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 3, of("t", 2), true},
		"one whose offset was deleted": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, of("t", 2), false},
		"a topic that an edit added": {func(b *partitionBaseline) {
			b.subscribe("", []string{"a"}, nil)
			b.subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 2), false},
		"one that was awaited when the group committed": {func(b *partitionBaseline) {
			b.await(commitMetadata{awaits: "s,t"})
			b.subscribe("", []string{"a", "t"}, nil)
		}, 0, of("a", 0), true},
		"one that was awaited, and read since": {func(b *partitionBaseline) {
			b.await(commitMetadata{awaits: "t"})
			b.subscribe("", []string{"t"}, nil)
		}, 1, map[string]committedTopic{"t": {0, 2}}, false},
		"one that an edit awaited": {func(b *partitionBaseline) {
			b.subscribe("", []string{"a"}, nil)
			b.subscribe("", []string{"a", "t"}, map[string]bool{"t": true})
		}, 0, of("a", 2), true},
		"one that was not there":         {func(b *partitionBaseline) { b.topicMissing("t"); b.subscribe("", []string{"t"}, nil) }, 0, none, true},
		"the first match of a new group": {func(b *partitionBaseline) { b.subscribe("t", []string{"t"}, nil) }, 0, none, false},
		"a match that appeared": {func(b *partitionBaseline) {
			b.subscribe("t", []string{"at"}, nil)
			b.subscribe("t", []string{"at", "t"}, nil)
		}, 0, none, true},
		"one that appeared where none was": {func(b *partitionBaseline) {
			b.nothingMatched("t")
			b.subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"one that appeared while no agent ran": {func(b *partitionBaseline) { b.subscribe("t", []string{"at", "t"}, nil) }, 0, of("at", 0), true},
		"a match of an edited pattern": {func(b *partitionBaseline) {
			b.subscribe("at", []string{"at"}, nil)
			b.subscribe("t", []string{"at", "t"}, nil)
		}, 0, of("at", 0), false},
		"one below a partition that came later, too": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, map[string]committedTopic{"t": {2, 1}}, true},
		"one whose leader was away at the beginning": {func(b *partitionBaseline) { b.subscribe("", []string{"t"}, nil) }, 1, map[string]committedTopic{"t": {0, 2}}, false},
		"one that was recreated":                     {func(b *partitionBaseline) { b.infer("t", 1, none); b.recreate("t") }, 0, none, true},
		"a match that goes and comes": {func(b *partitionBaseline) {
			b.subscribe("t", []string{"t"}, nil)
			b.subscribe("t", nil, nil)
			b.subscribe("t", []string{"t"}, nil)
		}, 0, none, true},
		"what was decided before the commits": {func(b *partitionBaseline) { b.subscribe("t", []string{"t"}, nil); b.infer("t", 1, none) }, 0, of("at", 0), false},
	} {
		var b partitionBaseline
		c.did(&b)
		if _, known := b.initial["t"]; !known {
			b.infer("t", 4, c.committed)
		}
		if got := c.id >= b.initial["t"]; got != c.want {
			t.Errorf("%s: came later: %v", name, got)
		}
	}
}

// TestStartOutlivesACrash: where start led to is committed before the consumer is
// shown as running. Otherwise a restart after a crash would skip records that were produced meanwhile.
func TestStartOutlivesACrash(t *testing.T) {
	for _, start := range []string{"latest", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)} {
		r := newRig(t, 2)
		r.produce(0, "old")
		r.edit(", flush: {interval: 1h}, start: '" + start + "'")
		r.wantStatus(Running)
		if p, q := r.committed(0), r.committed(1); p != 1 || q != 0 {
			t.Errorf("start: %s: running, and %d and %d are committed", start, p, q)
		}
		_ = r.stop()
	}
}

// TestHalfBegunGroup: a group that ended before it knew where all of a topic's
// partitions begin knows those again that it began with: they do not look as if they
// had come later.
func TestHalfBegunGroup(t *testing.T) {
	r := newRig(t, 2)
	for p := range int32(2) {
		r.produce(p, "old")
	}
	var mu sync.Mutex
	asked, broken := 0, true
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		req := k.(*kmsg.ListOffsetsRequest)
		if asked++; !broken {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewListOffsetsResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewListOffsetsResponseTopicPartition()
				if sp.Partition, sp.Offset = rp.Partition, 1; rp.Partition == 1 {
					sp.ErrorCode = kerr.UnknownServerError.Code
				}
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	r.edit(", start: latest")
	r.eventually("the answer for one partition", func() (bool, any) {
		c := r.consumer()
		return len(c.Partitions) == 2 && c.Partitions[0].NextOffset == 1, c
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if p := r.committed(0); p != 1 {
		t.Errorf("%d is committed for the partition that was placed", p)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	r.start()
	r.edit(", start: latest")
	r.wantStatus(Running)
	r.wantCommitted(0, 1)
	r.wantCommitted(1, 1)
	r.produce(1, "new")
	r.wantRecords("t/1@1=new")
}
