package sink

import (
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
)

// TestStdoutBatchesStayWhole: batches of several sinks do not mix, though each
// takes several writes.
func TestStdoutBatchesStayWhole(t *testing.T) {
	const sinks, n = 3, 50_000
	p := new(pipe)
	out := &output{w: p, turn: newTurn()}
	var wg sync.WaitGroup
	for i := range int32(sinks) {
		s, err := newStdout(StdoutSpec{Format: Raw}, out)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := write(t.Context(), s, records(i, 0, n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := values(t, Raw, p.data.String())
	if len(got) != sinks*n {
		t.Fatalf("%d records, want %d", len(got), sinks*n)
	}
	for i := range sinks {
		part := got[i*n : (i+1)*n]
		var p int32
		if _, err := fmt.Sscanf(part[0], "p%d-", &p); err != nil {
			t.Fatal(err)
		}
		equal(t, part, want(p, 0, n))
	}
}

// A leaky writer takes some bytes and fails, once.
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

// TestStdoutTornLine: the retry after half a line begins a line of its own.
func TestStdoutTornLine(t *testing.T) {
	w := &leaky{take: 3}
	s, err := newStdout(StdoutSpec{Format: Raw}, &output{w: w, turn: newTurn()})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), s, records(0, 0, 2)); !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "write stdout: no space left") {
		t.Fatalf("got %v", err)
	}
	mustWrite(t, s, records(0, 0, 2))
	if got, want := w.String(), "p0-\n"+lines(want(0, 0, 2)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

const brokenPipe = "KCAGENT_TEST_BROKEN_PIPE"

// TestStdoutBrokenPipe: a reader that has gone is an error of this sink and not
// the end of the process. It needs a process with such a standard output.
func TestStdoutBrokenPipe(t *testing.T) {
	if os.Getenv(brokenPipe) != "" {
		s, err := Open(context.Background(), Spec{Stdout: &StdoutSpec{Format: Raw}}, Options{})
		if err == nil {
			err = write(context.Background(), s, records(0, 0, 1))
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
	cmd := exec.Command(os.Args[0], "-test.run=^TestStdoutBrokenPipe$")
	cmd.Env = append(os.Environ(), brokenPipe+"=1")
	cmd.Stdout, cmd.Stderr = w, &stderr
	err = cmd.Run()
	_ = w.Close()
	if cmd.ProcessState.ExitCode() != 7 || stderr.String() != "write stdout: broken pipe\n" {
		t.Errorf("%v, stderr %q", err, stderr.String())
	}
}

// TestStdoutIsShared: two sinks of the process use one stream and one turn.
func TestStdoutIsShared(t *testing.T) {
	out := processOutput()
	if out != processOutput() || out.w == io.Writer(os.Stdout) {
		t.Error("the process has more than one output, or writes to descriptor 1 itself")
	}
}
