package file

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/retention"
	"kcagent/sink/file/writer"
)

// TestClockStepsCompleteTheFile checks that a file is completed when its period has passed,
// also if the clock was set forward. If the clock was set back to before the period, the
// file is completed at once: otherwise it would grow until the clock has caught up.
func TestClockStepsCompleteTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		step          time.Duration
		completeFiles int
	}{
		"within the period": {40 * time.Minute, 0},
		"the next period":   {time.Hour, 1},
		"a day ahead":       {24 * time.Hour, 1},
		"a little back":     {-5 * time.Minute, 0},
		"an hour back":      {-time.Hour, 1},
		"a year back":       {-365 * 24 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
			s := openAt(t, clk, path, &sink.Rotate{Every: time.Hour})
			mustWrite(t, s, records(0, 0, 1))
			mustFlush(t, s)
			clk.add(c.step)
			mustFlush(t, s) // the flush timer causes one within a minute
			if n := len(completeFiles(t, path)); n != c.completeFiles {
				t.Errorf("%d complete files, want %d", n, c.completeFiles)
			}
			mustWrite(t, s, records(0, 1, 1))
			mustClose(t, s)
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, 2))
		})
	}
}

// TestNewRotationAppliesToTheGrowingFile checks that a period that is set later applies to a
// file with records.
func TestNewRotationAppliesToTheGrowingFile(t *testing.T) {
	path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
	s := openAt(t, clk, path, nil)
	mustWrite(t, s, records(0, 0, 1))
	mustFlush(t, s)
	spec := exactSpec(path)
	for i, every := range []time.Duration{time.Minute, time.Hour} {
		spec.File.Rotate = &sink.Rotate{Every: every}
		if err := s.Update(spec); err != nil {
			t.Fatal(err)
		}
		clk.add(every)
		mustFlush(t, s)
		if n := len(completeFiles(t, path)); n != i+1 {
			t.Errorf("%d complete files, want %d", n, i+1)
		}
		mustWrite(t, s, records(0, i+1, 1))
		mustFlush(t, s)
	}
	if at := s.(*fileSink).deadline(); !at.Equal(clk.now().Truncate(time.Hour).Add(time.Hour)) {
		t.Errorf("the next one is due at %v", at)
	}
	mustClose(t, s)
}

// TestFileExceedsItsSizeByOneRecordAtMost checks that a file exceeds rotate.size by less
// than its last record, for large chunks and for partitions that share the file. A
// compressed file exceeds it by less than its last frame.
func TestFileExceedsItsSizeByOneRecordAtMost(t *testing.T) {
	for _, c := range []sink.Compression{sink.Uncompressed, sink.Zstd} {
		for _, size := range []sink.Size{64, 1 << 10, 100 << 10} {
			t.Run(fmt.Sprintf("%s/%d", c, size), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out.log")
				spec := exactSpec(path)
				spec.File.Rotate, spec.File.Compression = &sink.Rotate{Size: size}, c
				s := mustOpen(t, spec, nil)
				total := 600 * int(size) / 64 / 10
				var at [2]int
				for at[0]+at[1] < total {
					for p := range at {
						limit, n := room(s, sink.TopicPartition{Topic: "orders", Partition: int32(p)}), 0
						if limit <= 0 || limit > 1<<20 {
							t.Fatalf("room is %d", limit)
						}
						for n = 1; n*len(value(0, 0)+"\n") < limit && n < 5000; n++ { // as the agent makes chunks
						}
						mustWrite(t, s, records(int32(p), at[p], n))
						at[p] += n
					}
				}
				mustClose(t, s)
				all := append(completeFiles(t, path), path)
				for _, p := range all {
					info, err := os.Stat(p)
					if os.IsNotExist(err) {
						continue
					}
					most := int64(size) + 9
					if c != sink.Uncompressed {
						most = int64(size) + writer.MinFrame + 64
					}
					if info.Size() > most {
						t.Errorf("%s has %d bytes, want at most %d", filepath.Base(p), info.Size(), most)
					}
				}
				if n := len(contents(t, all...)); n != at[0]+at[1] {
					t.Errorf("%d records, want %d", n, at[0]+at[1])
				}
			})
		}
	}
}

// TestDeletedFileIsCopiedBeforeCompletion checks that records that were accepted after
// another program deleted the file are in a new one, also if the file is to be completed
// before the next flush.
func TestDeletedFileIsCopiedBeforeCompletion(t *testing.T) {
	for _, why := range []string{"size", "compression"} {
		t.Run(why, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.log")
			spec := exactSpec(path)
			spec.File.Rotate = &sink.Rotate{Size: 100}
			s := mustOpen(t, spec, nil)
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, s, records(0, 3, 3))
			if why == "compression" {
				file := *spec.File
				file.Compression = sink.Gzip
				if err := s.Update(sink.Spec{File: &file}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 20 {
				mustWrite(t, s, records(0, 6+i, 1))
			}
			mustClose(t, s)
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 3, 23))
		})
	}
}

