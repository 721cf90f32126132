package filename

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/sink"
)

// oddNames are names of data files that a careless scheme would confuse.
var oddNames = []string{
	"orders", "orders.log", "orders.log.gz", "orders.gz", "orders.zst", "orders.gz.gz", "orders.gz.zst", "orders.log.zst",
	"orders.next", "orders.checkpoint", "orders.lock", "orders.checkpoint.tmp", "orders-20261123T171500.123Z.log",
	"orders.20261123T171500.123Z", "20261123T171500.123Z", "a", "a.", "a..", "a...", "...", ".gz", ".log", ".log.gz", "a.gz.", "a..gz", "a. gz",
	"-", "--", "_", "a-b.c-d", "a.GZ", "a.Zst", "ä.log", "a b", "{x}", strings.Repeat("t", 230), strings.Repeat("t.", 115), strings.Repeat("t", 226) + ".log",
}

var oddTimes = []time.Time{
	time.Date(2026, 11, 23, 17, 15, 0, 123e6, time.UTC),
	time.Date(2026, 11, 23, 17, 15, 0, 0, time.FixedZone("east", 3600)),
	time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
	time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
}

var everyCompression = []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}

// TestCompleteNameBelongsToOnePath checks that ParseComplete returns the name and the time
// of which Complete has made a name, so that no two paths share a complete file.
func TestCompleteNameBelongsToOnePath(t *testing.T) {
	owner := make(map[string]string)
	check := func(base string) {
		for _, at := range oddTimes {
			for _, c := range everyCompression {
				name := Complete("/data/"+base, at, c)
				if got, when, ok := ParseComplete(name); !ok || got != base || !when.Equal(at) {
					t.Errorf("%q completed at %s with %s is %q, which parses to %q, %s, %v", base, at, c, name, got, when, ok)
				}
				if o, taken := owner[name]; taken && o != base {
					t.Errorf("%q is a complete file of %q and of %q", name, base, o)
				}
				owner[name] = base
				if len(name) > len(base)+maxSuffixBytes {
					t.Errorf("%q is %d bytes longer than %q, more than maxSuffix", name, len(name)-len(base), base)
				}
			}
		}
	}
	for _, base := range oddNames {
		check(base)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		check(randomName(random))
	}
}

// randomName returns a legal name of parts that have a meaning elsewhere.
func randomName(r *rand.Rand) string {
	parts := []string{".", "..", "-", "_", "a", "Z", "0", ".gz", ".zst", ".log", ".next", ".checkpoint", "T", "20261123T171500.000Z"}
	for {
		var b strings.Builder
		for range 1 + r.IntN(5) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		if n := b.String(); n != "." && n != ".." {
			return n
		}
	}
}

// TestNoDataFileHasTheNameOfAFileBesideIt checks, for any legal topics, that the name of a
// data file is never that of a file which a sink creates beside this or another data file,
// and that CheckPath accepts it.
func TestNoDataFileHasTheNameOfAFileBesideIt(t *testing.T) {
	topics := slices.DeleteFunc(slices.Clone(oddNames), func(n string) bool {
		for _, c := range []byte(n) {
			if !anyTopic.contains(token(c)) {
				return true
			}
		}
		return false
	})
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		topics = append(topics, randomName(random))
	}
	data, beside := make(map[string]bool), make(map[string]bool)
	for _, path := range []string{"{topic}", "{topic}.log", "{topic}.gz", "{topic}-{partition}", "x{topic}.{partition}.log"} {
		if err := CheckPath("/data/"+path, nil); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, topic := range topics {
			full, err := Expand("/data/"+path, sink.TopicPartition{Topic: topic, Partition: 7})
			if err != nil {
				t.Fatal(err)
			}
			base := filepath.Base(full)
			data[base] = true
			for _, side := range []string{base + CheckpointSuffix} {
				beside[side] = true
			}
			for _, c := range everyCompression {
				beside[Complete(full, oddTimes[0], c)] = true
			}
		}
	}
	for name := range beside {
		if data[name] {
			t.Errorf("%s is a data file and a file beside one", name)
		}
		if !reserved(name) {
			t.Errorf("%s is not reserved, so that a folder could have its name", name)
		}
	}
	for name := range data {
		if reserved(name) {
			t.Errorf("%s is reserved", name)
		}
	}
}

// TestParseCompleteRejectsOtherNames checks that ParseComplete rejects names of other
// programs, because retention removes what it accepts.
func TestParseCompleteRejectsOtherNames(t *testing.T) {
	for _, name := range []string{
		"", "+", "orders", "orders.log", "orders+", "orders+checkpoint", "orders+checkpoint", "orders-20261123T171500.123Z.log",
		"+20261123T171500.123Z", "+20261123T171500.123Z.log", ".+20261123T171500.123Z", "..+20261123T171500.123Z",
		"orders+20261123T171500,123Z.log", "orders+20261123T171500.12Z.log", "orders+20261123T171500.1234Z.log", "orders+20261323T171500.123Z.log",
		"orders+20261123T171500.123Z.gz.gz", "orders+20261123T171500.123Zlog", "orders+20261123T171500.123Z.log.bak",
		"orders+20261123T171500.123Z.log+checkpoint", "orders+a+20261123T171500.123Z.log", "orders+20261123T171500.123Z+20261123T171500.123Z",
		"orders.log+20261123T171500.123Z", "orders.gz+20261123T171500.123Z.log.gz.zst",
	} {
		if base, _, ok := ParseComplete(name); ok {
			t.Errorf("%q is accepted as a complete file of %q", name, base)
		}
	}
}

