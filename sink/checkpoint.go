package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A checkpoint says what a file holds: up to which length it is whole and safe,
// and which records that is. It stands in <path>.checkpoint: a line with the
// version and a checksum, and a line of JSON.
type checkpoint struct {
	ID     string      `json:"id"`             // names it in committed metadata
	Group  string      `json:"group"`          // whose offsets these are
	File   *fileMark   `json:"file,omitempty"` // the one that grows; nil if there is none yet
	Done   *fileMark   `json:"done,omitempty"` // the segment before it, until its final name is safe
	Topics []topicMark `json:"topics,omitempty"`
}

// A fileMark names a file by what it holds. Its inode alone would not do: it
// changes when the file is restored or moved to another disk, and another file
// may get it.
type fileMark struct {
	Name        string      `json:"name"` // without folders
	Inode       uint64      `json:"inode"`
	Born        int64       `json:"born,omitempty"` // when it was made, in nanoseconds; 0 if unknown
	Length      int64       `json:"length"`
	Tail        uint32      `json:"tail"` // CRC-32C of the last tailSize bytes before Length
	Compression Compression `json:"compression"`
}

// A topicMark is how far a topic's partitions are in the file.
type topicMark struct {
	Topic    string          `json:"topic"`
	Identity Identity        `json:"identity,omitzero"`
	Next     map[int32]int64 `json:"next"` // the offset after the last record, by partition
}

const (
	checkpointSuffix = ".checkpoint"
	checkpointHeader = "kcagent checkpoint 1 crc32c %08x\n"
	// maxCheckpoint is far more than a million partitions need.
	maxCheckpoint = 64 << 20
	tailSize      = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *checkpoint) encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return sealed(append(body, '\n')), nil
}

// sealed is a body behind its header.
func sealed(body []byte) []byte {
	return append(fmt.Appendf(nil, checkpointHeader, crc32.Checksum(body, castagnoli)), body...)
}

// decodeCheckpoint never returns a checkpoint that encode did not write.
func decodeCheckpoint(data []byte) (*checkpoint, error) {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	var sum uint32
	if _, err := fmt.Sscanf(string(head)+"\n", checkpointHeader, &sum); !ok || err != nil {
		return nil, errors.New("it does not begin like a checkpoint")
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("its checksum does not fit its content")
	}
	c := new(checkpoint)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	return c, c.check()
}

func (c *checkpoint) check() error {
	for _, f := range []*fileMark{c.File, c.Done} {
		if f != nil && (f.Length < 0 || f.Name == "" || f.Name != filepath.Base(f.Name)) {
			return fmt.Errorf("it names file %q with %d bytes", f.Name, f.Length)
		}
	}
	if c.ID == "" {
		return errors.New("it has no id")
	}
	for _, t := range c.Topics {
		for p, next := range t.Next {
			if p < 0 || next < 0 {
				return fmt.Errorf("it has offset %d for %s/%d", next, t.Topic, p)
			}
		}
	}
	return nil
}

// loadCheckpoint reads the checkpoint of a path; nil if there is none.
func loadCheckpoint(fsys FS, path string) (*checkpoint, error) {
	at := path + checkpointSuffix
	f, err := fsys.OpenFile(at, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault("read", at, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault("read", at, err)
	}
	if info.Size() > maxCheckpoint {
		return nil, badCheckpoint(at, path, fmt.Errorf("it has %d bytes", info.Size()))
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data); err != nil {
		return nil, fault("read", at, err)
	}
	c, err := decodeCheckpoint(data)
	if err != nil {
		return nil, badCheckpoint(at, path, err)
	}
	return c, nil
}

// badCheckpoint says what to do: without the checkpoint nobody knows which
// records the file holds, so nothing is guessed.
func badCheckpoint(at, path string, err error) error {
	return fmt.Errorf("read %s: damaged: %w (restore it, or remove it and move %s away to begin a new file at the committed offsets)", at, err, path)
}

// store makes c the durable checkpoint of a path, or, if sync is false, one
// that survives the process alone. A crash leaves the old one or the new one,
// whole. On failure the old one stays, or it is unknown which of the two: then
// storing again makes it known.
func (c *checkpoint) store(fsys FS, path string, mode fs.FileMode, sync bool) error {
	data, err := c.encode()
	if err != nil {
		return fmt.Errorf("encode checkpoint of %s: %w", path, err)
	}
	at := path + checkpointSuffix
	tmp := at + ".tmp"
	if err := writeNew(fsys, tmp, data, mode, sync); err != nil {
		_ = fsys.Remove(tmp) // what is left of it may fill the disk
		return fault("write", tmp, err)
	}
	if err := fsys.Rename(tmp, at); err != nil {
		_ = fsys.Remove(tmp)
		return fault("write", at, err)
	}
	if !sync {
		return nil
	}
	if err := fsys.SyncDir(filepath.Dir(at)); err != nil {
		return fault("sync folder", filepath.Dir(at), err)
	}
	return nil
}

// writeNew writes a file anew.
func writeNew(fsys FS, path string, data []byte, mode fs.FileMode, sync bool) (err error) {
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := writeAll(f, data); err != nil {
		return err
	}
	if sync {
		return f.Datasync()
	}
	return nil
}

// tailOf is the checksum of what stands before length.
func tailOf(f io.ReaderAt, length int64) (uint32, error) {
	b := make([]byte, min(length, tailSize))
	if _, err := f.ReadAt(b, length-int64(len(b))); err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}

// is reports whether f is the file that m describes, perhaps with more at its
// end. It holds the same, or, if that is nothing yet, it is the same inode, and
// not a later file that got its number.
func (m *fileMark) is(f File) (bool, error) {
	if m == nil {
		return false, nil
	}
	info, err := f.Stat()
	if err != nil || info.Size() < m.Length {
		return false, err
	}
	if m.Length == 0 {
		return inode(info) == m.Inode && f.Born() == m.Born, nil
	}
	tail, err := tailOf(f, m.Length)
	return tail == m.Tail, err
}

// reserved reports whether a path could be one of those that a file sink keeps
// beside its file.
func reserved(path string) bool {
	for _, s := range []string{checkpointSuffix, checkpointSuffix + ".tmp", lockSuffix, nextSuffix} {
		if strings.HasSuffix(path, s) {
			return true
		}
	}
	return false
}
