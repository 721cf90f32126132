package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/retention"
	"kcagent/sink/sinktest"
)

// BenchmarkFileWrite writes batches of 256 records of 200 bytes. An operation is one batch.
func BenchmarkFileWrite(b *testing.B) {
	for _, format := range []sink.Format{sink.Raw, sink.JSON} {
		for _, payload := range []string{"text", "json"} {
			b.Run(fmt.Sprintf("%s/%s", format, payload), func(b *testing.B) {
				spec := sink.Spec{File: &sink.FileSpec{Path: filepath.Join(b.TempDir(), "out.log"), Format: format, Durability: sink.None}}
				s, err := openWith(b.Context(), spec, testOptions{})
				if err != nil {
					b.Fatal(err)
				}
				recs := sinktest.Batch(256, sinktest.Payloads[payload])
				b.SetBytes(256 * 200)
				b.ReportAllocs()
				for b.Loop() {
					if err := write(b.Context(), s, recs); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(false); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// TestWriteAllocatesNothing checks that neither a record nor a batch allocates.
func TestWriteAllocatesNothing(t *testing.T) {
	for _, format := range []sink.Format{sink.Raw, sink.JSON} {
		spec := sink.Spec{File: &sink.FileSpec{Path: filepath.Join(t.TempDir(), "{topic}.log"), Format: format}}
		s := mustOpen(t, spec, nil)
		recs := sinktest.Batch(256, sinktest.Payloads["json"])
		tp := sink.TopicPartition{Topic: recs[0].Topic, Partition: recs[0].Partition}
		encoder := s.Encoder(tp)
		allocs := testing.AllocsPerRun(50, func() {
			if err := sinktest.WriteWith(t.Context(), s, tp, encoder, recs); err != nil {
				t.Fatal(err)
			}
		})
		if allocs >= 1 && !raceEnabled {
			t.Errorf("%s: %.0f allocations a batch", format, allocs)
		}
		mustClose(t, s)
	}
}

// BenchmarkRotateInFolder completes a file and flushes, which is what a commit waits for.
// The folder has many complete files, of which keep removes one each time.
func BenchmarkRotateInFolder(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) { benchmarkRotate(b, n) })
	}
}

func benchmarkRotate(b *testing.B, files int) {
	path, clk := filepath.Join(b.TempDir(), "out.log"), newClock()
	for i := range files {
		at := clk.now().Add(time.Duration(i-files) * time.Second)
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), filename.Complete(path, at, sink.Uncompressed)), sinktest.Payloads["text"], 0o600); err != nil {
			b.Fatal(err)
		}
	}
	spec := exactSpec(path)
	spec.File.Rotate = &sink.Rotate{Size: 100, Keep: files}
	s, err := openWith(b.Context(), spec, testOptions{Consumer: "c", Group: "g", Now: clk.now})
	if err != nil {
		b.Fatal(err)
	}
	clk.add(retention.ScanWithin)
	s.(*fileSink).keeper.RunOnce() // lists the folder
	recs, slowest := sinktest.Batch(2, sinktest.Payloads["text"]), time.Duration(0)
	for b.Loop() {
		clk.add(time.Second)
		recs[0].Offset, recs[1].Offset = recs[1].Offset+1, recs[1].Offset+2
		began := time.Now()
		if err := write(b.Context(), s, recs); err != nil {
			b.Fatal(err)
		}
		if err := s.Flush(b.Context(), false); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
	if err := s.Close(false); err != nil {
		b.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > files+10 {
		b.Errorf("%d files are left, want %d; %v", len(left), files, err)
	}
}
