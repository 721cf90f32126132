package objects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

// TestFullDisk: a chunk that does not fit is not accepted. All ranges of the consumer that have records
// become due, and once they are published there is space again.
func TestFullDisk(t *testing.T) {
	for _, codec := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		t.Run(string(codec), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 3, 30)
				w.spec.Compression = codec
				a := w.join(nil)
				a.mustWrite(0, 10)
				a.mustWrite(1, 10)
				a.fsys.SetRoom(20)
				err := a.write(0, 10)
				if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, sink.ErrReopen) || !strings.Contains(err.Error(), "free disk space") {
					t.Fatalf("write to a full disk: %v", err)
				}
				if a.due.Load() == 0 {
					t.Error("no flush was requested")
				}
				for range 3 {
					if err := a.flush(false); err != nil {
						t.Errorf("flush: %v", err)
					}
					synctest.Wait()
				}
				ext := map[sink.Compression]string{sink.Zstd: ".zst"}[codec]
				w.wantKeys(rangeKey(0, 0, 9)+ext, rangeKey(1, 0, 9)+ext)
				if n := a.sink.Objects().Spool; n != 0 {
					t.Errorf("%d bytes are in the spool", n)
				}
				if err := a.write(2, 10); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("write to a partition without records: %v", err)
				}
				a.fsys.SetRoom(-1)
				a.finish()
				w.exactlyOnce()
			})
		})
	}
}

// TestFullDiskClosesOneRangeAtATime: while an upload is behind, a full disk closes no further ranges.
func TestFullDiskClosesOneRangeAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 30)
		a := w.join(func(context.Context, storetest.Call) storetest.Fault {
			return storetest.Fault{Before: storetest.ErrFault}
		})
		a.mustWrite(0, 10)
		_ = a.flush(true)
		a.mustWrite(1, 10)
		a.fsys.SetRoom(0)
		for range 5 {
			if err := a.write(1, 10); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("write to a full disk: %v", err)
			}
		}
		if o := a.sink.Objects().Partitions[partitionOf(1)]; o.Closed != nil || o.Records != 10 {
			t.Errorf("partition 1 has %+v", o)
		}
	})
}

// TestLostSpool: records whose file is lost are read again. With an open plan, exactly the records of
// the plan are read.
func TestLostSpool(t *testing.T) {
	for _, when := range []string{"while it grows", "before the plan", "before the upload", "during the upload"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 2, 20)
				tp := partitionOf(0)
				var once sync.Once
				a := w.join(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
					if c.Op == storetest.Put && when == "during the upload" && strings.Contains(c.Key, "/0-") {
						once.Do(func() { truncateSpool(t, w.spec.Spool) })
					}
					return f
				})
				a.mustWrite(0, 10)
				a.mustWrite(1, 10)
				lose := func() {
					p := a.sink.(*objectsSink).partition(tp)
					p.ranges[0].objects[0].file.Remove()
				}
				switch when {
				case "while it grows":
					lose()
					if err := a.write(0, 5); !errors.Is(err, sink.ErrReopen) {
						t.Errorf("write: %v", err)
					}
				case "before the plan":
					_ = a.sink.Flush(t.Context(), true)
					lose()
					synctest.Wait()
					a.commit(tp)
				case "before the upload":
					_ = a.sink.Flush(t.Context(), true)
					synctest.Wait()
					lose()
					a.commit(tp)
				case "during the upload":
					_ = a.sink.Flush(t.Context(), true)
					synctest.Wait()
					a.commit(tp)
				}
				synctest.Wait()
				err := a.sink.Flush(t.Context(), false)
				if !errors.Is(sink.PartitionError(err, tp), sink.ErrReopen) || sink.PartitionError(err, partitionOf(1)) != nil {
					t.Errorf("flush: %v, want ErrReopen for partition 0", err)
				}
				if err := a.write(0, 5); !errors.Is(err, sink.ErrReopen) {
					t.Errorf("write: %v", err)
				}
				a.resume(tp)
				a.finish()
				w.exactlyOnce()
				if planned := when != "while it grows"; planned != slices.Contains(w.keys(), rangeKey(0, 0, 9)) {
					t.Errorf("the keys are %q", w.keys())
				}
			})
		})
	}
}

// truncateSpool truncates all files of a spool.
func truncateSpool(t *testing.T, root string) {
	files, err := filepath.Glob(filepath.Join(root, "*", "0*"))
	if err != nil || len(files) == 0 {
		t.Errorf("no files: %v", err)
	}
	for _, f := range files {
		if err := os.Truncate(f, 1); err != nil {
			t.Error(err)
		}
	}
}

