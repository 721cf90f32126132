package sink

import (
	"bytes"
	"testing"
)

func FuzzCheckpoint(f *testing.F) {
	for _, c := range []*checkpoint{
		{ID: "kcagent x", Group: "g"},
		{
			ID: "kcagent x", File: &fileMark{"a", 1, 9, 2, 3, Zstd}, Done: &fileMark{"b", 1, 9, 2, 3, Uncompressed},
			Topics: []topicMark{{"t", Identity{"c", "i"}, map[int32]int64{0: 5, 7: 1 << 40}}},
		},
	} {
		data, err := c.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCheckpoint(data)
		if err != nil {
			// Even with a checksum that fits, what is decoded must be sound.
			body, _ := bytes.CutPrefix(data, []byte("kcagent checkpoint 1 crc32c "))
			if _, body, ok := bytes.Cut(body, []byte("\n")); ok {
				c, err = decodeCheckpoint(sealed(body))
			}
		}
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeCheckpoint(again); err != nil {
			t.Fatalf("what was decoded cannot be: %v\n%q", err, again)
		}
	})
}
