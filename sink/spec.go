package sink

import (
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Spec says where a consumer's records go. Exactly one field is set.
type Spec struct {
	File   *FileSpec   `yaml:"file" doc:"Writes to a file on this host." default:"this or stdout is required"`
	Stdout *StdoutSpec `yaml:"stdout" doc:"Writes to the standard output of the agent." default:"this or file is required"`
}

// FileSpec describes a file sink. A normalised FileSpec (what config.Parse
// returns) has every field set, and {name} in Path already replaced;
// {topic} and {partition} stay and are replaced for each partition.
type FileSpec struct {
	Path        string      `yaml:"path" doc:"File to write. {name}, {topic} and {partition} are replaced, and missing folders are created. Two consumers cannot write the same file, and a file of one cannot be a folder of another. The file name cannot contain +, and is at most 230 bytes long. A tilde and $HOME are not expanded; ${HOME} is." default:"required" example:"'/data/{name}/{topic}-{partition}.jsonl'"`
	Format      Format      `yaml:"format" doc:"raw: the value and a newline. json: one envelope per line." example:"json"`
	Delivery    Delivery    `yaml:"delivery" doc:"exactly_once: the file holds each record once after any crash. at_least_once: a crash may repeat records; for file systems without locks or renames." example:"at_least_once"`
	Durability  Durability  `yaml:"durability" doc:"fsync: offsets are committed after fdatasync. none: after write, so a crash of the machine may lose records." example:"none"`
	Rotate      *Rotate     `yaml:"rotate" doc:"When a file is complete and a new one is started." default:"none" example:"{size: 256MiB, every: 1h, keep: 24}"`
	Compression Compression `yaml:"compression" doc:"How the file is compressed." example:"zstd"`
	Mode        Mode        `yaml:"mode" doc:"Permissions of a new file, octal." example:"'0600'"`
}

// Rotate says when a file is closed and a new one begun, and which old ones
// stay. A zero field is no limit.
type Rotate struct {
	Size    Size          `yaml:"size" doc:"A file is complete when it reaches this size, from 1KiB to 1024TiB. It may exceed the size by its last record; a compressed file by its last frame of at most 4 KiB." default:"no limit" example:"256MiB"`
	Every   time.Duration `yaml:"every" doc:"A file is complete at the end of each period, in UTC, from 1s to 366 days, also if its partition has no more records or is no longer assigned." default:"no limit" example:"1h"`
	Keep    int           `yaml:"keep" doc:"How many complete files of a path are kept, including those of partitions and topics that no longer exist; requires size or every." default:"all" example:"24"`
	KeepFor time.Duration `yaml:"keep_for" doc:"How long complete files are kept, from 1s to 100 years; requires size or every." default:"for ever" example:"168h"`
}

// StdoutSpec describes the standard output sink.
type StdoutSpec struct {
	Format Format `yaml:"format" doc:"json: one envelope per line. raw: the value and a newline." example:"raw"`
}

// Format is how a record becomes bytes.
type Format string

// The formats.
const (
	Raw  Format = "raw"
	JSON Format = "json"
)

// Values lists the legal formats, the default first.
func (Format) Values() []string { return []string{string(Raw), string(JSON)} }

// Delivery is what a crash may do to the records in the file.
type Delivery string

// The deliveries.
const (
	ExactlyOnce Delivery = "exactly_once"
	AtLeastOnce Delivery = "at_least_once"
)

// Values lists the legal deliveries.
func (Delivery) Values() []string { return []string{string(ExactlyOnce), string(AtLeastOnce)} }

// Durability is what must have happened to records before their offsets are
// committed.
type Durability string

// The durabilities.
const (
	Fsync Durability = "fsync"
	None  Durability = "none"
)

// Values lists the legal durabilities, the default first.
func (Durability) Values() []string { return []string{string(Fsync), string(None)} }

// Compression is how a file is compressed.
type Compression string

// The compressions.
const (
	Uncompressed Compression = "none"
	Gzip         Compression = "gzip"
	Zstd         Compression = "zstd"
)

// Values lists the legal compressions, the default first.
func (Compression) Values() []string {
	return []string{string(Uncompressed), string(Gzip), string(Zstd)}
}

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// UnmarshalText reads "512KiB", "8MiB", "1GiB", "10MB" or a plain number of
// bytes. Sizes are whole and not negative.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(d), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size: write bytes, or a whole number with KiB, MiB, GiB, KB, MB or GB", text)
	}
	*s = Size(n * unit)
	return nil
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	binary := sizeUnits[:4]
	for _, u := range slices.Backward(binary) {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Mode holds permission bits of a file.
type Mode fs.FileMode

// UnmarshalText reads an octal number such as 0640.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is no file mode: write octal permissions such as \"0640\"", text)
	}
	*m = Mode(n)
	return nil
}

// String writes the mode as UnmarshalText reads it.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText is String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
