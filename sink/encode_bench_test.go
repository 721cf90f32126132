package sink

import (
	"fmt"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	for _, format := range []Format{Raw, JSON} {
		encode, err := encoderOf(format)
		if err != nil {
			b.Fatal(err)
		}
		for name, value := range Payloads {
			recs := Batch(256, value)
			b.Run(fmt.Sprintf("%s/%s", format, name), func(b *testing.B) {
				var dst []byte
				b.SetBytes(int64(len(value)))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					dst = encode(dst[:0], &recs[i%len(recs)])
				}
			})
		}
	}
}
