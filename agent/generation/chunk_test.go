package generation

import (
	"bytes"
	"runtime"
	"testing"

	"kcagent/limits"
)

// TestChunksInProgress: a consumer has as many as the process may use cores, two at least, and not
// more than partitions. If the memory limit leaves too little for their buffers, it has two.
func TestChunksInProgress(t *testing.T) {
	t.Cleanup(func() { limits.Records.SetLimit(0) })
	for _, tc := range []struct {
		cores, partitions int
		compressed        bool
		limit             int64
		chunks, buffers   int
	}{
		{cores: 2, partitions: 100, chunks: 2, buffers: 2},
		{cores: 1, partitions: 100, chunks: 2, buffers: 2},
		{cores: 8, partitions: 100, chunks: 8, buffers: 8},
		{cores: 8, partitions: 100, compressed: true, chunks: 8, buffers: 17},
		{cores: 8, partitions: 3, chunks: 3, buffers: 3},
		{cores: 8, partitions: 1, chunks: 1, buffers: 1},
		{cores: 8, partitions: 0, chunks: 1, buffers: 1},
		{cores: 8, partitions: 100, limit: 64 << 20, chunks: 8, buffers: 8},
		{cores: 8, partitions: 100, limit: 1 << 20, chunks: 4, buffers: 4},
		{cores: 8, partitions: 100, compressed: true, limit: 1 << 20, chunks: 2, buffers: 5},
	} {
		limits.Records.SetLimit(tc.limit)
		was := runtime.GOMAXPROCS(tc.cores)
		chunks := chunksFor(tc.partitions, tc.compressed)
		runtime.GOMAXPROCS(was)
		if buffers := buffersOf(chunks, tc.compressed); chunks != tc.chunks || buffers != tc.buffers {
			t.Errorf("%+v: %d chunks and %d buffers", tc, chunks, buffers)
		}
	}
}

// TestChunkBuffersFitWhatIsRead: a few small records need a small buffer, and many need one that is
// never enlarged.
func TestChunkBuffersFitWhatIsRead(t *testing.T) {
	const limit = chunkBytes
	for _, tc := range []struct {
		what            string
		record, n, fits int
		most            int
	}{
		{"one small record", 200, 1, 220, 4 << 10},
		{"some small records", 200, 100, 22_000, 24 << 10},
		{"a response of a MiB", 200, limit / 200, limit, 160 << 10},
		{"a large record behind small ones", 100_000, 1, 220, 112 << 10},
		{"more than expected", 200, limit / 200, 220, 160 << 10},
	} {
		var c chunk
		want := 0
		for i := range tc.n {
			c.makeRoom(tc.record, tc.fits, limit)
			c.Data = append(c.Data, bytes.Repeat([]byte{byte(i)}, tc.record)...)
			want += tc.record
		}
		if cap(c.Data) > tc.most || len(c.Data) != want {
			t.Errorf("%s: a buffer of %d bytes for %d of %d", tc.what, cap(c.Data), len(c.Data), want)
		}
		for i := range tc.n {
			if c.Data[i*tc.record] != byte(i) {
				t.Fatalf("%s: record %d was overwritten", tc.what, i)
			}
		}
		c.free()
	}
}

// TestExpansionOfAPartition: the next chunk of a format that adds much to each record gets a buffer
// of the right size.
func TestExpansionOfAPartition(t *testing.T) {
	var e expansion
	if got := e.encoded(1000); got != 1000 {
		t.Errorf("%d without an earlier chunk", got)
	}
	c := chunk{records: 10, taken: 10, consumed: 100}
	c.Data = make([]byte, 1700)
	e.observe(&c)
	if got := e.encoded(1000); got < 9_900 || got > 10_100 {
		t.Errorf("%d for 1000 bytes of which 170 had 1700", got)
	}
	e.observe(&chunk{})
	if got := e.encoded(1000); got < 9_900 {
		t.Errorf("%d after a chunk without records", got)
	}
}
