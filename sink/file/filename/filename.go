// Package filename has the names of the files of a file sink: how placeholders are replaced,
// which names the sink reserves for files beside a data file, and which paths could name the
// same file.
//
// It guarantees that no data file has the name of a file that a sink creates beside a data
// file, whatever the topics are called.
package filename

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"kcagent/sink"
)

// Every file that a file sink creates beside a data file has a plus sign in its name. The
// name of a data file has none: neither a topic nor the name of a consumer may contain one,
// and [CheckPath] rejects it in the configured part. So no data file can have the name of a
// checkpoint or of a complete file, whatever topics appear at run time. A folder may have a
// plus sign in its name, but not the name of such a file; [Check] rejects it once the topic
// is known.
const (
	plus             = "+"
	CheckpointSuffix = plus + "checkpoint"
	// timeFormat is the format of the time in the name of a complete file. It is UTC, so
	// that the names sort in the order in which the files were completed.
	timeFormat = "20060102T150405.000Z"
)

// Limits of the names of files.
const (
	maxNameBytes = 255 // bytes, on every common file system
	// maxSuffixBytes is by how much the name of a file beside a data file can be longer than
	// the name of the data file. The longest is that of a complete, compressed file.
	maxSuffixBytes = len(plus) + len(timeFormat) + len(".zst")
	// widestPartition stands for the partition with the longest number when a path is
	// checked before its partitions exist.
	widestPartition = "99999"
)

// An Error says why a path cannot be used for a data file.
type Error struct {
	Path  string
	Cause string
	Hint  string // the next step
}

// Error returns "use /data/a+b.log as a data file: cause; hint".
func (e *Error) Error() string {
	return fmt.Sprintf("use %s as a data file: %s; %s", e.Path, e.Cause, e.Hint)
}

// CheckPath returns an [*Error] if a path cannot be that of a file sink. {name} is already
// replaced, {topic} and {partition} are not. CheckPath finds what can be known before the
// first record. Nil topics stand for any topic, and only the rest of the path is checked.
func CheckPath(path string, topics []string) error {
	path = atTime(path, longest)
	base := path[strings.LastIndexByte(path, filepath.Separator)+1:]
	switch {
	case base == "" || base == "." || base == "..":
		return &Error{path, "the path names a folder, not a file", "add a file name such as {topic}-{partition}.log"}
	case strings.Contains(base, plus):
		return &Error{path, "a file name cannot contain +, which marks the files that kcagent keeps beside a data file", "remove the + from the file name"}
	}
	if topics == nil {
		topics = []string{"_"} // one of the shortest names
	}
	for _, filled := range fillTopics(path, topics) {
		if err := Check(strings.ReplaceAll(filled, partitionPlaceholder, widestPartition)); err != nil {
			return err
		}
	}
	return nil
}

// Check returns an [*Error] if a path without placeholders has an element that is too long,
// or a folder with the name of a file beside a data file.
func Check(path string) error {
	dir, base := filepath.Split(path)
	if len(base)+maxSuffixBytes > maxNameBytes {
		return &Error{
			path, fmt.Sprintf("the file name %s has %d bytes, more than the %d that leave room for the suffixes of the files beside it", base, len(base), maxNameBytes-maxSuffixBytes),
			"shorten it, for example with a folder for each topic: {topic}/{partition}.log",
		}
	}
	for name := range strings.SplitSeq(dir, string(filepath.Separator)) {
		if len(name) > maxNameBytes {
			return &Error{path, fmt.Sprintf("the folder name %s has %d bytes, more than %d", name, len(name), maxNameBytes), "shorten it"}
		}
		if reserved(name) {
			return &Error{path, "the folder name " + name + " is reserved for files that kcagent keeps beside a data file", "use another folder name"}
		}
	}
	return nil
}

// IsCheckpoint reports whether a path is that of a checkpoint, which holds no records.
func IsCheckpoint(path string) bool { return strings.HasSuffix(path, CheckpointSuffix) }

// reserved reports whether name could be that of a file that a sink creates beside a data
// file.
func reserved(name string) bool {
	if IsCheckpoint(name) {
		return true
	}
	_, _, complete := ParseComplete(name)
	return complete
}

// compressedExt is the extension of compressed files.
var compressedExt = map[sink.Compression]string{sink.Gzip: ".gz", sink.Zstd: ".zst"}

// isCompressedExt reports whether an extension is that of compressed files.
func isCompressedExt(ext string) bool {
	return ext == compressedExt[sink.Gzip] || ext == compressedExt[sink.Zstd]
}

// splitName splits the name of a data file where the name of a complete file has its time.
// It does not split off the extension of a compressed file: otherwise orders+T.gz would
// belong to orders as well as to orders.gz.
func splitName(base string) (before, ext string) {
	ext = filepath.Ext(base)
	if ext == base || isCompressedExt(ext) {
		ext = ""
	}
	return strings.TrimSuffix(base, ext), ext
}

// Complete returns the name of a file of path that was completed at a time and is compressed
// by c, such as orders+20261123T171500.000Z.log.gz. Each such name belongs to one path,
// which [ParseComplete] returns.
func Complete(path string, at time.Time, c sink.Compression) string {
	before, ext := splitName(filepath.Base(path))
	return before + plus + at.UTC().Format(timeFormat) + ext + compressedExt[c]
}

// ParseComplete is the reverse of [Complete]: it returns the name of the data file to which
// a complete file belongs, and the time in its name. It rejects names that Complete does not
// return.
func ParseComplete(name string) (base string, at time.Time, ok bool) {
	before, rest, found := strings.Cut(name, plus)
	if !found || len(rest) < len(timeFormat) {
		return "", time.Time{}, false
	}
	stamp, ext := rest[:len(timeFormat)], rest[len(timeFormat):]
	at, err := time.Parse(timeFormat, stamp)
	if err != nil || at.Format(timeFormat) != stamp { // Parse accepts a comma, too
		return "", time.Time{}, false
	}
	if end := filepath.Ext(ext); isCompressedExt(end) {
		ext = strings.TrimSuffix(ext, end)
	}
	base = before + ext
	switch b, e := splitName(base); {
	case base == "" || base == "." || base == ".." || strings.Contains(base, plus) || b != before || e != ext:
		return "", time.Time{}, false
	}
	return base, at, true
}
