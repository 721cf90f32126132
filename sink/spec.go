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
	File   *FileSpec   `yaml:"file" doc:"Write to a file on this host."`
	Stdout *StdoutSpec `yaml:"stdout" doc:"Write to the agent's standard output."`
}

// FileSpec describes a file sink. A normalised FileSpec (what config.Parse
// returns) has every field set, and {name} in Path already replaced;
// {topic} and {partition} stay and are replaced for each partition.
type FileSpec struct {
	Path        string      `yaml:"path" doc:"Where the records go. Placeholders: {name} {topic} {partition}. Parent folders are made."`
	Format      Format      `yaml:"format" doc:"raw: the value and a newline. json: one envelope a line."`
	Delivery    Delivery    `yaml:"delivery" doc:"What a crash may do to the file: nothing, or repeat records."`
	Durability  Durability  `yaml:"durability" doc:"fsync: offsets are committed after fdatasync. none: after write."`
	Rotate      *Rotate     `yaml:"rotate" doc:"When the file is closed and a new one begun."`
	Compression Compression `yaml:"compression" doc:"How the file is compressed."`
	Mode        Mode        `yaml:"mode" doc:"Permissions of a new file, octal."`
}

// Rotate says when a file is closed and a new one begun, and which old ones
// stay. A zero field is no limit.
type Rotate struct {
	Size    Size          `yaml:"size" doc:"Begin a new file at this size."`
	Every   time.Duration `yaml:"every" doc:"Begin a new file this often, aligned to the clock."`
	Keep    int           `yaml:"keep" doc:"How many old files stay."`
	KeepFor time.Duration `yaml:"keep_for" doc:"How long old files stay."`
}

// StdoutSpec describes the standard output sink.
type StdoutSpec struct {
	Format Format `yaml:"format" doc:"raw: the value and a newline. json: one envelope a line."`
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
