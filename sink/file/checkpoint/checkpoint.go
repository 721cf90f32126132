// Package checkpoint has the ledger of a file sink and its durable form, the checkpoint.
//
// A [Ledger] says which records the files of a path hold. A [Checkpoint] is a ledger at a
// moment, with the file to which it applies. [SideFile] stores checkpoints in
// <path>+checkpoint so that a crash leaves the former one or the new one, whole. Its lock keeps
// every other writer from the path.
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

	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
)

// A Checkpoint is the durable form of a ledger: which file holds it, up to which
// length the file is complete and safe, and which records that is.
type Checkpoint struct {
	Ledger   string        `json:"ledger"`   // names the ledger in commit metadata
	Consumer string        `json:"consumer"` // whose file it is
	Group    string        `json:"group"`    // whose offsets these are
	Delivery sink.Delivery `json:"delivery"` // under at_least_once only the files' identity is kept
	// Unsynced says that durability was none: after a power loss the files may
	// hold less than the checkpoint says.
	Unsynced bool       `json:"unsynced,omitempty"`
	File     *FileState `json:"file,omitempty"` // the one that grows; nil if there is none
	// Done is a complete file that may still have the path's name.
	Done *FileState `json:"done,omitempty"`
	// Completed is the time in the name of the newest complete file.
	Completed time.Time    `json:"completed,omitzero"`
	Topics    []TopicState `json:"topics,omitempty"`
}

// A FileState identifies a file: by inode and birth time, and, if it has another
// identity because it was restored from a copy, by what it holds.
type FileState struct {
	Inode       uint64           `json:"inode"`
	Born        int64            `json:"born,omitempty"` // birth time in nanoseconds since 1970; 0 if unknown
	Length      int64            `json:"length"`
	Tail        uint32           `json:"tail"` // CRC-32C of the last tailSize bytes before Length
	Compression sink.Compression `json:"compression"`
	// Final is the time in the name that a complete file is to get.
	Final time.Time `json:"final,omitzero"`
}

// A TopicState is how far the partitions of a topic are in the file.
type TopicState struct {
	Topic      string                   `json:"topic"`
	Identity   sink.Identity            `json:"identity,omitzero"`
	Partitions map[int32]PartitionState `json:"partitions"`
}

type PartitionState struct {
	Next    int64        `json:"next"` // the offset after the last record
	Lineage string       `json:"lineage,omitempty"`
	Epoch   leader.Epoch `json:"leader_epoch,omitzero"` // of the last record; absent if unknown
}

// tailBytes is how much of a file's end is checked: enough to tell two files
// apart, and one read.
const tailBytes = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode is the checkpoint as it is stored in a slot.
func (c *Checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append(body, '\n'), nil
}

// Decode never returns a checkpoint that encode did not write.
func Decode(body []byte) (*Checkpoint, error) {
	c := new(Checkpoint)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	return c, c.check()
}

func (c *Checkpoint) check() error {
	for _, f := range []*FileState{c.File, c.Done} {
		if f != nil && f.Length < 0 {
			return fmt.Errorf("it has a file of %d bytes", f.Length)
		}
	}
	if c.Ledger == "" {
		return errors.New("it has no id")
	}
	for _, t := range c.Topics {
		for p, at := range t.Partitions {
			if p < 0 || at.Next < -1 {
				return fmt.Errorf("it has offset %d for %s/%d", at.Next, t.Topic, p)
			}
		}
	}
	return nil
}

// DamagedError names the next step. Without the checkpoint it is unknown which
// records the file holds, so nothing is guessed.
func DamagedError(path string, err error) error {
	return fmt.Errorf("read %s: damaged: %w; restore it, or move it and %s away to begin a new file at the committed offsets",
		path+filename.CheckpointSuffix, err, filepath.Base(path))
}

// tailChecksum is the checksum of what stands before length.
func tailChecksum(f io.ReaderAt, length int64) (uint32, error) {
	b := make([]byte, min(length, tailBytes))
	if _, err := f.ReadAt(b, length-int64(len(b))); err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}

// NewFileState identifies an open file, made at born, up to a length.
func NewFileState(f disk.File, info fs.FileInfo, born, length int64, codec sink.Compression) (*FileState, error) {
	tail, err := tailChecksum(f, length)
	if err != nil {
		return nil, err
	}
	return &FileState{Inode: disk.Inode(info), Born: born, Length: length, Tail: tail, Compression: codec}, nil
}

// MatchesContent reports whether the file has at least the marked length, and the marked
// bytes before it.
func (m *FileState) MatchesContent(f disk.File, size int64) (bool, error) {
	if size < m.Length {
		return false, nil
	}
	tail, err := tailChecksum(f, m.Length)
	return err == nil && tail == m.Tail, err
}

// IsFile reports whether f is the marked file, whatever it holds now. Inode numbers
// are used again, so the birth time has to be the same, where it is known.
func (m *FileState) IsFile(f disk.File, info fs.FileInfo) bool {
	if disk.Inode(info) != m.Inode {
		return false
	}
	born := f.BirthTime()
	return born == m.Born || born == 0 || m.Born == 0
}
