package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// lateWriter makes TestDrainBeginsWithTheFirstFetch behave as a program that fetches all
// from this address long before it writes.
const lateWriter = "KCAGENT_BENCH_LATE_WRITER"

const lateBy = 300 * time.Millisecond

// TestDrainBeginsWithTheFirstFetch: reading ahead counts, and connecting does not.
func TestDrainBeginsWithTheFirstFetch(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports received bytes")
	}
	out := filepath.Join(t.TempDir(), "out")
	if address := os.Getenv(lateWriter); address != "" {
		writeLate(t, address)
		return
	}
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const size = 1_000_000
	go func() {
		if conn, err := server.Accept(); err == nil {
			time.Sleep(lateBy) // a slow join
			_, _ = conn.Write(make([]byte, size))
			_ = conn.Close()
		}
	}()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), lateWriter+"="+server.Addr().String(), lateWriter+"_FILE="+out)
	r := drain(t, program{cmd: cmd, broker: server.Addr().String(), out: out, want: size}, load{size: 1000, mb: 1})
	if r.fetch < lateBy.Seconds() || r.file-r.fetch < lateBy.Seconds() || r.mbPerSecond > 1/lateBy.Seconds() {
		t.Errorf("the first fetch was after %.3f s, the first byte in the file after %.3f s, and the rate %.1f MB/s", r.fetch, r.file, r.mbPerSecond)
	}
}

func writeLate(t *testing.T, address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(lateBy + 10*time.Millisecond)
	if err := os.WriteFile(os.Getenv(lateWriter+"_FILE"), all, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // until it is stopped
}

// TestPartOfAStack: the part of the innermost cause counts, not that of its callers.
func TestPartOfAStack(t *testing.T) {
	for stack, want := range map[string]string{
		"runtime.memmove<kcagent/sink/encode.raw.Append<kcagent/fetch/batch.(*Batch).each":          "encode and copy",
		"kcagent/fetch/batch.(*layout).locate<kcagent/fetch/batch.(*Batch).each":                    "parse",
		"hash/crc32.castagnoliSSE42Triple<kcagent/fetch/batch.check":                                "checksum",
		"syscall.Syscall<internal/poll.(*FD).Write<os.(*File).Write<kcagent/sink/sinkio.WriteAll":   "write to the file",
		"syscall.Syscall<internal/poll.(*FD).Read<net.(*conn).Read<kcagent/fetch/wire.(*Conn).read": "read from the socket",
		"runtime.futex<runtime.schedule<runtime.mcall":                                              "Go's scheduler and collector",
		"kcagent/fetch.(*Subscription).Poll":                                                        "other",
	} {
		if got := partOf(strings.Split(stack, "<")); got != want {
			t.Errorf("%s is %q, want %q", stack, got, want)
		}
	}
}

// TestRowsSayWhereTheyAreFrom: the facts are comments above the header.
func TestRowsSayWhereTheyAreFrom(t *testing.T) {
	t.Setenv("KCAGENT_BENCH_OUT", t.TempDir())
	t.Setenv("KCAGENT_BENCH_NOTE", "a test")
	r := newRows(t, "figures.csv", "a,b")
	r.add("%d,%s", 1, "x")
	text, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# commit: ", "# date: ", fmt.Sprintf("\n# cores: %d\n", runtime.NumCPU()), "\n# kafka: ", "\n# note: a test\na,b\n1,x\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// TestEachKindIsMeasuredOnce: a kind that appears twice would be one row of the page.
func TestEachKindIsMeasuredOnce(t *testing.T) {
	t.Setenv("KCAGENT_BENCH_ALL", "1")
	seen := make(map[string]bool)
	for _, s := range stages() {
		if seen[s.topic()] {
			t.Errorf("%s appears twice", s.topic())
		}
		seen[s.topic()] = true
	}
	if len(seen) < 13 {
		t.Errorf("only %d kinds are measured", len(seen))
	}
}
