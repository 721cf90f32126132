package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kcagent/agent/consumer"
)

// TestOldCheckpointDoesNotTruncateTheFile: an old checkpoint that was restored next to
// a newer file is an error that names it, and no committed record is removed. The consumer
// recovers when the right checkpoint is put back.
func TestOldCheckpointDoesNotTruncateTheFile(t *testing.T) {
	for name, pattern := range map[string]string{"one file": "out.log", "a file for each partition": "{topic}-{partition}.log"} {
		t.Run(name, func(t *testing.T) {
			r := newFileRig(t, 1)
			dir := t.TempDir()
			path := filepath.Join(dir, strings.NewReplacer("{topic}", "t", "{partition}", "0").Replace(pattern))
			spec := toFile(filepath.Join(dir, pattern))
			all := values("v", 0, 30, 0)
			fill := func(from, to int) {
				r.start()
				r.edit(spec)
				r.wantStatus(consumer.Running)
				r.produce(0, all[from:to]...)
				r.wantCommitted(0, int64(to))
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
			_ = r.stop()
			fill(0, 10)
			old := readAll(t, path+"+checkpoint")
			fill(10, 20)
			current := readAll(t, path+"+checkpoint")
			writeAll(t, path+"+checkpoint", old)

			r.start()
			r.edit(spec)
			r.eventually("the error", func() (bool, any) {
				c := r.consumer()
				return c.Status == consumer.Failing && c.LastError != nil && strings.Contains(*c.LastError, path+"+checkpoint is older"), c
			})
			if got := lines(path); !slices.Equal(got, all[:20]) {
				t.Errorf("the file contains %v, want all committed records", got)
			}
			_ = r.stop()
			writeAll(t, path+"+checkpoint", current)
			fill(20, 30)
			if got := lines(path); !slices.Equal(got, all) {
				t.Errorf("the file contains %v, want each record once", got)
			}
		})
	}
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeAll(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(fmt.Errorf("write: %w", err))
	}
}
