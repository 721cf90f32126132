package e2e

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// largeValue is the size of a value of zeros, which Kafka stores in a few KiB.
const largeValue = 70_000_000

// produceLarge writes batches of one large record each, compressed by zstd.
func (s *scene) produceLarge(t *testing.T, topic string, count int) {
	t.Helper()
	r := kmsg.Record{Value: make([]byte, largeValue)}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	b := kmsg.RecordBatch{
		Magic: 2, Attributes: 4, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, PartitionLeaderEpoch: -1,
		NumRecords: 1, Records: encoder.EncodeAll(r.AppendTo(nil), nil),
	}
	b.FirstTimestamp = time.Now().UnixMilli() // otherwise retention deletes it
	b.MaxTimestamp = b.FirstTimestamp
	for range count {
		s.ProduceBatch(t, topic, 0, b)
	}
}

// withMemory returns a command that runs an agent as in a container of this size, where it
// is killed if it needs more. Without cgroups, the agent assumes the size, and the test
// checks what it needed.
func withMemory(t *testing.T, size int64) []string {
	t.Helper()
	if through, ok := inCgroup(t, size); ok {
		return through
	}
	t.Log("no cgroup")
	return []string{"env", "GOMEMLIMIT=" + strconv.FormatInt(size/10*9, 10)}
}

// peakMemory returns the largest resident size of the agent, in bytes.
func peakMemory(t *testing.T, a *agenttest.Agent) int64 {
	t.Helper()
	n, err := process.Memory(a.Pid(), "VmHWM")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLargeRecordsFitTheMemoryLimit: with 256 MiB, records of 70 MB of several consumers
// are read one after the other, and another consumer is not delayed.
func TestLargeRecordsFitTheMemoryLimit(t *testing.T) {
	t.Parallel()
	const size, count, steadyRecords = 256 << 20, 3, 2000
	s := newScene(t)
	small := s.newTopic(t, "small", 2)
	first, second := s.newTopic(t, "first", 1), s.newTopic(t, "second", 1)
	s.produceLarge(t, first, count)
	s.produceLarge(t, second, count)
	steady := s.entry("steady", small)
	raw := s.entry("raw", first)
	packed := s.entry("packed", second).withFormat("json")
	packed.sink = "compression: zstd"
	zeros := s.entry("zeros", first).withFormat("json").withPath("")
	stdout, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	a := agenttest.Start(t, agenttest.Options{Config: s.config(steady, raw, packed, zeros), Through: withMemory(t, size), Released: true, Stdout: stdout})
	for i := range 10 {
		s.Produce(t, kafkatest.Load{Topic: small, Partitions: 2, First: i * steadyRecords / 10, Count: steadyRecords / 10})
		s.waitCommitted(t, a, steady, int64(2*(i+1)*steadyRecords/10))
	}
	for _, e := range []entry{raw, packed, zeros} {
		s.waitCommitted(t, a, e, count)
	}
	most := peakMemory(t, a)
	t.Logf("at most %d MiB", most>>20)
	if most > size {
		t.Errorf("%d MiB of %d were resident", most>>20, size>>20)
	}
	stopAgent(t, a)
	readTrail(t, steady.path).wantExact(t, small, 2, steadyRecords)
	if info, err := os.Stat(raw.path); err != nil || info.Size() != count*(largeValue+1) {
		t.Errorf("the raw file: %v, %v", info, err)
	}
	f, err := os.Open(packed.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	n, err := io.Copy(io.Discard, z)
	if least := int64(count * largeValue * len(`\u0000`)); err != nil || n < least || n > least+count*500 {
		t.Errorf("the packed file has %d bytes when it is decompressed, want %d and the envelopes; %v", n, least, err)
	}
}

// TestRecordLargerThanMemoryStopsItsConsumerOnly: with 96 MiB, a record of 70 MB is an
// error of its consumer. The next step that the error names works, and other consumers
// continue.
func TestRecordLargerThanMemoryStopsItsConsumerOnly(t *testing.T) {
	t.Parallel()
	const size, records = 96 << 20, 1000
	s := newScene(t)
	topic, small := s.newTopic(t, "large", 1), s.newTopic(t, "small", 2)
	s.produceLarge(t, topic, 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1, Count: 10})
	large, steady := s.entry("large", topic), s.entry("steady", small)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(large, steady), Through: withMemory(t, size), Released: true})
	c := a.WaitState("large", "ERROR")
	for _, want := range []string{
		fmt.Sprintf("read %s/0 at offset 0: record batch needs 700000", topic),
		"bytes of memory, and the memory limit of 90596",
		"bytes allows 45298",
		"for a batch: raise the memory limit",
		"stop the consumer and reset the group's offset to 1",
	} {
		if !strings.Contains(c.Error(), want) {
			t.Errorf("the error is %q, want %q in it", c.Error(), want)
		}
	}
	s.Produce(t, kafkatest.Load{Topic: small, Partitions: 2, Count: records})
	s.waitCommitted(t, a, steady, 2*records)
	a.WaitState("large", "ERROR")
	a.Apply(s.config(large.withState("stopped"), steady))
	a.WaitState("large", "CREATED")
	s.ResetOffsets(t, large.group, topic, map[int32]int64{0: 1})
	a.Apply(s.config(large, steady))
	s.waitCommitted(t, a, large, 11)
	readTrail(t, large.path).wantSeqs(t, key(topic, 0), seqRange(1, 11))
	most := peakMemory(t, a)
	t.Logf("at most %d MiB", most>>20)
	if most > size {
		t.Errorf("%d MiB of %d were resident", most>>20, size>>20)
	}
}

// TestRaisedMaxBatchAppliesToRunningConsumer: an edit of limits.max_batch lets a running
// consumer read a batch that was too large, including one above the default.
func TestRaisedMaxBatchAppliesToRunningConsumer(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "raised", 1)
	s.produceLarge(t, topic, 1)
	e := s.entry("raised", topic)
	file := func(limit string) string { return "limits: {max_batch: " + limit + "}\n" + s.config(e) }
	a := agenttest.Start(t, agenttest.Options{Config: file("32MiB")})
	c := a.WaitState("raised", "ERROR")
	if want := "more than limits.max_batch (33554432): raise limits.max_batch; to skip it, stop the consumer and reset the group's offset to 1"; !strings.Contains(c.Error(), want) {
		t.Errorf("the error is %q, want %q in it", c.Error(), want)
	}
	before := c.ID
	a.Apply(file("128MiB"))
	s.waitCommitted(t, a, e, 1)
	if c := a.WaitState("raised", "RUNNING"); c.ID != before {
		t.Error("the consumer was replaced")
	}
	wait.For(t, wait.Timeout, "the record", func() error {
		if info, err := os.Stat(e.path); err != nil || info.Size() != largeValue+1 {
			return fmt.Errorf("%v, %v", info, err)
		}
		return nil
	})
}
