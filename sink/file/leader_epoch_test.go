package file

import (
	"path/filepath"
	"strings"
	"testing"

	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/file/filename"
)

// TestLedgerKeepsLeaderEpochs checks that the position of a partition has the leader epoch
// of its last record, also in the checkpoint. Epoch 0 is known, and an absent epoch is not.
func TestLedgerKeepsLeaderEpochs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	s := openExact(t, path, nil)
	epochs := []leader.Epoch{leader.NewEpoch(0), leader.NewEpoch(7), leader.Unknown}
	for p, e := range epochs {
		tp := sink.TopicPartition{Topic: "orders", Partition: int32(p)}
		id := resume(t, s, tp.Partition).ID
		if err := s.Adopt(t.Context(), tp, id, sink.Position{Next: 5, Lineage: "L", Epoch: leader.NewEpoch(3)}); err != nil {
			t.Fatal(err)
		}
		data := s.Encoder(tp).Append(nil, &records(tp.Partition, 5, 1)[0])
		if err := s.Write(t.Context(), sink.Chunk{TopicPartition: tp, Data: data, Next: 6, Epoch: e}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	s = openExact(t, path, nil)
	for p, e := range epochs {
		if l := resume(t, s, int32(p)); l.Next != 6 || l.Epoch != e {
			t.Errorf("partition %d is at %d in epoch %s, want epoch %s", p, l.Next, l.Epoch, e)
		}
	}
	mustClose(t, s)
	text := readFile(t, path+filename.CheckpointSuffix)
	for _, want := range []string{`{"next":6,"lineage":"L","leader_epoch":0}`, `"leader_epoch":7}`, `"2":{"next":6,"lineage":"L"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("the checkpoint lacks %s: %s", want, text)
		}
	}
}
