package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/config"
)

// TestRebalancesLoseNothing: a second member joins and leaves while records are consumed,
// and one of the two is paused from time to time. The former owner of a partition commits
// what it has accepted, so that each record is in the sink once.
func TestRebalancesLoseNothing(t *testing.T) {
	r := newRig(t, 4)
	const total = 20_000
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for i := 0; i < total; i += 100 {
			recs := make([]*kgo.Record, 100)
			for k := range recs {
				recs[k] = &kgo.Record{Topic: "t", Partition: int32((i + k) % 4), Value: fmt.Append(nil, i+k)}
			}
			if err := r.client.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
				t.Error(err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}()
	edit := func(c, d string) {
		text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], group: g, flush: {interval: 10ms}}\nconsumers:\n"+
			"- {name: c, state: %s, sink: {stdout: {}}}\n- {name: d, state: %s, sink: {stdout: {}}}\n", r.cluster.ListenAddrs()[0], c, d)
		conf, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r.updates <- config.Update{Config: conf}
	}
	states := [][2]string{{"running", "running"}, {"running", "stopped"}, {"paused", "running"}, {"running", "paused"}, {"stopped", "running"}}
	for i := 0; ; i++ {
		edit(states[i%len(states)][0], states[i%len(states)][1])
		select {
		case <-produced:
		case <-time.After(200 * time.Millisecond):
			continue
		}
		break
	}
	edit("running", "running")
	r.eventually("all records", func() (bool, any) { n := len(r.memory.all()); return n >= total, n })
	got := r.memory.all()
	slices.Sort(got)
	if all := slices.Compact(slices.Clone(got)); len(all) != total || len(got) != total {
		t.Errorf("%d records, %d of them different, want %d", len(got), len(all), total)
	}
}
