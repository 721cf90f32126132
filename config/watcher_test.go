package config

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kcagent/config/filewatch"
)

const validFile = "consumers: [{name: a, brokers: ['a:1'], topics: [t], sink: {stdout: {}}}]\n"

// TestWatcherKeepsTheNewestUpdate: an update that was not received yet is replaced, and the
// watcher does not wait for its reader.
func TestWatcherKeepsTheNewestUpdate(t *testing.T) {
	w := NewWatcher("f", testEnv, filewatch.Options{})
	for _, sha := range []string{"B", "bad", "C"} {
		w.parse(filewatch.Content{Path: "f", Data: []byte(validFile), SHA256: sha})
	}
	if u := <-w.Updates(); u.SHA256 != "C" {
		t.Errorf("the update is %s, want the newest, C", u.SHA256)
	}
	select {
	case u := <-w.Updates():
		t.Errorf("an older update is left: %s", u.SHA256)
	default:
	}
}

// TestWatcherParsesEachEdit: an update has a configuration or problems, never both.
func TestWatcherParsesEachEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consumers.yaml")
	w := NewWatcher(path, testEnv, filewatch.Options{Events: true})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	defer running.Wait()
	defer cancel()

	want := func(what string, ok func(Update) bool) {
		t.Helper()
		select {
		case u := <-w.Updates():
			if (u.Config == nil) == (len(u.Problems) == 0) {
				t.Fatalf("neither or both of configuration and problems: %+v", u)
			}
			if text, _ := os.ReadFile(path); u.Path != path || u.At.IsZero() || u.Text != string(text) || !ok(u) {
				t.Errorf("%s gives %+v", what, u)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no update for %s", what)
		}
	}
	want("a missing file", func(u Update) bool {
		p := u.Problems[0]
		return u.SHA256 == "" && p.Message == "stat file: no such file or directory" && p.Hint != ""
	})
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	save(validFile)
	want("a valid file", func(u Update) bool { return len(u.Config.Consumers) == 1 && u.SHA256 != "" })
	save("consumers: [{}]\n")
	want("an invalid file", func(u Update) bool { return u.Problems[0].File == path && u.SHA256 != "" })
	save(validFile)
	want("the reverted edit", func(u Update) bool { return len(u.Config.Consumers) == 1 })
}

// TestLoadReportsWhyAFileCannotBeRead: the problem names the file and the next step.
func TestLoadReportsWhyAFileCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                        dir + ": read file: not a regular file",
		filepath.Join(dir, "none"): filepath.Join(dir, "none") + ": stat file: no such file or directory\n  hint: create the file, or correct the path; to run no consumers, write `consumers: []` into it",
	} {
		if _, _, problems := Load(path, testEnv); problems.Error() != want {
			t.Errorf("got %q, want %q", problems.Error(), want)
		}
	}
}
