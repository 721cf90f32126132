package batch

import (
	"fmt"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/leader"
)

// TestPartHasEpochOfEachPosition: a position has the leader epoch of the last batch before it, also if that
// batch has no records, and wherever Each ends.
func TestPartHasEpochOfEachPosition(t *testing.T) {
	const transactional, control = 0x10, 0x20
	abort := []byte{20, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0}
	var raw []byte
	for _, b := range []batchSpec{
		{base: 0, values: []string{"a", "b", "c"}, epoch: 3},
		{base: 3, values: []string{"bad"}, attributes: transactional, producer: 7, epoch: 4},
		{base: 4, values: []string{"d"}, epoch: 5},
		{base: 5, attributes: transactional | control, producer: 7, raw: abort, count: 1, epoch: 6},
	} {
		raw = append(raw, b.bytes()...)
	}
	aborted := []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 7, FirstOffset: 3}}
	fr := NewFrame(1)
	defer fr.Release()
	c := Decode(fr, largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw, AbortedTransactions: aborted}, 1, sarama.ReadCommitted)
	if c.Next != 6 || c.Last != leader.NewEpoch(6) {
		t.Errorf("at the end, %d has epoch %s", c.Next, c.Last)
	}
	p := Part{batches: c.batches, Next: c.Next, Last: c.Last, Epoch: leader.NewEpoch(2)}
	var got []string
	for at := int64(0); at < c.Next; {
		var err error
		if at, err = p.Each(func(*Record) bool { return false }); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d:%s", at, p.Epoch))
	}
	if want := []string{"2:3", "3:3", "6:6"}; !slices.Equal(got, want) {
		t.Errorf("positions and epochs %v, want %v", got, want)
	}
	cut := Decode(fr, largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw[:len(raw)-1], AbortedTransactions: aborted}, 1, sarama.ReadCommitted)
	if cut.Next != 5 || cut.Last != leader.NewEpoch(5) {
		t.Errorf("before the batch that is cut off, %d has epoch %s", cut.Next, cut.Last)
	}
}
