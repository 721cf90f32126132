package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A trail holds the numbers of the records in files, in their order there, by topic and
// partition. The methods that begin with want compare it with what a test produced.
type trail map[string][]int

// key returns the key of a partition in a trail.
func key(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// upTo returns the numbers 0 to n-1.
func upTo(n int) []int { return seqRange(0, n) }

// seqRange returns the numbers first to end-1.
func seqRange(first, end int) []int {
	var seqs []int
	for i := first; i < end; i++ {
		seqs = append(seqs, i)
	}
	return seqs
}

// len returns the number of records.
func (tr trail) len() int {
	n := 0
	for _, seqs := range tr {
		n += len(seqs)
	}
	return n
}

// sorted sorts the records, for files of agents between which partitions moved.
func (tr trail) sorted() trail {
	for _, seqs := range tr {
		slices.Sort(seqs)
	}
	return tr
}

// next returns the number after the highest one of a partition.
func (tr trail) next(partition string) int {
	next := 0
	for _, seq := range tr[partition] {
		next = max(next, seq+1)
	}
	return next
}

// add adds a record by its value, which has the form of kafkatest.Value.
func (tr trail) add(value string) error {
	i := strings.LastIndexByte(value, '/')
	if i < 0 || len(value) != i+10 {
		return fmt.Errorf("%q is not a record", value)
	}
	seq, err := strconv.Atoi(value[i+1:])
	if err != nil {
		return fmt.Errorf("%q is not a record: %w", value, err)
	}
	tr[value[:i]] = append(tr[value[:i]], seq)
	return nil
}

// addLine adds a record by its line, raw or JSON. All fields of a JSON envelope must agree
// with the record, whose number must be its offset.
func (tr trail) addLine(line []byte) error {
	if len(line) == 0 || line[0] != '{' {
		return tr.add(string(line))
	}
	var env struct {
		Topic     string
		Partition int32
		Offset    int
		Timestamp string
		Key       *string
		Value     string
		Headers   []any
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&env); err != nil {
		return fmt.Errorf("%q is not an envelope: %w", line, err)
	}
	if want := string(kafkatest.Value(env.Topic, env.Partition, env.Offset)); env.Value != want || env.Key != nil {
		return fmt.Errorf("envelope %s: the value should be %s and the key null", line, want)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", env.Timestamp); err != nil || time.Since(at).Abs() > time.Hour {
		return fmt.Errorf("envelope %s: the timestamp should be RFC 3339 with milliseconds and about now", line)
	}
	return tr.add(env.Value)
}

// readTrail reads the records of files, taken together. Every line must be a record.
func readTrail(t *testing.T, paths ...string) trail {
	t.Helper()
	tr := make(trail)
	for _, path := range paths {
		for i, line := range lines(t, path) {
			if err := tr.addLine(line); err != nil {
				t.Fatalf("%s:%d: %v", path, i+1, err)
			}
		}
	}
	return tr
}

// lines returns the complete lines of a file, compressed or not, and none if the file does
// not exist.
func lines(t *testing.T, path string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if text, err = unpack(text); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	ls := bytes.Split(text, []byte("\n"))
	return ls[:len(ls)-1] // the agent is still writing what follows the last newline
}

// unpack decompresses data if they are compressed.
func unpack(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return data, nil
}

// waitLines waits until a file has at least n lines.
func waitLines(t *testing.T, path string, n int) {
	t.Helper()
	wait.For(t, wait.Timeout, fmt.Sprintf("%d lines in %s", n, path), func() error {
		if got := len(lines(t, path)); got < n {
			return fmt.Errorf("it has %d", got)
		}
		return nil
	})
}

// wantExact requires the records 0 to n-1 of each partition, each once and in order.
func (tr trail) wantExact(t *testing.T, topic string, partitions int32, n int) {
	t.Helper()
	for p := range partitions {
		tr.wantPrefix(t, key(topic, p))
		if got := len(tr[key(topic, p)]); got != n {
			t.Fatalf("%s: %d records, want %d", key(topic, p), got, n)
		}
	}
}

// wantSeqs requires exactly these records of a partition, in this order.
func (tr trail) wantSeqs(t *testing.T, partition string, want ...[]int) {
	t.Helper()
	if got, want := tr[partition], slices.Concat(want...); !slices.Equal(got, want) {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		t.Fatalf("%s: %d records, want %d; the first %d are correct, then follow %v", partition, len(got), len(want), i, got[i:min(len(got), i+5)])
	}
}

// wantPrefix requires that the records of a partition start at 0 and continue without a
// gap or a repetition, up to any number.
func (tr trail) wantPrefix(t *testing.T, partition string) {
	t.Helper()
	for i, seq := range tr[partition] {
		if seq != i {
			t.Fatalf("%s: found record %d, want record %d", partition, seq, i)
		}
	}
}

// wantAllWithRepeats requires the records 0 to n-1 of each partition. Records may be
// repeated from any point, but none may be missing before a later one. It returns the
// number of repeated records.
func (tr trail) wantAllWithRepeats(t *testing.T, topic string, partitions int32, n int) (repeats int) {
	t.Helper()
	for p := range partitions {
		got, next := tr[key(topic, p)], 0
		for i, seq := range got {
			if seq > next || i > 0 && seq > got[i-1]+1 {
				t.Fatalf("%s: record %d follows %v: a record is missing", key(topic, p), seq, got[max(0, i-3):i])
			}
			next = max(next, seq+1)
		}
		if next != n {
			t.Fatalf("%s: the last record is %d, want %d", key(topic, p), next-1, n-1)
		}
		repeats += len(got) - n
	}
	return repeats
}