// TestStoreThatHangs: a call without a response ends, and is repeated. Neither Write nor Flush waits
// for it, nor does another partition.
func TestStoreThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 10)
		var hung sync.Map
		a := w.join(func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
			if _, again := hung.LoadOrStore(c, true); !again && strings.Contains(c.Key, "/0-") {
				<-ctx.Done()
				f.Before = ctx.Err()
			}
			return f
		})
		a.mustWrite(0, 10)
		a.mustWrite(1, 10)
		began := time.Now()
		for range 3 {
			_ = a.flush(true)
			synctest.Wait()
		}
		if time.Since(began) != 0 {
			t.Errorf("a flush has waited for %s", time.Since(began))
		}
		w.wantKeys(rangeKey(1, 0, 9))
		time.Sleep(callTimeout)
		synctest.Wait()
		if err := a.sink.Flush(t.Context(), false); err == nil || !strings.Contains(err.Error(), "the store has not responded within 1m0s") {
			t.Errorf("flush: %v", err)
		}
		a.finish()
		w.exactlyOnce()
		if took := time.Since(began); took < 2*callTimeout || took > 2*callTimeout+2*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// TestDiskThatHangs: a write that hangs delays no other partition, and no flush.
func TestDiskThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 10)
		a := w.join(nil)
		a.mustWrite(0, 1)
		hanging, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		a.fsys.SetFault(func(op, _ string) error {
			if op == "write" {
				first := false
				once.Do(func() { first = true })
				if first {
					close(hanging)
					<-release
				}
			}
			return nil
		})
		written := make(chan error)
		go func() {
			tp := partitionOf(0)
			written <- a.sink.Write(t.Context(), sink.Chunk{TopicPartition: tp, Data: []byte("p0-000001\n"), Next: 2, Count: 1})
		}()
		<-hanging
		a.mustWrite(1, 10)
		for range 3 {
			if err := a.flush(true); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		w.wantKeys(rangeKey(1, 0, 9))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.sink.Write(ctx, sink.Chunk{TopicPartition: partitionOf(0), Data: []byte("x\n"), Next: 3, Count: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("a write that waits: %v", err)
		}
		close(release)
		if err := <-written; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		_ = a.flush(false) // the flush during the write has made the range due
		synctest.Wait()
		_ = a.flush(false)
		synctest.Wait()
		w.wantKeys(rangeKey(0, 0, 1), rangeKey(1, 0, 9))
	})
}

// TestLargeRecord: it is streamed into its object, in order. A pause leaves nothing of it.
func TestLargeRecord(t *testing.T) {
	for _, codec := range []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd} {
		t.Run(string(codec), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1, 3)
				w.spec.Compression, w.spec.Format = codec, sink.JSON
				tp := partitionOf(0)
				w.log[tp][1].Value = []byte("p0-000001 " + strings.Repeat("large", 200_000))
				a := w.join(nil)
				a.mustWrite(0, 1)
				paused := errors.New("paused")
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(paused)
				if err := sinktest.WriteLarge(ctx, a.sink, w.log[tp][1]); !errors.Is(err, paused) || errors.Is(err, sink.ErrReopen) {
					t.Errorf("a write that was paused: %v", err)
				}
				if err := sinktest.WriteLarge(t.Context(), a.sink, w.log[tp][1]); err != nil {
					t.Fatal(err)
				}
				a.next[tp]++
				a.mustWrite(0, 1)
				a.finish()
				w.exactlyOnce()
			})
		})
	}
}

// TestNoEmptyObjects: the first record of a window that is not accepted leaves no object.
func TestNoEmptyObjects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		w.spec.Key = "{topic}/{time:15}/{partition}-{first}"
		w.spec.Rotate.Every = 24 * time.Hour
		w.at(0, time.Hour)
		a := w.join(nil)
		a.mustWrite(0, 1)
		a.fsys.SetRoom(0)
		if err := a.write(0, 1); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		for range 3 {
			_ = a.flush(true)
			synctest.Wait()
		}
		w.wantKeys(fmt.Sprintf("orders/22/0-%020d", 0))
		if c := w.committed[partitionOf(0)]; c.Next != 1 {
			t.Errorf("the commit is %+v", c)
		}
	})
}

// TestUnusableSpoolIsReportedAtOpen: before the consumer joins its group.
func TestUnusableSpoolIsReportedAtOpen(t *testing.T) {
	w := newWorld(t, 0, 0)
	file := w.spec.Spool + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.spec.Spool = file
	if s, err := Open(t.Context(), w.spec, sink.Options{}, w.opener()); err == nil || s != nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}
