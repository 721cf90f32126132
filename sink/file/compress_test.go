package file

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk/disktest"
)

// TestStandardToolsReadCompressedFiles checks that gzip and zstd read the files, also after
// a crash of the process.
func TestStandardToolsReadCompressedFiles(t *testing.T) {
	for c, tool := range map[sink.Compression]string{sink.Gzip: "gzip", sink.Zstd: "zstd"} {
		t.Run(tool, func(t *testing.T) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skip(err)
			}
			path := filepath.Join(t.TempDir(), "out.log")
			spec := exactSpec(path)
			spec.File.Compression = c
			s := mustOpen(t, spec, nil)
			n := 0
			for i := range 50 {
				mustWrite(t, s, records(0, n, 1+i*i))
				n += 1 + i*i
				if i%10 == 5 {
					mustFlush(t, s)
				}
				if readFile(t, path) == "" {
					continue
				}
				out, err := exec.Command("sh", "-c", tool+" -dc < "+path).Output() // a growing file has whole records only
				if err != nil {
					t.Fatal(err)
				}
				got := values(t, sink.Raw, string(out))
				equal(t, got, want(0, 0, len(got)))
			}
			mustFlush(t, s)
			abandon(t, s)
			out, err := exec.Command("sh", "-c", tool+" -dc < "+path).Output()
			if err != nil {
				t.Fatal(err)
			}
			equal(t, values(t, sink.Raw, string(out)), want(0, 0, n))
			if info, _ := os.Stat(path); info.Size() > int64(len(out))/3 {
				t.Errorf("%d bytes of %d", info.Size(), len(out))
			}
		})
	}
}

// TestTornFrameIsTruncated checks that the last whole frame or member is found without a
// checkpoint, wherever the file is torn, and that records that begin like a frame are not
// taken for one.
func TestTornFrameIsTruncated(t *testing.T) {
	for _, c := range []sink.Compression{sink.Gzip, sink.Zstd} {
		t.Run(string(c), func(t *testing.T) {
			var data []byte
			var ends []int
			for i := range 4 {
				data = compress.AppendFrame(c, data, []byte(lines(want(0, i*50, 50))))
				ends = append(ends, len(data))
			}
			path := filepath.Join(t.TempDir(), "out.log")
			for n := range data {
				if err := os.WriteFile(path, data[:n], 0o600); err != nil {
					t.Fatal(err)
				}
				spec := fileSpec(path)
				spec.File.Compression = c
				s := mustOpen(t, spec, nil)
				whole := 0
				for _, e := range ends {
					if e <= n {
						whole += 50
					}
				}
				mustWrite(t, s, records(0, whole, 1))
				mustClose(t, s)
				equal(t, contents(t, path), want(0, 0, whole+1))
			}
			path = filepath.Join(t.TempDir(), "out.log")
			tricky := string(compress.AppendFrame(c, nil, []byte("a"))) + "\nrest\n"
			if err := os.WriteFile(path, []byte(tricky), 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, fileSpec(path), nil)
			mustWrite(t, s, records(0, 0, 1))
			mustClose(t, s)
			checkFile(t, path, tricky+lines(want(0, 0, 1)))
		})
	}
}

// TestBufferedRecordsSurviveAFullDisk checks that buffered records are accepted but not
// flushed, and survive a full disk.
func TestBufferedRecordsSurviveAFullDisk(t *testing.T) {
	path, fsys := filepath.Join(t.TempDir(), "out.log"), disktest.NewFaultFS()
	spec := exactSpec(path)
	spec.File.Compression = sink.Zstd
	s := mustOpen(t, spec, fsys)
	mustWrite(t, s, records(0, 0, 3))
	if n := len(readFile(t, path)); n != 0 {
		t.Errorf("%d bytes are in the file", n)
	}
	fsys.SetFault(fail(syscall.ENOSPC, "write out.log"))
	if err := s.Flush(t.Context(), false); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, sink.ErrReopen) {
		t.Fatalf("got %v", err)
	}
	fsys.SetFault(nil)
	mustWrite(t, s, records(0, 3, 3))
	if err := s.Flush(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	abandon(t, s)
	equal(t, contents(t, path), want(0, 0, 6))
}
