package stdout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kcagent/sink"
	"kcagent/sink/sinkio"
	"kcagent/sink/sinktest"
)

func TestContract(t *testing.T) {
	for _, format := range []sink.Format{sink.Raw, sink.JSON} {
		t.Run(string(format), func(t *testing.T) {
			sinktest.TestContract(t, func(*testing.T) *sinktest.Target { return stdoutTarget(format) })
		})
	}
}

func stdoutTarget(format sink.Format) *sinktest.Target {
	p := new(pipe)
	out := &output{w: p, mu: sinkio.NewMutex()}
	spec := sink.Spec{Stdout: &sink.StdoutSpec{Format: format}}
	return &sinktest.Target{
		Spec: spec, Changed: spec, BadFormat: sink.Spec{Stdout: &sink.StdoutSpec{Format: "xml"}},
		Other: sink.Spec{File: &sink.FileSpec{Path: "x", Format: sink.Raw}},
		Open: func(_ context.Context, spec sink.Spec) (sink.Sink, error) {
			return newSink(*spec.Stdout, out)
		},
		SetFault: func(f func() error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fault = f
		},
		Values: func(t *testing.T) []string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return sinktest.Values(t, format, p.data.String())
		},
	}
}

// A pipe is the standard output, as its reader sees it.
type pipe struct {
	mu    sync.Mutex
	data  bytes.Buffer
	fault func() error
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return 0, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data.Write(b)
}

// TestStdoutChunksDoNotMix checks that chunks of several sinks do not mix, although each
// takes several writes.
func TestStdoutChunksDoNotMix(t *testing.T) {
	const sinks, n = 3, 50_000
	p := new(pipe)
	out := &output{w: p, mu: sinkio.NewMutex()}
	var wg sync.WaitGroup
	for i := range int32(sinks) {
		s, err := newSink(sink.StdoutSpec{Format: sink.Raw}, out)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := sinktest.Write(t.Context(), s, sinktest.Records(i, 0, n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := sinktest.Values(t, sink.Raw, p.data.String())
	if len(got) != sinks*n {
		t.Fatalf("%d records, want %d", len(got), sinks*n)
	}
	for i := range sinks {
		part := got[i*n : (i+1)*n]
		var p int32
		if _, err := fmt.Sscanf(part[0], "p%d-", &p); err != nil {
			t.Fatal(err)
		}
		sinktest.Equal(t, part, sinktest.Want(p, 0, n))
	}
}

// A leaky writer writes some bytes and fails, once.
type leaky struct {
	strings.Builder
	take int
}

func (l *leaky) Write(b []byte) (int, error) {
	if l.take >= 0 {
		n, err := l.Builder.Write(b[:l.take])
		l.take = -1
		if err == nil {
			err = syscall.ENOSPC
		}
		return n, err
	}
	return l.Builder.Write(b)
}

// TestStdoutRetryStartsANewLine checks that the retry after a torn line starts a new line.
func TestStdoutRetryStartsANewLine(t *testing.T) {
	w := &leaky{take: 3}
	s, err := newSink(sink.StdoutSpec{Format: sink.Raw}, &output{w: w, mu: sinkio.NewMutex()})
	if err != nil {
		t.Fatal(err)
	}
	if err := sinktest.Write(t.Context(), s, sinktest.Records(0, 0, 2)); !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "write stdout: no space left") {
		t.Fatalf("got %v", err)
	}
	if err := sinktest.Write(t.Context(), s, sinktest.Records(0, 0, 2)); err != nil {
		t.Fatal(err)
	}
	if got, want := w.String(), "p0-\n"+strings.Join(sinktest.Want(0, 0, 2), "\n")+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

const brokenPipe = "KCAGENT_TEST_BROKEN_PIPE"

// TestStdoutBrokenPipeIsAnError checks that a reader that has closed the pipe causes an
// error of this sink, and does not end the process. It runs a process with such a standard
// output.
func TestStdoutBrokenPipeIsAnError(t *testing.T) {
	if os.Getenv(brokenPipe) != "" {
		s, err := Open(sink.StdoutSpec{Format: sink.Raw})
		if err == nil {
			err = sinktest.Write(context.Background(), s, sinktest.Records(0, 0, 1))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(7)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	var stderr strings.Builder
	cmd := exec.Command(os.Args[0], "-test.run=^TestStdoutBrokenPipeIsAnError$")
	cmd.Env = append(os.Environ(), brokenPipe+"=1")
	cmd.Stdout, cmd.Stderr = w, &stderr
	err = cmd.Run()
	_ = w.Close()
	if cmd.ProcessState.ExitCode() != 7 || stderr.String() != "write stdout: broken pipe\n" {
		t.Errorf("%v, stderr %q", err, stderr.String())
	}
}

// TestStdoutIsShared checks that all sinks of the process use one stream and one mutex.
func TestStdoutIsShared(t *testing.T) {
	out := processOutput()
	if out != processOutput() || out.w == io.Writer(os.Stdout) {
		t.Error("the process has more than one output, or writes to descriptor 1 itself")
	}
}

// TestTornLargeRecordIsFollowedByANewLine checks that a large record of which only a part
// was written is followed by a line of its own.
func TestTornLargeRecordIsFollowedByANewLine(t *testing.T) {
	large := sinktest.Records(0, 0, 1)
	large[0].Value = bytes.Repeat([]byte("x"), 1<<20)
	w := &leaky{take: 3}
	s, err := newSink(sink.StdoutSpec{Format: sink.Raw}, &output{w: w, mu: sinkio.NewMutex()})
	if err != nil {
		t.Fatal(err)
	}
	if err := sinktest.WriteLarge(t.Context(), s, &large[0]); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	large[0].Value = []byte("p0-000000")
	if err := sinktest.WriteLarge(t.Context(), s, &large[0]); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); !strings.HasSuffix(got, "\np0-000000\n") || len(got) != 3+1+10 {
		t.Errorf("got %q", got)
	}
}
