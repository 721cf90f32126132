package sink

import (
	"reflect"
	"slices"
	"time"
)

// Spec says where a consumer's records go. Exactly one field is set.
type Spec struct {
	File    *FileSpec    `yaml:"file" doc:"Writes to a file on this host." default:"one kind is required"`
	Objects *ObjectsSpec `yaml:"objects" doc:"Writes objects to an object store: Amazon S3 and compatible stores, Google Cloud Storage, Azure Blob Storage, or a folder." default:"one kind is required"`
	Stdout  *StdoutSpec  `yaml:"stdout" doc:"Writes to the standard output of the agent." default:"one kind is required"`
}

// kindNames are the keys of the fields of Spec, in their order. Each status and each plan
// names the kind of every consumer, so they are read once.
var kindNames = func() (names []string) {
	for f := range reflect.TypeFor[Spec]().Fields() {
		names = append(names, f.Tag.Get("yaml"))
	}
	return names
}()

// KindNames lists the kinds of sink, as in the configuration.
func KindNames() []string { return slices.Clone(kindNames) }

// Kinds returns the names of the kinds that are set: one in a valid Spec.
func (s Spec) Kinds() (set []string) {
	v := reflect.ValueOf(s)
	for i, name := range kindNames {
		if !v.Field(i).IsNil() {
			set = append(set, name)
		}
	}
	return set
}

// Kind returns the name of the kind that is set, such as "file". It returns "" if none is
// set.
func (s Spec) Kind() string {
	if set := s.Kinds(); len(set) > 0 {
		return set[0]
	}
	return ""
}

// String returns a name of the sink for messages and for status, such as
// "file:/data/orders.log" or "objects:s3://lake/kafka".
func (s Spec) String() string {
	switch {
	case s.File != nil:
		return "file:" + s.File.Path
	case s.Objects != nil:
		return "objects:" + s.Objects.URL
	}
	return s.Kind()
}

// LocalPath returns the path on this host that the sink fills: that of its file, or its spool folder
// with a slash at the end. It returns "" for a sink without either.
func (s Spec) LocalPath() string {
	switch {
	case s.File != nil:
		return s.File.Path
	case s.Objects != nil:
		return s.Objects.SpoolFolder() + "/"
	}
	return ""
}

// FileSpec describes a file sink. In a normalised FileSpec, which config.Parse returns,
// every field is set, and {name} in Path is replaced. TimeZone is set if Path has a time. {topic}
// and {partition} are replaced for each partition, and {time:LAYOUT} for each record.
type FileSpec struct {
	Path        string      `yaml:"path" doc:"File to write. {name}, {topic}, {partition} and {time:LAYOUT} are replaced, and missing folders are created. LAYOUT formats the timestamp of the records as in Go, such as 2006/01/02/15, down to seconds. Two consumers cannot write the same file, and a file of one cannot be a folder of another. The file name cannot contain +, and is at most 230 bytes long. A tilde and $HOME are not expanded; ${HOME} is." default:"required" example:"'/data/{name}/{topic}-{partition}.jsonl'"`
	TimeZone    string      `yaml:"time_zone" doc:"Time zone of {time:LAYOUT}: UTC or a name of the IANA database." default:"UTC" example:"Europe/Berlin"`
	Format      Format      `yaml:"format" doc:"raw: the value and a newline. json: one envelope per line." example:"json"`
	Delivery    Delivery    `yaml:"delivery" doc:"exactly_once: the file holds each record once after any crash. at_least_once: a crash may repeat records; for file systems without locks or renames." example:"at_least_once"`
	Durability  Durability  `yaml:"durability" doc:"fsync: offsets are committed after fdatasync. none: after write, so a crash of the machine may lose records." example:"none"`
	Rotate      *Rotate     `yaml:"rotate" doc:"When a file is complete and a new one is started." default:"none" example:"{size: 256MiB, every: 1h, keep: 24}"`
	Compression Compression `yaml:"compression" doc:"How the file is compressed." example:"zstd"`
	Mode        Mode        `yaml:"mode" doc:"Permissions of a new file, octal, with or without quotes. The owner must be able to read and write it." example:"'0600'"`
}

// SetDefaults sets the mode that the file may leave out. An explicit zero replaces it, and
// is rejected.
func (f *FileSpec) SetDefaults() { f.Mode = 0o640 }

// Rotate says when a file is complete, and how long complete files are kept. A zero field is
// no limit.
type Rotate struct {
	Size    Size          `yaml:"size" doc:"A file is complete when it reaches this size, from 1KiB to 1024TiB. It may exceed the size by its last record; a compressed file by its last frame of at most 4 KiB." default:"no limit" example:"256MiB"`
	Every   time.Duration `yaml:"every" doc:"A file is complete at the end of each period, in UTC, from 1s to 366 days, also if its partition has no more records or is no longer assigned." default:"no limit" example:"1h"`
	Keep    int           `yaml:"keep" doc:"How many complete files of a path are kept, including those of partitions and topics that no longer exist; requires size or every." default:"all" example:"24"`
	KeepFor time.Duration `yaml:"keep_for" doc:"How long complete files are kept, from 1s to 100 years; requires size or every." default:"for ever" example:"168h"`
}

// InPeriod reports whether now is in the same period of Every as since. A time before that
// period is not: if the clock was set back, the file would otherwise grow until the clock
// has caught up.
func (r *Rotate) InPeriod(since, now time.Time) bool {
	start := since.UTC().Truncate(r.Every)
	return !now.Before(start) && now.Before(start.Add(r.Every))
}

// PeriodEnd returns the end of the period of Every that contains t.
func (r *Rotate) PeriodEnd(t time.Time) time.Time {
	return t.UTC().Truncate(r.Every).Add(r.Every)
}

// StdoutSpec describes a sink that writes to the standard output.
type StdoutSpec struct {
	Format Format `yaml:"format" doc:"json: one envelope per line. raw: the value and a newline." example:"raw"`
}

// Format is the encoding of a record.
type Format string

// The formats.
const (
	Raw  Format = "raw"
	JSON Format = "json"
)

// Values lists the legal formats, the default first.
func (Format) Values() []string { return []string{string(Raw), string(JSON)} }

// Delivery says whether a crash may repeat records in the file.
type Delivery string

// The delivery guarantees.
const (
	ExactlyOnce Delivery = "exactly_once"
	AtLeastOnce Delivery = "at_least_once"
)

// Values lists the legal deliveries, the default first.
func (Delivery) Values() []string { return []string{string(ExactlyOnce), string(AtLeastOnce)} }

// Durability says when records count as stored, so that their offsets are committed.
type Durability string

// The durabilities.
const (
	Fsync Durability = "fsync"
	None  Durability = "none"
)

// Values lists the legal durabilities, the default first.
func (Durability) Values() []string { return []string{string(Fsync), string(None)} }

// Compression is the compression of a file.
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
