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

// A trail is what a sink holds: the numbers of the records, in the order in
// which they stand there, by topic and partition.
type trail map[string][]int

func key(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// upTo counts: 0 to n-1.
func upTo(n int) []int { return seqRange(0, n) }

func seqRange(first, n int) []int {
	var seqs []int
	for i := first; i < n; i++ {
		seqs = append(seqs, i)
	}
	return seqs
}

func (tr trail) len() int {
	n := 0
	for _, seqs := range tr {
		n += len(seqs)
	}
	return n
}

// sorted puts the records in order, for files between which partitions moved.
func (tr trail) sorted() trail {
	for _, seqs := range tr {
		slices.Sort(seqs)
	}
	return tr
}

// next is the number after the highest of a partition.
func (tr trail) next(partition string) int {
	next := 0
	for _, seq := range tr[partition] {
		next = max(next, seq+1)
	}
	return next
}

// add takes one record's value, as kafkatest.Value makes it.
func (tr trail) add(value string) error {
	i := strings.LastIndexByte(value, '/')
	if i < 0 || len(value) != i+10 {
		return fmt.Errorf("%q is no record", value)
	}
	seq, err := strconv.Atoi(value[i+1:])
	if err != nil {
		return fmt.Errorf("%q is no record: %w", value, err)
	}
	tr[value[:i]] = append(tr[value[:i]], seq)
	return nil
}

// addLine takes a line in either format. Of an envelope all fields must fit
// the record, in a topic where a record's number is its offset.
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
		return fmt.Errorf("%q is no envelope: %w", line, err)
	}
	if want := string(kafkatest.Value(env.Topic, env.Partition, env.Offset)); env.Value != want || env.Key != nil {
		return fmt.Errorf("envelope %s: the value should be %s and the key null", line, want)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", env.Timestamp); err != nil || time.Since(at).Abs() > time.Hour {
		return fmt.Errorf("envelope %s: the timestamp should be RFC 3339 with milliseconds and about now", line)
	}
	return tr.add(env.Value)
}

// follow reads the trail in files, taken together. Every line must be a
// record.
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

// lines are the whole lines of a file, compressed or not; none if there is no
// file.
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
	return ls[:len(ls)-1] // what follows the last newline is being written
}

// unpack decompresses what is compressed.
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

// wantExact demands the records 0 to n-1 of each partition, each once and in
// order.
func (tr trail) wantExact(t *testing.T, topic string, partitions int32, n int) {
	t.Helper()
	for p := range partitions {
		tr.wantPrefix(t, key(topic, p))
		if got := len(tr[key(topic, p)]); got != n {
			t.Fatalf("%s: %d records, want %d", key(topic, p), got, n)
		}
	}
}

// wantSeqs demands that a partition's records are exactly these.
func (tr trail) wantSeqs(t *testing.T, partition string, want ...[]int) {
	t.Helper()
	if got, want := tr[partition], slices.Concat(want...); !slices.Equal(got, want) {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		t.Fatalf("%s: %d records, want %d; the first %d are as they should be, then %v", partition, len(got), len(want), i, got[i:min(len(got), i+5)])
	}
}

// wantPrefix demands that the records of one partition are those from 0 to any,
// each once and in order.
func (tr trail) wantPrefix(t *testing.T, partition string) {
	t.Helper()
	for i, seq := range tr[partition] {
		if seq != i {
			t.Fatalf("%s: record %d stands where record %d should", partition, seq, i)
		}
	}
}

// wantAllWithRepeats demands the records 0 to n-1 of each partition. Repeats are allowed,
// from any point on; going ahead over a record is not. It returns how many
// repeats there are.
func (tr trail) wantAllWithRepeats(t *testing.T, topic string, partitions int32, n int) (repeats int) {
	t.Helper()
	for p := range partitions {
		got, next := tr[key(topic, p)], 0
		for i, seq := range got {
			if seq > next || i > 0 && seq > got[i-1]+1 {
				t.Fatalf("%s: record %d follows %v: something is missing", key(topic, p), seq, got[max(0, i-3):i])
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
