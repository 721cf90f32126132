package encode

import (
	"fmt"
	"testing"

	"kcagent/sink"
	"kcagent/sink/sinktest"
)

func BenchmarkEncode(b *testing.B) {
	for _, format := range []sink.Format{sink.Raw, sink.JSON} {
		encoders, err := For(format)
		if err != nil {
			b.Fatal(err)
		}
		for name, value := range sinktest.Payloads {
			recs := sinktest.Batch(256, value)
			b.Run(fmt.Sprintf("%s/%s", format, name), func(b *testing.B) {
				encoder := encoders(sink.TopicPartition{Topic: "orders", Partition: 3})
				var dst []byte
				b.SetBytes(int64(len(value)))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					dst = encoder.Append(dst[:0], &recs[i%len(recs)])
				}
			})
		}
	}
}