// TestRemovedConsumerCompletesItsFiles checks that, with rotate, a removed consumer leaves
// only complete files. An agent that stops does not complete them, because it will continue
// them.
func TestRemovedConsumerCompletesItsFiles(t *testing.T) {
	for _, end := range []bool{true, false} {
		for _, r := range []*sink.Rotate{nil, {Size: 1000}, {Every: time.Hour}} {
			t.Run(fmt.Sprintf("end=%v rotate=%v", end, r), func(t *testing.T) {
				dir := t.TempDir()
				s := openAt(t, newClock(), filepath.Join(dir, "{partition}.log"), r)
				for p := range int32(3) {
					resume(t, s, p)
					mustWrite(t, s, records(p, 0, 2))
				}
				if err := s.Close(end); err != nil {
					t.Fatal(err)
				}
				for p := range int32(3) {
					path := filepath.Join(dir, fmt.Sprintf("%d.log", p))
					wantComplete := 0
					if end && r != nil {
						wantComplete = 1
					}
					if n := len(completeFiles(t, path)); n != wantComplete {
						t.Errorf("%d complete files of %s, want %d", n, filepath.Base(path), wantComplete)
					}
					equal(t, contents(t, append(completeFiles(t, path), path)...), want(p, 0, 2))
				}
			})
		}
	}
}

// TestFilesAreCompletedWithoutAFlush checks that files are completed at the end of their
// period while the group has no generation, or while the file is parked.
func TestFilesAreCompletedWithoutAFlush(t *testing.T) {
	for _, park := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", park), func(t *testing.T) {
			path, clk := filepath.Join(t.TempDir(), "out.log"), newClock()
			s := openAt(t, clk, path, &sink.Rotate{Every: time.Hour})
			mustWrite(t, s, records(0, 0, 1))
			mustFlush(t, s)
			w := s.(*fileSink).single
			if park && !w.TryPark() {
				t.Fatal("not closed")
			}
			if at := s.(*fileSink).deadline(); !at.Equal(clk.now().Truncate(time.Hour).Add(time.Hour)) {
				t.Errorf("due at %v", at)
			}
			clk.add(time.Hour)
			s.(*fileSink).timer.Fire()
			runKeeper(s)
			if n := len(completeFiles(t, path)); n != 0 {
				t.Error("completed at once, want that a flush has some seconds for it")
			}
			clk.add(retention.DueGrace)
			runKeeper(s)
			if n := len(completeFiles(t, path)); n != 1 {
				t.Errorf("%d complete files, want 1", n)
			}
			mustWrite(t, s, records(0, 1, 1))
			mustClose(t, s)
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, 2))
		})
	}
}

// TestCompressedFileExceedsItsSizeByOneFrameAtMost checks that chunks of several partitions,
// each made for the room that was left, do not all go into one compressed file.
func TestCompressedFileExceedsItsSizeByOneFrameAtMost(t *testing.T) {
	const size, partitions = 300 << 10, 4
	path := filepath.Join(t.TempDir(), "out.log")
	spec := exactSpec(path)
	spec.File.Compression, spec.File.Rotate = sink.Zstd, &sink.Rotate{Size: size}
	s := mustOpen(t, spec, nil)
	random := rand.New(rand.NewPCG(1, 2))
	chunk := func(p int32, next int64) sink.Chunk { // of records of 1 KiB, as the agent makes it
		encoder := s.Encoder(sink.TopicPartition{Topic: "orders", Partition: p})
		c := sink.Chunk{TopicPartition: sink.TopicPartition{Topic: "orders", Partition: p}, Next: next}
		for limit := min(256<<10, room(s, c.TopicPartition)); len(c.Data) < limit; c.Next++ {
			value := make([]byte, 1<<10)
			for i := range value {
				value[i] = ' ' + byte(random.IntN('~'-' '))
			}
			c.Last = len(c.Data)
			c.Data = encoder.Append(c.Data, &sink.Record{Topic: "orders", Partition: p, Offset: c.Next, Value: value})
		}
		return c
	}
	var chunks [partitions]sink.Chunk
	for range 3 {
		for p := range chunks {
			chunks[p] = chunk(int32(p), chunks[p].Next)
		}
		for _, c := range chunks {
			if err := s.Write(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	done := completeFiles(t, path)
	for _, p := range done {
		if info, err := os.Stat(p); err != nil || info.Size() > size+2*writer.MinFrame {
			t.Errorf("%s has %d bytes, want about %d; %v", filepath.Base(p), info.Size(), size, err)
		}
	}
	if len(done) < 3 {
		t.Errorf("complete files are %q", done)
	}
}

// TestTruncationKeepsThePeriod checks that a file is completed in the period of its records,
// although truncating a torn end changes its modification time.
func TestTruncationKeepsThePeriod(t *testing.T) {
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprintf("torn=%v", torn), func(t *testing.T) {
			path, now := filepath.Join(t.TempDir(), "out.log"), time.Now()
			before := now.Add(-3 * time.Hour)
			s := openAt(t, &clock{t: before}, path, &sink.Rotate{Every: time.Hour})
			mustWrite(t, s, records(0, 0, 3))
			mustFlush(t, s)
			if torn {
				mustWrite(t, s, records(0, 3, 3))
			}
			abandon(t, s)
			if err := os.Chtimes(path, before, before); err != nil {
				t.Fatal(err)
			}
			s = openAt(t, &clock{t: now}, path, &sink.Rotate{Every: time.Hour})
			wantNext(t, s, 0, 3)
			mustFlush(t, s)
			if n := len(completeFiles(t, path)); n != 1 {
				t.Errorf("%d complete files, want 1", n)
			}
			mustClose(t, s)
			equal(t, contents(t, append(completeFiles(t, path), path)...), want(0, 0, 3))
		})
	}
}
