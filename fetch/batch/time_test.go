package batch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// yearOne is the timestamp whose time equals Go's zero time.
const yearOne = -62135596800000

// timesOf decodes a response and returns the time of each record, nil for a record without one.
func timesOf(t *testing.T, raw []byte) (times []any) {
	t.Helper()
	fr := NewFrame(1)
	defer fr.Release()
	c := Decode(fr, largeAllowance(), &kmsg.FetchResponseTopicPartition{RecordBatches: raw}, 0, sarama.ReadCommitted)
	p := Part{batches: c.batches, Next: c.Next}
	if _, err := p.Each(func(r *Record) bool {
		if r.Time.IsZero() {
			times = append(times, nil)
		} else {
			times = append(times, r.Time.UnixMilli())
		}
		return true
	}); err != nil || c.Err != nil {
		t.Fatal(err, c.Err)
	}
	return times
}

// TestRecordTimestamps: the timestamp of a record is the sum of base and delta, and only the sum -1 means
// that it has none. With LogAppendTime it is the maximum timestamp of the batch.
func TestRecordTimestamps(t *testing.T) {
	const appendTime = 0x08
	for name, tt := range map[string]struct {
		attributes int16
		base, most int64
		deltas     []int64
		want       []any
	}{
		"usual":                            {0, 1000, 1005, []int64{0, 5}, []any{int64(1000), int64(1005)}},
		"the first record has none":        {0, -1, 1000, []int64{0, 1001, 0, 1}, []any{nil, int64(1000), nil, int64(0)}},
		"a later record has none":          {0, 1000, 1000, []int64{0, -1001, 7}, []any{int64(1000), nil, int64(1007)}},
		"no record has one":                {0, -1, -1, []int64{0, 0}, []any{nil, nil}},
		"before 1970":                      {0, -5, 3, []int64{0, 4, 5, 8}, []any{int64(-5), nil, int64(0), int64(3)}},
		"the zero time of Go is a time":    {0, yearOne, yearOne, []int64{0}, []any{int64(yearOne)}},
		"the largest and the least number": {0, math.MaxInt64, math.MaxInt64, []int64{0, 1}, []any{int64(math.MaxInt64), int64(math.MinInt64)}},
		"the broker's time":                {appendTime, 1000, 5000, []int64{0, 7}, []any{int64(5000), int64(5000)}},
		"the broker's time, base -1":       {appendTime, -1, 5000, []int64{0, 7}, []any{int64(5000), int64(5000)}},
		"the broker has none":              {appendTime, 1000, -1, []int64{0, 7}, []any{nil, nil}},
		"the broker's is before 1970":      {appendTime, 1000, -2, []int64{0}, []any{int64(-2)}},
	} {
		t.Run(name, func(t *testing.T) {
			var records []byte
			for i, d := range tt.deltas {
				r := kmsg.Record{OffsetDelta: int32(i), TimestampDelta64: d, Value: []byte("v")}
				r.Length = int32(len(r.AppendTo(nil)) - 1)
				records = r.AppendTo(records)
			}
			b := kmsg.RecordBatch{
				Magic: 2, Attributes: tt.attributes, LastOffsetDelta: int32(len(tt.deltas) - 1),
				FirstTimestamp: tt.base, MaxTimestamp: tt.most, ProducerID: -1, NumRecords: int32(len(tt.deltas)), Records: records,
			}
			if got := timesOf(t, seal(b.AppendTo(nil))); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestMessageTimestamps: messages of format 1 have timestamps. If the broker has set that of the outer
// message, it applies to all.
func TestMessageTimestamps(t *testing.T) {
	message := func(offset int64, attributes int8, at int64, value []byte) []byte {
		m := kmsg.MessageV1{Offset: offset, Magic: 1, Attributes: attributes, Timestamp: at, Value: value}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		b := m.AppendTo(nil)
		binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
		return b
	}
	inner := slices.Concat(message(0, 0, -1, nil), message(1, 0, 77, nil), message(2, 0, -3, nil), message(3, 0, yearOne, nil))
	const zip, appendTime = 1, 8
	for name, tt := range map[string]struct {
		raw  []byte
		want []any
	}{
		"plain":                       {inner, []any{nil, int64(77), int64(-3), int64(yearOne)}},
		"compressed":                  {message(3, zip, 50, gzipped(inner)), []any{nil, int64(77), int64(-3), int64(yearOne)}},
		"the broker's time":           {message(3, zip|appendTime, 50, gzipped(inner)), []any{int64(50), int64(50), int64(50), int64(50)}},
		"the broker has none":         {message(3, zip|appendTime, -1, gzipped(inner)), []any{nil, nil, nil, nil}},
		"the broker's is before 1970": {message(3, zip|appendTime, -2, gzipped(inner)), []any{int64(-2), int64(-2), int64(-2), int64(-2)}},
	} {
		if got := timesOf(t, tt.raw); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
