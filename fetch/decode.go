package fetch

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A content is what a response holds for one position of one partition: all
// subscriptions that asked for it share it.
type content struct {
	runs []run
	next int64 // where to go on; the position itself if nothing came
	wire int64 // bytes of the response
	size int64 // bytes in memory, those of the response included
	err  error // what cannot be read at next, if anything
}

// decode takes from a response what a subscription at pos may see. What it
// decompresses becomes part of the frame. The order is Kafka's: a transaction of
// a producer is aborted from its first offset, which the broker lists, to the
// abort mark of that producer.
//
// A batch that cannot be read ends the content; what is before it is good.
func decode(fr *frame, p *kmsg.FetchResponseTopicPartition, pos int64, iso sarama.IsolationLevel) content {
	n := int64(len(p.RecordBatches))
	d := decoder{content: content{next: pos, wire: n, size: n}, frame: fr, pos: pos}
	if iso == sarama.ReadCommitted && len(p.AbortedTransactions) > 0 {
		d.ahead = slices.Clone(p.AbortedTransactions)
		slices.SortFunc(d.ahead, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
			return cmp.Compare(a.FirstOffset, b.FirstOffset)
		})
		d.aborted = make(map[int64]bool)
	}
	for b := p.RecordBatches; len(b) > batchPrefix && d.err == nil; {
		length := int(binary.BigEndian.Uint32(b[8:])) + batchLength
		if length > len(b) || length <= batchPrefix {
			break // cut off: it comes whole with a request that begins with it
		}
		if magic := b[16]; magic >= 2 {
			d.err = d.batch(b[:length])
		} else {
			d.err = d.message(b[:length])
		}
		b = b[length:]
	}
	return d.content
}

// A record batch: where its fields are (KIP-98).
const (
	batchLength  = 12 // of what comes before that which the length counts
	batchPrefix  = 16
	batchChecked = 21 // the checksum covers what follows
	batchHeader  = 61
)

type decoder struct {
	content
	frame   *frame
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
		data, err := d.inflate(sarama.CompressionCodec(attributes&7), b[batchHeader:])
		if err != nil {
			return err
		}
		u := run{data: data, left: int(count), base: base, from: max(d.pos, base)}
		u.first = int64(binary.BigEndian.Uint64(b[27:]))
		if attributes&appendTime != 0 {
			u.first, u.sameTime = int64(binary.BigEndian.Uint64(b[35:])), true
		}
		d.runs = append(d.runs, u)
	}
	d.next = last + 1
	return nil
}

// inflate returns the records themselves.
func (d *decoder) inflate(codec sarama.CompressionCodec, b []byte) ([]byte, error) {
	if codec == sarama.CompressionNone {
		return b, nil
	}
	data, err := inflate(codec, b)
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", codec, err)
	}
	d.frame.add(data)
	d.size += int64(cap(data))
	return data, nil
}

// isAbort reads a control record's key: version, then type, 0 for an abort.
func isAbort(records []byte) bool {
	var r Record
	c := cursor{b: records}
	c.record(&r, &run{})
	return !c.bad && len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) == 0
}
