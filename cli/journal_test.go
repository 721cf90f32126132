package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestJournalOfTheBinary: the log of the binary has the form of the journal if
// JOURNAL_STREAM names its stderr, and no other form or priority if the variable was
// inherited from a process with another stderr.
func TestJournalOfTheBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary")
	}
	binary := filepath.Join(t.TempDir(), "kcagent")
	if out, err := exec.Command("go", "build", "-o", binary, "kcagent").CombinedOutput(); err != nil {
		t.Fatalf("build kcagent: %v\n%s", err, out)
	}
	for name, tt := range map[string]struct {
		socket  bool // as systemd uses; else a pipe
		journal bool
		format  string
		prefix  string
	}{
		"a pipe":          {false, true, "text", `<6>level=INFO msg=`},
		"a socket":        {true, true, "text", `<6>level=INFO msg=`},
		"json":            {true, true, "json", `<6>{"level":"INFO","msg":`},
		"another stderr":  {true, false, "text", `time=`},
		"another as json": {true, false, "json", `{"time":`},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := streamPair(t, tt.socket)
			stream := streamID(t, theirs)
			if !tt.journal {
				stream = streamID(t, ours)
				if !tt.socket {
					t.Fatal("both ends of a pipe are one inode")
				}
			}
			cmd := exec.Command(binary, "run", "--config", writeFile(t, "consumers: []\n"), "--listen", "127.0.0.1:0", "--log-format", tt.format)
			cmd.Env = append(os.Environ(), "JOURNAL_STREAM="+stream)
			cmd.Stderr = theirs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			theirs.Close()
			kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			defer kill.Stop()
			n := 0
			for lines := bufio.NewScanner(ours); lines.Scan(); n++ {
				line := lines.Text()
				if !strings.HasPrefix(line, tt.prefix) {
					t.Errorf("line %q does not begin with %q", line, tt.prefix)
				}
				if strings.Contains(line, "configuration accepted") {
					_ = cmd.Process.Signal(syscall.SIGTERM)
				}
			}
			if err := cmd.Wait(); err != nil || n < 3 {
				t.Errorf("%v after %d lines", err, n)
			}
		})
	}
}

// streamPair returns the two ends of a stream: a socket pair, or a pipe.
func streamPair(t *testing.T, socket bool) (theirs, ours *os.File) {
	t.Helper()
	var err error
	if socket {
		var fds [2]int
		if fds, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err == nil {
			theirs, ours = os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
			syscall.CloseOnExec(fds[1])
		}
	} else {
		ours, theirs, err = os.Pipe()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close(); ours.Close() })
	return theirs, ours
}

// streamID is what systemd writes into JOURNAL_STREAM for f.
func streamID(t *testing.T, f *os.File) string {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
