package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDemoFromStartToEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	code, out, stderr := kcagent(t, "demo", "--dir", dir, "--duration", "3s", "--listen", "127.0.0.1:0")
	if code != exitGood {
		t.Fatalf("exit %d, stderr\n%s", code, stderr)
	}
	for _, name := range []string{"orders.log", "payments.jsonl"} {
		path := filepath.Join(dir, "data", name)
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			t.Errorf("%s has no records: %v", name, err)
		}
		if want := fmt.Sprintf("%s: %d records", path, strings.Count(string(text), "\n")); !strings.Contains(out, want) {
			t.Errorf("not told: %s\n%s", want, out)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "data", "audit.log")); len(text) > 0 {
		t.Errorf("the paused consumer wrote %q, %v", text, err)
	}
	if strings.Contains(out, ":0/status") {
		t.Errorf("the user is sent to port 0:\n%s", out)
	}
	for _, name := range []string{"orders", "payments", "audit"} {
		if want := "consumer=" + name + " from=STOPPING to=TERMINATED"; !strings.Contains(stderr, want) {
			t.Errorf("not logged: %s\n%s", want, stderr)
		}
	}
}

func TestDemoWithAWrongFileOfTheUser(t *testing.T) {
	path := writeFile(t, bad)
	code, _, stderr := kcagent(t, "demo", "--dir", filepath.Dir(path), "--listen", "127.0.0.1:0")
	if code != exitUsage || !strings.Contains(stderr, path+":2:") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
	if text, err := os.ReadFile(path); string(text) != bad {
		t.Errorf("the user's file is now %q, %v", text, err)
	}
}

func TestDemoRefusals(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "demo")
	f := func(want int, args ...string) {
		t.Helper()
		code, out, stderr := kcagent(t, append([]string{"demo", "--dir", dir}, args...)...)
		if code != want || out != "" || !strings.Contains(stderr, args[0]) {
			t.Errorf("demo %v exits with %d, stdout %q, stderr %q", args, code, out, stderr)
		}
	}
	f(exitUsage, "--rate", "0")
	f(exitUsage, "--duration", "-1s")
	f(exitUsage, "--dir", "")
	f(exitFailure, "--listen", l.Addr().String())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}
