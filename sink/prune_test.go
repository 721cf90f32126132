package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKeep: of the complete files those stay that keep and keep_for allow, and
// no other file is removed.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.log")
	now := time.Now().UTC()
	file := func(age time.Duration, format string) string {
		name := filepath.Join(dir, fmt.Sprintf(format, now.Add(-age).Format(timeFormat)))
		if err := os.WriteFile(name, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	strangers := []string{
		file(9*time.Hour, "out-%s.logx"), file(9*time.Hour, "out2-%s.log"), file(9*time.Hour, "out-%s"),
		file(9*time.Hour, "out-x%s.log"), file(9*time.Hour, "out-%s.log.bz2"),
	}
	veryOld, old, packed, young := file(5*time.Hour, "out-%s.log"), file(3*time.Hour, "out-%s.log"), file(time.Hour, "out-%s.log.gz"), file(time.Minute, "out-%s.log")
	spec := exactSpec(path)
	spec.File.Rotate = &Rotate{Size: 15, KeepFor: 4 * time.Hour}
	s := mustOpen(t, spec, nil)
	equal(t, complete(t, path), []string{old, packed, young}) // at the start
	spec.File.Rotate = &Rotate{Size: 15, Keep: 2}
	if err := s.Update(spec); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 0, 1))
	mustWrite(t, s, records(0, 1, 1))
	mustFlush(t, s)
	if got := complete(t, path); len(got) != 2 || got[0] != young {
		t.Errorf("after one more there are %q", got)
	}
	mustClose(t, s)
	for _, p := range strangers {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("%s was removed", p)
		}
	}
	if _, err := os.Stat(veryOld); err == nil {
		t.Errorf("%s stays", veryOld)
	}
}

// TestKeepForRings: an old file goes when its time comes, though nothing is
// written.
func TestKeepForRings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Rotate = &Rotate{Size: 15, KeepFor: time.Second}
	due := make(chan struct{}, 100)
	s, err := Open(t.Context(), spec, Options{Due: func() { due <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, records(0, 0, 1))
	mustWrite(t, s, records(0, 1, 1))
	mustFlush(t, s)
	if n := len(complete(t, path)); n != 1 {
		t.Fatalf("%d complete files, want 1", n)
	}
	<-due
	mustFlush(t, s)
	if n := len(complete(t, path)); n != 0 {
		t.Errorf("%d complete files, want none", n)
	}
	mustClose(t, s)
}
