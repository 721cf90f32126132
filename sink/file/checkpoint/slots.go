package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"kcagent/buffers"
	"kcagent/sink/file/disk"
)

// slots store checkpoints in one file, alternating between two places, so that a crash
// leaves the previous checkpoint or the new one, whole. Nothing is renamed, and no folder is
// synced: overwriting an existing slot is one write to the disk.
//
// Slots come in pairs of the same size. A checkpoint that does not fit in the pair goes to
// the next pair, which is twice as large and comes after it.
type slots struct {
	f      disk.File
	newest int    // index of the slot with the newest checkpoint; -1 if there is none
	Seq    uint64 // of the newest checkpoint, or of a later one that could not be stored
}

// format is the digit that stands for the form of the JSON in the slots. A change of it, also
// a new field, increments it, so that an earlier version reports the format instead of a
// damaged file. The header keeps its form.
const format = '2'

const (
	SlotSize   = 4 << 10 // in the first pair: a block of the file system
	slotSeq    = "kcagent checkpoint %c seq=%016x "
	slotHeader = slotSeq + "bytes=%08x crc32c="
	slotSum    = "%08x\n"
	headerSize = len("kcagent checkpoint 2 seq=0123456789abcdef bytes=01234567 crc32c=01234567\n")
	// maxSlots is far more than a million partitions need: 256 MiB.
	maxSlots = 2 * 14
)

// slotAt returns the offset and the size of a slot.
func slotAt(i int) (offset, size int64) {
	pair := i / 2
	size = SlotSize << pair
	return 2*(size-SlotSize) + int64(i%2)*size, size
}

// Load returns the newest checkpoint; nil if none was ever stored.
func (s *slots) Load() (body []byte, err error) {
	s.newest, s.Seq = -1, 0
	torn, used := 0, false
	for i := range maxSlots {
		offset, size := slotAt(i)
		data := buffers.Get(int(size))[:size]
		defer buffers.Put(data)
		n, err := s.f.ReadAt(data, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n == 0 {
			break
		}
		written, seq, b, ok := parseSlot(data[:n])
		switch {
		case ok && written != format:
			return nil, &FormatError{written}
		case ok && (body == nil || seq > s.Seq):
			s.newest, s.Seq, body = i, seq, bytes.Clone(b)
		case !ok && len(bytes.Trim(data[:n], "\x00")) > 0:
			torn++
			used = used || wasUsed(data[:n])
		}
	}
	// A single torn slot with the first sequence number is a first checkpoint that was
	// interrupted. Nothing relied on it yet.
	if body == nil && (torn > 1 || used) {
		return nil, ErrDamaged
	}
	return body, nil
}

// wasUsed reports whether the remains of a slot belong to a later checkpoint than the first.
func wasUsed(data []byte) bool {
	var written rune
	var seq uint64
	_, err := fmt.Sscanf(string(data[:min(len(data), headerSize)]), slotSeq, &written, &seq)
	return err == nil && seq > 1
}

// A FormatError says that another version of the program wrote the checkpoint, in a form
// that this one does not read.
type FormatError struct {
	Format rune
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("checkpoint has format %c, and this version of kcagent reads format %c: run the version that wrote it, or move it and its file away to start a new file at the committed offsets",
		e.Format, format)
}

// ErrDamaged says that no slot holds a whole checkpoint, although one was stored.
var ErrDamaged = errors.New("checksum does not match the content")

// parseSlot returns the format, the sequence number and the body of a slot; ok is false if it
// is torn.
func parseSlot(data []byte) (written rune, seq uint64, body []byte, ok bool) {
	if len(data) < headerSize {
		return 0, 0, nil, false
	}
	var length, sum uint32
	if _, err := fmt.Sscanf(string(data[:headerSize]), slotHeader+slotSum, &written, &seq, &length, &sum); err != nil {
		return 0, 0, nil, false
	}
	if int64(length) > int64(len(data)-headerSize) {
		return 0, 0, nil, false
	}
	body = data[headerSize:][:length]
	return written, seq, body, bytes.HasPrefix(data, appendHead(make([]byte, 0, headerSize), written, seq, body))
}

// appendHead appends the header of a checkpoint to an empty buffer, with the checksum of header
// and body.
func appendHead(to []byte, written rune, seq uint64, body []byte) []byte {
	head := fmt.Appendf(to, slotHeader, written, seq, len(body))
	return fmt.Appendf(head, slotSum, crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, body))
}

// appendSlot appends a checkpoint with its header to an empty buffer.
func appendSlot(to []byte, seq uint64, body []byte) []byte {
	return append(appendHead(to, format, seq, body), body...)
}

// store makes body the newest checkpoint, durably if sync is set. After an error it is
// unknown whether it is, and the caller stores again. That writes the same slot, or a larger
// one, and never the one with the newest durable checkpoint.
func (s *slots) store(body []byte, sync bool) error {
	i := 0
	if s.newest >= 0 {
		i = s.newest ^ 1
	}
	for _, size := slotAt(i); int64(headerSize+len(body)) > size; _, size = slotAt(i) {
		if i = (i/2 + 1) * 2; i >= maxSlots {
			return fmt.Errorf("checkpoint of %d bytes is too large", len(body))
		}
	}
	s.Seq++ // also after an error: a checkpoint that was stored nevertheless must not win over the next one
	if err := s.write(i, s.Seq, body, sync); err != nil {
		return err
	}
	s.newest = i
	return nil
}

// Rewrite makes the newest checkpoint durable in the same slot. The previous process may have
// crashed between the write and its sync, so what is read may not be on the disk.
func (s *slots) Rewrite(body []byte) error {
	return s.write(s.newest, s.Seq, body, true)
}

func (s *slots) write(i int, seq uint64, body []byte, sync bool) error {
	offset, size := slotAt(i)
	if s.newest < 0 { // allocate both slots and fill them with zeros
		size *= 2
	}
	data := appendSlot(buffers.Get(int(size)), seq, body)
	defer buffers.Put(data)
	if s.newest < 0 {
		written := len(data)
		data = data[:size]
		clear(data[written:])
	}
	if _, err := s.f.WriteAt(data, offset); err != nil {
		return err
	}
	if sync {
		return s.f.Datasync()
	}
	return nil
}
