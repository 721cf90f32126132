package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestManySyncsAtOnce checks that concurrent syncs all return, and that no file is left
// waiting.
func TestManySyncsAtOnce(t *testing.T) {
	dir := t.TempDir()
	files := make([]*osFile, 100)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = &osFile{File: f}
	}
	for _, n := range []int{1, 2, 5, 100} {
		var wg sync.WaitGroup
		for _, f := range files[:n] {
			wg.Go(func() {
				for range 20 {
					if _, err := f.Write([]byte("x")); err != nil {
						t.Error(err)
					}
					if err := f.Datasync(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	if s := files[0].syncer; s != nil {
		s.mu.Lock()
		if s.syncingAlone != 0 || len(s.waiting) != 0 { // a round may still be ending
			t.Errorf("%d files are being synced and %d wait, want none", s.syncingAlone, len(s.waiting))
		}
		s.mu.Unlock()
	}
	_ = files[0].File.Close()
	if err := files[0].Datasync(); err == nil {
		t.Error("a closed file was synced")
	}
}

// TestSlowFileSystemIsSyncedFileByFile checks that syncfs is not used for a while after it
// was slower than the files one by one, several times in a row.
func TestSlowFileSystemIsSyncedFileByFile(t *testing.T) {
	var s syncer
	s.usualSync = time.Millisecond
	for _, d := range []time.Duration{slowSyncfs, slowSyncfs, 0, slowSyncfs, slowSyncfs} {
		s.recordRound(d, 10)
		if !s.aloneUntil.IsZero() {
			t.Fatal("syncfs is not used too early")
		}
	}
	s.usualSync = slowSyncfs // the disk is slow for each file, too
	s.recordRound(slowSyncfs, 10)
	if !s.aloneUntil.IsZero() {
		t.Fatal("syncfs is not used, although single syncs are no faster")
	}
	s.usualSync = time.Millisecond
	for range maxSlowRounds {
		s.recordRound(slowSyncfs, 10)
	}
	if !time.Now().Before(s.aloneUntil) {
		t.Error("not given up")
	}
}
