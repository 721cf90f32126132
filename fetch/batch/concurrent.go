package batch

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// An Entry is a partition of a response, and the offset from which on it is decoded.
type Entry struct {
	Partition *kmsg.FetchResponseTopicPartition // nil if there is nothing to decode
	Offset    int64
}

// DecodeAll is [Decode] for the entries of a response. Large compressed partitions are decoded
// concurrently, by as many goroutines as the process may use cores.
//
// The first batch of the response is decoded before other goroutines start, because only this batch
// may use memory beyond the grant. Later batches share the grant. It is not determined which of them
// do not fit and are fetched again.
func DecodeAll(fr *Frame, allowance *Allowance, entries []Entry, iso sarama.IsolationLevel) []Content {
	contents := make([]Content, len(entries))
	workers := workersFor(entries)
	if workers <= 1 {
		for i, e := range entries {
			if e.Partition != nil {
				contents[i] = Decode(fr, allowance, e.Partition, e.Offset, iso)
			}
		}
		return contents
	}
	decoders := make([]decoder, len(entries))
	for i, e := range entries {
		if e.Partition == nil {
			continue
		}
		d := &decoders[i]
		*d = newDecoder(fr, allowance, e.Partition, e.Offset, iso)
		for !allowance.hasBatch && d.next() {
		}
	}
	inParallel(workers, len(decoders), func(i int) {
		if entries[i].Partition != nil {
			for decoders[i].next() {
			}
		}
	})
	for i := range decoders {
		contents[i] = decoders[i].Content
	}
	return contents
}

// inParallel calls do for the numbers below n, in workers goroutines. One of them is the caller's.
func inParallel(workers, n int, do func(i int)) {
	var taken atomic.Int64
	work := func() {
		for i := int(taken.Add(1)) - 1; i < n; i = int(taken.Add(1)) - 1 {
			do(i)
		}
	}
	var others sync.WaitGroup
	for range min(workers, n) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

const (
	// workBytes is how much compressed data is worth a goroutine of its own: its decompression
	// takes ten times as long as the start of a goroutine, and longer.
	workBytes = 16 << 10
	// checksumFactor is how much faster the checksum of uncompressed data is computed than
	// compressed data is decompressed.
	checksumFactor = 16
)

// workersFor returns how many goroutines are to decode a response. With two cores it is one,
// because the lanes of a fetcher use both.
func workersFor(entries []Entry) int {
	if len(entries) < 2 {
		return 1
	}
	cores := runtime.GOMAXPROCS(0)
	if cores <= 2 {
		return 1
	}
	busy, all := 0, 0
	for _, e := range entries {
		if e.Partition == nil {
			continue
		}
		if n := work(e.Partition.RecordBatches); n > 0 {
			busy++
			all += n
		}
	}
	return max(1, min(cores, busy, all/workBytes))
}

// work returns the size of the batches, weighted by the time to decode them: uncompressed data
// counts a sixteenth. All of them are likely to have the codec of the first one.
func work(batches []byte) int {
	if len(batches) <= batchChecked+1 {
		return 0
	}
	codec := batches[batchChecked+1] // the attributes of a record batch
	if batches[batchPrefix] < 2 {
		codec = batches[batchPrefix+1] // the attributes of a message
	}
	if int(binary.BigEndian.Uint32(batches[8:]))+batchLength > len(batches) {
		return 0 // the first batch is cut off
	}
	if codec&7 == 0 {
		return len(batches) / checksumFactor
	}
	return len(batches)
}
