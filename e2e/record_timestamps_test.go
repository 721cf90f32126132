package e2e

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
)

// TestTimestampsEqualThoseOfKafka: the file has the times that Kafka's console consumer
// prints, also for records without a timestamp in a batch of records that have one.
func TestTimestampsEqualThoseOfKafka(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topics := map[string]string{"create": "CreateTime", "append": "LogAppendTime"}
	var entries []entry
	for name, kind := range topics {
		topic := name + "-" + s.suffix
		s.CreateTopic(t, topic, 1, "message.timestamp.type="+kind, "message.timestamp.after.max.ms="+strconv.Itoa(math.MaxInt64))
		entries = append(entries, s.entry(name, topic).withFormat("json"))
		now := time.Now().UnixMilli()
		const year10000 = 253402300800000
		for _, times := range [][]int64{
			{-1, now, -1, now - 5, 0}, {now, -1, now + 7}, {-1, -1}, {now}, {year10000, now, year10000 * 100},
		} {
			s.ProduceBatch(t, topic, 0, batchWithTimes(times))
		}
	}
	const records = 5 + 3 + 2 + 1 + 3
	agenttest.Start(t, agenttest.Options{Config: s.config(entries...)})
	for _, e := range entries {
		waitLines(t, e.path, records)
		topic := e.name + "-" + s.suffix
		console := s.Console(t, topic, 0, records, "print.timestamp=true", "print.offset=true")
		for i, line := range lines(t, e.path) {
			var envelope struct{ Timestamp *string }
			if err := json.Unmarshal(line, &envelope); err != nil {
				t.Fatal(err)
			}
			kind, text, _ := strings.Cut(strings.Split(console[i], "\t")[0], ":")
			ms, err := strconv.ParseInt(text, 10, 64)
			if err != nil || kind != topics[e.name] {
				t.Fatalf("the console consumer prints %q", console[i])
			}
			want := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
			switch {
			case ms == -1:
				want = "null"
			case ms >= 253402300800000:
				want = "9999-12-31T23:59:59.999Z"
			}
			got := "null"
			if envelope.Timestamp != nil {
				got = *envelope.Timestamp
			}
			if got != want {
				t.Errorf("%s: record %d has the time %s in the file, and the console consumer prints %q", e.name, i, got, console[i])
			}
		}
	}
}

// batchWithTimes returns a batch of records with these timestamps; -1 stands for none.
func batchWithTimes(times []int64) kmsg.RecordBatch {
	b := kmsg.RecordBatch{
		Magic: 2, LastOffsetDelta: int32(len(times) - 1), FirstTimestamp: times[0], MaxTimestamp: -1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, PartitionLeaderEpoch: -1, NumRecords: int32(len(times)),
	}
	for i, at := range times {
		b.MaxTimestamp = max(b.MaxTimestamp, at)
		r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: at - times[0], Value: []byte("v")}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		b.Records = r.AppendTo(b.Records)
	}
	return b
}