func TestCheckPath(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	ok, wrong := "", func(cause string) string { return cause }
	f := func(path string, topics []string, want string) {
		t.Helper()
		err := CheckPath(path, topics)
		switch named := new(Error); {
		case want == ok && err != nil:
			t.Errorf("CheckPath(%.80q, %.20q): %v", path, topics, err)
		case want != ok && (!errors.As(err, &named) || !strings.Contains(named.Cause, want) || named.Hint == ""):
			t.Errorf("CheckPath(%.80q, %.20q) = %v, want %q and a hint", path, topics, err, want)
		}
	}
	f("/data/x.log", nil, ok)
	f("x", nil, ok)
	f("/data/{topic}-{partition}.log", nil, ok)
	f("/data/a+b.log", nil, wrong("cannot contain +"))
	f("/data/{topic}+{partition}.log", nil, wrong("cannot contain +"))
	f("/data/x.log+checkpoint", nil, wrong("cannot contain +"))
	f("/data/a+b/x.log", nil, ok)
	f("/data/c++/x.log", nil, ok)
	f("/data/x+checkpoint/y.log", nil, wrong("x+checkpoint is reserved"))
	f("/data/x.log+checkpoint/y.log", nil, wrong("x.log+checkpoint is reserved"))
	f("/data/x+20261123T171500.123Z.log.gz/y.log", nil, wrong("is reserved"))
	f("/data/x+{topic}/y.log", nil, ok)
	f("/data/x+{topic}/y.log", []string{"a", "checkpoint"}, wrong("x+checkpoint is reserved"))
	f("/data/{topic}+checkpoint/y.log", nil, wrong("+checkpoint is reserved"))
	f("/data/", nil, wrong("names a folder"))
	f("/data/.", nil, wrong("names a folder"))
	f("/data/..", nil, wrong("names a folder"))
	f("", nil, wrong("names a folder"))
	f("/data/"+long(230), nil, ok)
	f("/data/"+long(231), nil, wrong("231 bytes"))
	f("/data/"+long(115)+"ä.log", nil, ok)
	f("/data/"+strings.Repeat("ä", 115), nil, ok)
	f("/data/"+strings.Repeat("ä", 115)+"x", nil, wrong("231 bytes"))
	f("/"+long(255)+"/x.log", nil, ok)
	f("/"+long(256)+"/x.log", nil, wrong("256 bytes"))
	f("/data/{topic}", []string{"short", long(230)}, ok)
	f("/data/{topic}", []string{"short", long(231)}, wrong("231 bytes"))
	f("/data/{topic}/{partition}.log", []string{long(249)}, ok)
	f("/data/{topic}-{topic}", []string{long(115)}, wrong("231 bytes"))
	f("/data/{topic}", nil, ok)
	f("/data/{topic}"+long(229), nil, ok)
	f("/data/{topic}"+long(230), nil, wrong("231 bytes"))
	f("/data/{partition}"+long(225), nil, ok)
	f("/data/{partition}"+long(226), nil, wrong("231 bytes"))
	f("/data/{time:2006/01/02}.log", nil, ok)
	f("/data/{time:2006/01/02/}", nil, wrong("names a folder"))
	f("/data/{time:2006+01}.log", nil, wrong("cannot contain +"))
	f("/data/x{time:+checkpoint-2006}/{time:15}.log", nil, ok)
	f("/data/{time:2006-x+checkpoint}/y.log", nil, wrong("is reserved"))
	f("/data/{time:Monday-January}"+long(212), nil, wrong("231 bytes"))
	f("/data/{time:Monday-January}"+long(211), nil, ok)
	f("/{topic}-"+long(6)+"/x.log", []string{long(249)}, wrong("256 bytes"))
}

// TestCheckRejectsNamesKnownAtRunTime checks names with topics that the configuration does
// not contain.
func TestCheckRejectsNamesKnownAtRunTime(t *testing.T) {
	for path, want := range map[string]string{
		"/data/" + strings.Repeat("t", 249): "249 bytes",
		"/data/x+checkpoint/y":              "reserved",
		"/data/orders/0.log":                "",
	} {
		err := Check(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", path, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name the path", err)
		}
	}
}

func ExampleError() {
	fmt.Println(CheckPath("/data/a+b.log", nil))
	// Output: use /data/a+b.log as a data file: a file name cannot contain +, which marks the files that kcagent keeps beside a data file; remove the + from the file name
}
