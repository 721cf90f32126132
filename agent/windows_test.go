package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/agent/consumer"
)

// TestRecordsGoToTheFileOfTheirTime: each record is in the file of its time, once. That includes late
// records, and records that are read again after a crash between a flush and its commit. A reset by
// an operator writes records again.
func TestRecordsGoToTheFileOfTheirTime(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "{topic}", "{time:2006-01-02}", "{partition}-{time:15}.log")
	begin := time.Date(2026, 3, 9, 22, 59, 0, 0, time.UTC) // 23:59 in Berlin
	hours := []string{"2026-03-09/0-23.log", "2026-03-10/0-00.log", "2026-03-10/0-01.log"}
	want := make(map[string][]string)
	next := 0
	fileOf := func(offset int) int {
		if offset%7 == 3 {
			return 0 // a late record
		}
		return min(offset/20, 2)
	}
	produce := func(n int) {
		var recs []*kgo.Record
		for range n {
			hour := fileOf(next)
			value := fmt.Sprintf("v%03d", next)
			recs = append(recs, &kgo.Record{Topic: "t", Value: []byte(value), Timestamp: begin.Add(time.Duration(hour) * time.Hour)})
			want[hours[hour]] = append(want[hours[hour]], value)
			next++
		}
		if err := r.client.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for _, name := range hours {
			if got := lines(filepath.Join(dir, "t", name)); !slices.Equal(got, want[name]) {
				t.Errorf("%s holds %q, want %q", name, got, want[name])
			}
		}
	}
	spec := ", flush: {interval: 20ms}, sink: {file: {path: '" + path + "', time_zone: Europe/Berlin}}"
	produce(100)
	r.edit(spec)
	r.wantCommitted(0, 100)
	check()
	stop := ", state: stopped" + spec
	r.edit(stop)
	r.wantStatus(consumer.Created)
	_, metadata := r.commitOf(0)
	if !strings.Contains(metadata, "lineage=") || strings.Contains(metadata, "ledger=") {
		t.Errorf("committed with %q", metadata)
	}
	r.commitExternally(0, 37, metadata) // as if the agent had crashed before the last commits
	produce(30)
	r.edit(spec)
	r.wantCommitted(0, 130)
	check()
	r.edit(stop)
	r.wantStatus(consumer.Created)
	r.commitExternally(0, 128, "")
	r.edit(spec)
	for offset := 128; offset < 130; offset++ {
		name := hours[fileOf(offset)]
		want[name] = append(want[name], fmt.Sprintf("v%03d", offset))
	}
	r.eventually("the records after the reset", func() (bool, any) {
		got := lines(filepath.Join(dir, "t", hours[2]))
		return slices.Equal(got, want[hours[2]]), got
	})
	r.wantCommitted(0, 130)
	check()
}
