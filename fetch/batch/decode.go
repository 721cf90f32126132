// Package batch turns the bytes of a fetch response into records. It holds no locks and does
// no I/O.
//
//   - [Decode] returns what a subscription may see of a response: records from a position on,
//     without control records and, under read_committed, without those of aborted
//     transactions. It reads record batches and the message sets before Kafka 0.11.
//   - A batch that cannot be read ends the [Content] with an error. The batches before it are
//     valid, and nothing after it is skipped.
//   - All memory of a response lies in its [Frame]. An [Allowance] says how much that may be.
//   - A [Part] hands records over one by one, without an allocation for each, or appends the
//     values of many records to a buffer.
//
// Start reading at [Decode].
package batch

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/leader"
)

// A Content is what a response has for one position of one partition. All subscriptions at
// this position share it.
type Content struct {
	batches []Batch
	Next    int64        // the offset to continue at; the position itself if no batch was read
	Last    leader.Epoch // of the last batch before Next; unknown if no batch was read
	Err     error        // why the batch at Next cannot be read; nil if there is no such batch

	WireBytes    int64 // size of the response
	DecodedBytes int64 // of WireBytes, up to the end of the last batch that was examined
	MemoryBytes  int64 // memory that DecodedBytes and the decompressed batches need

	Deferred   bool  // the batch at Next was received, and there was no memory to decompress it
	LargeBytes int64 // memory for large batches that a deferred batch needs; 0 if none
}

// Decode returns what a subscription at the offset pos may see of the partition p of a response.
// Batches that it decompresses become part of the frame, within the allowance. A transaction of
// a producer is aborted from its first offset, which the broker lists, up to the abort marker of
// that producer.
//
// A batch that cannot be read, or for which there is no memory, ends the content. The batches
// before it are valid. The first batch of a response may always be decompressed, so that each
// response brings at least one batch.
func Decode(fr *Frame, allowance *Allowance, p *kmsg.FetchResponseTopicPartition, pos int64, iso sarama.IsolationLevel) Content {
	d := newDecoder(fr, allowance, p, pos, iso)
	for d.next() {
	}
	return d.Content
}

// newDecoder returns a decoder that has decoded nothing.
func newDecoder(fr *Frame, allowance *Allowance, p *kmsg.FetchResponseTopicPartition, pos int64, iso sarama.IsolationLevel) decoder {
	d := decoder{
		Content: Content{Next: pos, WireBytes: int64(len(p.RecordBatches))},
		frame:   fr, allowance: allowance, pos: pos, rest: p.RecordBatches,
	}
	if iso == sarama.ReadCommitted && len(p.AbortedTransactions) > 0 {
		d.upcoming = slices.Clone(p.AbortedTransactions)
		slices.SortFunc(d.upcoming, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
			return cmp.Compare(a.FirstOffset, b.FirstOffset)
		})
		d.aborted = make(map[int64]bool)
	}
	return d
}

// next decodes one more batch. It returns false if the content ends before it.
func (d *decoder) next() bool {
	b := d.rest
	if len(b) <= batchPrefix || d.Err != nil || d.Deferred {
		return false
	}
	length := int(binary.BigEndian.Uint32(b[8:])) + batchLength
	if length > len(b) || length <= batchPrefix {
		return false // cut off: the next request begins with it
	}
	if magic := b[16]; magic >= 2 {
		d.Err = d.batch(b[:length])
	} else {
		d.Err = d.message(b[:length])
	}
	d.deferBatch()
	d.DecodedBytes += int64(length)
	d.MemoryBytes += int64(length)
	d.rest = b[length:]
	return true
}

// deferBatch turns the error of a batch for which there is no memory now into Deferred.
func (d *decoder) deferBatch() {
	if busy, ok := errors.AsType[*MemoryBusyError](d.Err); ok {
		d.Err, d.Deferred, d.LargeBytes = nil, true, busy.Need
	} else if errors.Is(d.Err, errNoMemory) {
		d.Err, d.Deferred = nil, true
	}
}

// Offsets in the header of a record batch (KIP-98).
const (
	batchLength  = 12 // end of the length field, which counts the bytes after it
	batchPrefix  = 16 // start of the magic byte
	batchChecked = 21 // start of the bytes that the checksum covers
	batchHeader  = 61 // start of the records
)

