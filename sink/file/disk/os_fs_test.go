package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCloseReleasesTheLockDuringASync checks that Close releases the lock although a system
// call still uses the descriptor.
func TestCloseReleasesTheLockDuringASync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.log")
	open := func() *osFile {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		return &osFile{File: f}
	}
	first, second := open(), open()
	defer second.Close()
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	started, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- first.call("test", func(int) error {
			close(started)
			<-release
			return nil
		})
	}()
	<-started
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); err != nil {
		t.Error(err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
