// Package batch turns the bytes of a fetch response into records. It holds no locks and does
// no I/O.
//
//   - [Decode] returns what a subscription may see of a response: records from a position on,
//     without control records and, under read_committed, without those of aborted
//     transactions. It reads record batches and the message sets before Kafka 0.11.
//   - A batch that cannot be read ends the [Content] with an error. The batches before it are
//     valid, and nothing after it is skipped.
//   - All memory of a response lies in its [Frame]. An [Allowance] says how much that may be.
//   - A [Part] hands records over one by one, without an allocation for each.
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

// A Content is what a response holds for one position of one partition: all
// subscriptions that asked for it share it.
type Content struct {
	batches      []Batch
	Next         int64        // the offset to continue at; the position itself if there was no record
	Last         leader.Epoch // of the last batch before next, if anything came
	WireBytes    int64        // bytes of the response
	DecodedBytes int64        // of them, up to the last batch that was looked at
	MemoryBytes  int64        // bytes in memory, those used included
	Err          error        // why the batch at next cannot be read; nil if there is no such batch
	Deferred     bool         // next is a batch that the answer brought and for which there was no memory
	LargeBytes   int64        // memory for large batches that it needs; 0 if none
}

// Decode takes from a response what a subscription at pos may see. What it
// decompresses becomes part of the frame. The order is Kafka's: a transaction of
// a producer is aborted from its first offset, which the broker lists, to the
// abort mark of that producer.
//
// A batch that cannot be read, or for which there is no room, ends the content; the batches
// before it are valid. The first batch of an answer may always be decompressed, so that
// each answer has at least one batch.
func Decode(fr *Frame, ro *Allowance, p *kmsg.FetchResponseTopicPartition, pos int64, iso sarama.IsolationLevel) Content {
	d := decoder{Content: Content{Next: pos, WireBytes: int64(len(p.RecordBatches))}, frame: fr, room: ro, pos: pos}
	if iso == sarama.ReadCommitted && len(p.AbortedTransactions) > 0 {
		d.ahead = slices.Clone(p.AbortedTransactions)
		slices.SortFunc(d.ahead, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
			return cmp.Compare(a.FirstOffset, b.FirstOffset)
		})
		d.aborted = make(map[int64]bool)
	}
	for b := p.RecordBatches; len(b) > batchPrefix && d.Err == nil && !d.Deferred; {
		length := int(binary.BigEndian.Uint32(b[8:])) + batchLength
		if length > len(b) || length <= batchPrefix {
			break // cut off: it comes whole with a request that begins with it
		}
		if magic := b[16]; magic >= 2 {
			d.Err = d.batch(b[:length])
		} else {
			d.Err = d.message(b[:length])
		}
		if d.Err != nil {
			d.stop()
		}
		d.DecodedBytes += int64(length)
		b = b[length:]
	}
	d.MemoryBytes += d.DecodedBytes
	return d.Content
}

// stop finds out whether the error means that there is no memory for a batch now.
func (d *decoder) stop() {
	var short *MemoryBusyError
	switch {
	case errors.As(d.Err, &short):
		d.LargeBytes = short.Need
	case !errors.Is(d.Err, errNoRoom):
		return
	}
	d.Deferred, d.Err = true, nil
}

// A record batch: where its fields are (KIP-98).
const (
	batchLength  = 12 // of what comes before that which the length counts
	batchPrefix  = 16
	batchChecked = 21 // the checksum covers what follows
	batchHeader  = 61
)

type decoder struct {
	Content
	frame   *Frame
	room    *Allowance
	pos     int64
	ahead   []kmsg.FetchResponseTopicPartitionAbortedTransaction // whose first offset is ahead, in order
	aborted map[int64]bool                                       // producers inside an aborted transaction
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("checksum of a batch of records is wrong")

// batch takes one record batch.
func (d *decoder) batch(b []byte) error {
	if len(b) < batchHeader {
		return fmt.Errorf("a batch of records has %d bytes, less than its header", len(b))
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
	for len(d.ahead) > 0 && d.ahead[0].FirstOffset <= last {
		d.aborted[d.ahead[0].ProducerID] = true
		d.ahead = d.ahead[1:]
	}
	const appendTime, transactional, control = 0x08, 0x10, 0x20
	switch count := binary.BigEndian.Uint32(b[57:]); {
	case attributes&control != 0:
		if isAbort(b[batchHeader:]) {
			delete(d.aborted, producer)
		}
	case attributes&transactional != 0 && d.aborted[producer], count == 0:
	default:
		data, err := d.inflate(sarama.CompressionCodec(attributes&7), b[batchHeader:], last+1)
		if err != nil {
			return err
		}
		u := Batch{data: data, left: int(count), base: base, from: max(d.pos, base), epoch: leader.NewEpoch(epoch)}
		u.first = int64(binary.BigEndian.Uint64(b[27:]))
		if attributes&appendTime != 0 {
			u.first, u.sameTime = int64(binary.BigEndian.Uint64(b[35:])), true
		}
		d.batches = append(d.batches, u)
		d.room.fed = true
	}
	d.Next, d.Last = last+1, leader.NewEpoch(epoch)
	return nil
}

// inflate returns the records of a batch themselves. next is the offset after it.
func (d *decoder) inflate(codec sarama.CompressionCodec, b []byte, next int64) ([]byte, error) {
	if codec == sarama.CompressionNone {
		return b, nil
	}
	data, err := d.room.inflate(d.frame, codec, b)
	var size *sizeError
	switch {
	case errors.As(err, &size):
		d.MemoryBytes += size.size // the next request takes it into account
		if d.room.fed {
			return nil, errNoRoom
		}
		return nil, &TooLargeError{sizeError: *size, next: next, memory: d.room.memory}
	case err != nil:
		return nil, fmt.Errorf("decompress %s: %w", codec, err)
	}
	d.MemoryBytes += int64(cap(data))
	return data, nil
}

// isAbort reads a control record's key: version, then type, 0 for an abort.
func isAbort(records []byte) bool {
	var r Record
	c := cursor{b: records}
	c.record(&r, &Batch{})
	return !c.bad && len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) == 0
}

// afterBatch looks in the first bytes of a response of n bytes for the batch that makes up
// nearly all of it, and returns the offset after that; -1 if there is none.
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
