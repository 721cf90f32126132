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

// Every file that a file sink makes beside a data file has a plus sign in its
// name. The name of a data file has none: neither a topic nor a consumer's name
// may contain one, and [CheckPath] rejects it in the configured part. So no data
// file, whatever topics appear at run time, has the name of another one's side
// file or complete file. A folder may have a plus sign in its name, but not such a
// name; checkName rejects names that are known only at run time.
const (
	plus             = "+"
	CheckpointSuffix = plus + "checkpoint"
	// timeFormat is that of the time in a complete file's name: UTC, so that the
	// names sort in the order in which the files were completed.
	timeFormat = "20060102T150405.000Z"
)

// Limits of the names of files.
const (
	maxNameBytes = 255 // bytes, on every common file system
	// maxSuffixBytes is how many bytes the name of a file beside a data file has more
	// than that of the data file, at most: those of a complete, compressed one.
	maxSuffixBytes = len(plus) + len(timeFormat) + len(".zst")
	// widestPartition is the partition with the longest number that is
	// considered before it exists.
	widestPartition = "99999"
)

// A Error says why a path cannot be that of a data file.
type Error struct {
	Path  string
	Cause string
	Hint  string // the next step
}

// Error is "use /data/a+b.log: cause; hint".
func (e *Error) Error() string {
	return fmt.Sprintf("use %s as a data file: %s; %s", e.Path, e.Cause, e.Hint)
}

// CheckPath returns a [*NameError] if a path cannot be that of a file sink, or
// nil. Placeholders of topics and partitions are not filled in yet, {name} is. It
// finds what can be known before the first record: nil topics stand for any
// topic, of which only the rest of the path is checked.
func CheckPath(path string, topics []string) error {
	base := path[strings.LastIndexByte(path, filepath.Separator)+1:]
	switch {
	case base == "" || base == "." || base == "..":
		return &Error{path, "the path names a folder, not a file", "add a file name such as {topic}-{partition}.log"}
	case strings.Contains(base, plus):
		return &Error{path, "a file name cannot contain +, which marks the files that kcagent keeps beside a data file", "remove the + from the file name"}
	}
	if topics == nil {
		topics = []string{"_"} // one of the shortest
	}
	for _, filled := range fillTopics(path, topics) {
		if err := Check(strings.ReplaceAll(filled, partitionPlaceholder, widestPartition)); err != nil {
			return err
		}
	}
	return nil
}

// Check returns a [*NameError] if a path whose placeholders are filled in has
// an element that is too long, or a folder that is named like a file beside a
// data file.
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

// reserved reports whether name could be that of a file that a sink makes beside
// a data file.
func reserved(name string) bool {
	if IsCheckpoint(name) {
		return true
	}
	_, _, complete := ParseComplete(name)
	return complete
}

// compressedExt are the extensions of compressed files.
var compressedExt = map[sink.Compression]string{sink.Gzip: ".gz", sink.Zstd: ".zst"}

// isCompressedExt reports whether an extension is that of compressed files.
func isCompressedExt(ext string) bool {
	return ext == compressedExt[sink.Gzip] || ext == compressedExt[sink.Zstd]
}

// splitName splits the name of a data file where a complete one has its time. An
// extension of a compressed file is not split off: else orders+T.gz would belong
// to orders as well as to orders.gz.
func splitName(base string) (before, ext string) {
	ext = filepath.Ext(base)
	if ext == base || isCompressedExt(ext) {
		ext = ""
	}
	return strings.TrimSuffix(base, ext), ext
}

// Complete is the name of a complete file of path that was completed at a
// time and is compressed by c: orders+20261123T171500.000Z.log.gz. Each such name
// belongs to one path, which [parseComplete] returns.
func Complete(path string, at time.Time, c sink.Compression) string {
	before, ext := splitName(filepath.Base(path))
	return before + plus + at.UTC().Format(timeFormat) + ext + compressedExt[c]
}

// ParseComplete is the reverse of completeName: base is the name of the data file
// to which the complete one belongs. It accepts no name that completeName does
// not return.
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
