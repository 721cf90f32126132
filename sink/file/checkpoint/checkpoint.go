// Package checkpoint has the ledger of a file sink and its durable form, the checkpoint.
//
// A [Ledger] says which records the files of a path hold. A [Checkpoint] is a ledger at a
// moment, with the file to which it applies. A [Store] keeps checkpoints in
// <path>+checkpoint, so that a crash leaves the previous one or the new one, whole. Its lock
// keeps every other writer from the path.
package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"kcagent/buffers"
	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
)

// A Checkpoint is the durable form of a ledger: it says which file holds the records, up to
// which length the file is durable, and which records are in front of that length.
type Checkpoint struct {
	Ledger   string        `json:"ledger"`   // the ID of the ledger
	Consumer string        `json:"consumer"` // the consumer that owns the file
	Group    string        `json:"group"`    // the consumer group of the offsets
	Delivery sink.Delivery `json:"delivery"` // under at_least_once only the identity of the files is used
	// Unsynced says that durability was none. After a power loss, the files may hold less
	// than the checkpoint says.
	Unsynced bool       `json:"unsynced,omitempty"`
	File     *FileState `json:"file,omitempty"` // the growing file; nil if there is none
	// Done is a complete file that may still have the name of the path.
	Done *FileState `json:"done,omitempty"`
	// Completed is the time in the name of the newest complete file.
	Completed time.Time    `json:"completed,omitzero"`
	Topics    []TopicState `json:"topics,omitempty"`
}

// A FileState identifies a file up to a length: by inode and birth time, and by its content
// if the file was restored from a copy.
type FileState struct {
	Inode       uint64           `json:"inode"`
	Born        int64            `json:"born,omitempty"` // birth time in nanoseconds since 1970; 0 if unknown
	Length      int64            `json:"length"`
	Tail        uint32           `json:"tail"` // CRC-32C of the last tailBytes bytes before Length
	Compression sink.Compression `json:"compression"`
	// Final is the time in the final name of a complete file.
	Final time.Time `json:"final,omitzero"`
}

// A TopicState is the positions of the partitions of a topic.
type TopicState struct {
	Topic      string                   `json:"topic"`
	Identity   sink.Identity            `json:"identity,omitzero"`
	Partitions map[int32]PartitionState `json:"partitions"`
}

// A PartitionState is the position of one partition.
type PartitionState struct {
	Next    int64        `json:"next"` // the offset after the last record
	Lineage string       `json:"lineage,omitempty"`
	Epoch   leader.Epoch `json:"leader_epoch,omitzero"` // of the last record; absent if unknown
}

// tailBytes is how much of the end of a file is compared. It is enough to tell two files
// apart, and takes one read.
const tailBytes = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the checkpoint in the form in which a slot stores it.
func (c *Checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append(body, '\n'), nil
}

// Decode decodes a checkpoint. It rejects what encode does not write.
func Decode(body []byte) (*Checkpoint, error) {
	c := new(Checkpoint)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check returns an error if a decoded checkpoint is not sound.
func (c *Checkpoint) check() error {
	for _, f := range []*FileState{c.File, c.Done} {
		if f != nil && f.Length < 0 {
			return fmt.Errorf("invalid file length %d", f.Length)
		}
	}
	if c.Ledger == "" {
		return errors.New("ledger has no ID")
	}
	for _, t := range c.Topics {
		for p, at := range t.Partitions {
			if p < 0 || at.Next < -1 {
				return fmt.Errorf("invalid offset %d of %s/%d", at.Next, t.Topic, p)
			}
		}
	}
	return nil
}

// DamagedError returns the error of a path whose checkpoint is damaged, with the next step.
// Without the checkpoint it is unknown which records the file holds, and the sink does not
// guess.
func DamagedError(path string, err error) error {
	return fmt.Errorf("read %s: checkpoint is damaged: %w; restore it, or move it and %s away to start a new file at the committed offsets",
		path+filename.CheckpointSuffix, err, filepath.Base(path))
}

// tailChecksum returns the checksum of the last bytes before length.
func tailChecksum(f io.ReaderAt, length int64) (uint32, error) {
	buffer := buffers.Get(tailBytes)
	defer buffers.Put(buffer)
	b := buffer[:min(length, tailBytes)]
	if _, err := f.ReadAt(b, length-int64(len(b))); err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}

// NewFileState returns the state of an open file, created at born, up to a length.
func NewFileState(f disk.File, info fs.FileInfo, born, length int64, codec sink.Compression) (*FileState, error) {
	tail, err := tailChecksum(f, length)
	if err != nil {
		return nil, err
	}
	return &FileState{Inode: disk.Inode(info), Born: born, Length: length, Tail: tail, Compression: codec}, nil
}

// MatchesContent reports whether the file, size bytes long, has at least the recorded
// length, and the recorded bytes before it.
func (m *FileState) MatchesContent(f disk.File, size int64) (bool, error) {
	if size < m.Length {
		return false, nil
	}
	tail, err := tailChecksum(f, m.Length)
	return err == nil && tail == m.Tail, err
}

// IsFile reports whether f is the recorded file, whatever it contains. File systems reuse
// inode numbers, so the birth time has to match, too, if it is known.
func (m *FileState) IsFile(f disk.File, info fs.FileInfo) bool {
	if disk.Inode(info) != m.Inode {
		return false
	}
	born := f.BirthTime()
	return born == m.Born || born == 0 || m.Born == 0
}