// A decoder is the state of Decode.
type decoder struct {
	Content
	frame     *Frame
	allowance *Allowance
	pos       int64
	rest      []byte                                               // that is not decoded yet
	upcoming  []kmsg.FetchResponseTopicPartitionAbortedTransaction // that begin at a later offset, in order
	aborted   map[int64]bool                                       // producers inside an aborted transaction
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("invalid record batch: checksum does not match the content")

// batch decodes one record batch.
func (d *decoder) batch(b []byte) error {
	if len(b) < batchHeader {
		return fmt.Errorf("invalid record batch: %d bytes, less than its header", len(b))
	}
	base := int64(binary.BigEndian.Uint64(b))
	last := base + int64(int32(binary.BigEndian.Uint32(b[23:])))
	if last < d.pos {
		return nil
	}
	if crc32.Checksum(b[batchChecked:], castagnoli) != binary.BigEndian.Uint32(b[17:]) {
		return errChecksum
	}
	epoch := int32(binary.BigEndian.Uint32(b[12:])) // brokers set it; the checksum does not cover it
	attributes := binary.BigEndian.Uint16(b[21:])
	producer := int64(binary.BigEndian.Uint64(b[43:]))
	for len(d.upcoming) > 0 && d.upcoming[0].FirstOffset <= last {
		d.aborted[d.upcoming[0].ProducerID] = true
		d.upcoming = d.upcoming[1:]
	}
	const appendTime, transactional, control = 0x08, 0x10, 0x20
	switch count := binary.BigEndian.Uint32(b[57:]); {
	case attributes&control != 0:
		if isAbort(b[batchHeader:]) {
			delete(d.aborted, producer)
		}
	case attributes&transactional != 0 && d.aborted[producer], count == 0:
	default:
		data, err := d.decompress(sarama.CompressionCodec(attributes&7), b[batchHeader:], last+1)
		if err != nil {
			return err
		}
		records := Batch{data: data, count: int(count), base: base, from: max(d.pos, base), epoch: leader.NewEpoch(epoch)}
		records.baseTime = int64(binary.BigEndian.Uint64(b[27:]))
		if attributes&appendTime != 0 {
			records.baseTime, records.sameTime = int64(binary.BigEndian.Uint64(b[35:])), true
		}
		d.append(records)
	}
	d.Next, d.Last = last+1, leader.NewEpoch(epoch)
	return nil
}

// append adds a batch to the content.
func (d *decoder) append(b Batch) {
	d.batches = append(d.batches, b)
	if !d.allowance.hasBatch { // other goroutines may read it once it is true
		d.allowance.hasBatch = true
	}
}

// decompress returns the decompressed records of a batch. next is the offset after it.
func (d *decoder) decompress(codec sarama.CompressionCodec, b []byte, next int64) ([]byte, error) {
	if codec == sarama.CompressionNone {
		return b, nil
	}
	data, err := d.allowance.decompress(d.frame, codec, b)
	if err == nil {
		d.MemoryBytes += int64(cap(data))
		return data, nil
	}
	tooLarge, ok := errors.AsType[*sizeError](err)
	if !ok {
		return nil, fmt.Errorf("decompress %s: %w", codec, err)
	}
	d.MemoryBytes += tooLarge.size // so that the next request is smaller
	if d.allowance.hasBatch {
		return nil, errNoMemory
	}
	return nil, &TooLargeError{sizeError: *tooLarge, next: next, memory: d.allowance.memory}
}

// isAbort reports whether a control batch is an abort marker. The key of its record is a version
// and a type, which is 0 for an abort.
func isAbort(records []byte) bool {
	var l layout
	return l.locate(records) && checkHeaders(records[l.rest:l.end], l.headers) == nil &&
		l.keyEnd-l.key >= 4 && binary.BigEndian.Uint16(records[l.key+2:]) == 0
}

// afterBatch searches the first bytes of a response of n bytes for the batch that makes up nearly
// all of it, and returns the offset after that batch; -1 if there is none.
func afterBatch(start []byte, n int64) int64 {
	for i := 0; i+batchHeader <= len(start); i++ {
		b := start[i:]
		left := n - int64(i) - batchLength - int64(binary.BigEndian.Uint32(b[8:]))
		base, delta := int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[23:]))
		if b[16] == 2 && left >= 0 && left < responseOverhead && base >= 0 && delta >= 0 {
			return base + int64(delta) + 1
		}
	}
	return -1
}
