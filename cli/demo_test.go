package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"kcagent/cli/command"
	"kcagent/cli/logging"
	"kcagent/demo"
	"kcagent/e2e/wait"
)

func TestDemoWritesRecordsAndReportsThem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	code, out, stderr := kcagent(t, "demo", "--dir", dir, "--duration", "3s", "--listen", "127.0.0.1:0")
	if code != command.Success {
		t.Fatalf("exit %d, stderr\n%s", code, stderr)
	}
	for _, name := range []string{"orders.log", "payments.jsonl"} {
		path := filepath.Join(dir, "data", name)
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			t.Errorf("%s has no records: %v", name, err)
		}
		if want := fmt.Sprintf("%s: %d records", path, strings.Count(string(text), "\n")); !strings.Contains(out, want) {
			t.Errorf("not printed: %s\n%s", want, out)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "data", "audit.log")); len(text) > 0 {
		t.Errorf("the paused consumer wrote %q, %v", text, err)
	}
	if strings.Contains(out, ":0/status") {
		t.Errorf("the printed address has port 0:\n%s", out)
	}
	for _, name := range []string{"orders", "payments", "audit"} {
		if want := "consumer=" + name + " from=STOPPING to=TERMINATED"; !strings.Contains(stderr, want) {
			t.Errorf("not logged: %s\n%s", want, stderr)
		}
	}
}

// A logBuffer can be read while the demo writes to it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startDemo runs a demo until the test ends and returns its log.
func startDemo(t *testing.T, dir string) *logBuffer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, ended := new(logBuffer), make(chan error, 1)
	l := logging.New(log, "info", false)
	go func() {
		ended <- runDemo(ctx, demo.Options{
			Dir: dir, Rate: demo.DefaultRate, Listen: "127.0.0.1:0", Stdout: new(logBuffer), Log: l.Logger,
		}, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v, log\n%s", err, log)
		}
	})
	return log
}

// TestReadmeShowsWhatTheDemoLogs makes the edits that the README describes, and expects
// the log lines that it shows.
func TestReadmeShowsWhatTheDemoLogs(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^(?:level=\w+ )?msg=.*$`).FindAllString(string(readme), -1)
	if len(shown) != 4 {
		t.Fatalf("the README shows %q", shown)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	path := filepath.Join(dir, "consumers.yaml")
	log := startDemo(t, dir)
	logged := func(line string) {
		t.Helper()
		pattern := strings.NewReplacer("…", ".*", "kcagent-demo", regexp.QuoteMeta(dir)).Replace(regexp.QuoteMeta(line))
		waitFor := regexp.MustCompile(`(?m)(^| )` + pattern + `$`)
		wait.For(t, wait.Timeout, line, func() error {
			if text := log.String(); !waitFor.MatchString(text) {
				return fmt.Errorf("the log is\n%s", text)
			}
			return nil
		})
	}
	logged(`msg="consumer state changed" consumer=audit from=STARTING to=PAUSED reason="state: paused; flushed and committed"`)
	for _, name := range []string{"orders", "payments"} {
		logged(`msg="partitions assigned" consumer=` + name + " …")
	}
	edit(t, path, "state: paused # write", "state: running # write")
	for _, line := range shown[:3] {
		logged(line)
	}
	wait.For(t, wait.Timeout, "audit.log to fill", func() error {
		if text, err := os.ReadFile(filepath.Join(dir, "data", "audit.log")); len(text) == 0 {
			return errors.Join(errors.New("it is empty"), err)
		}
		return nil
	})
	edit(t, path, "topics: [audit]", "topcs: [audit]")
	logged(shown[3])
	for _, name := range []string{"orders", "payments"} {
		if n := strings.Count(log.String(), `msg="partitions assigned" consumer=`+name+" "); n != 1 {
			t.Errorf("%s was assigned its partitions %d times:\n%s", name, n, log)
		}
	}
}

// edit replaces a text that is in the file once.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), from) != 1 {
		t.Fatalf("%q is not in the file exactly once: %v\n%s", from, err, text)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDemoKeepsAnInvalidFileOfTheUser(t *testing.T) {
	path := writeFile(t, bad)
	code, _, stderr := kcagent(t, "demo", "--dir", filepath.Dir(path), "--listen", "127.0.0.1:0")
	if code != command.Usage || !strings.Contains(stderr, path+":2:") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
	if text, err := os.ReadFile(path); string(text) != bad {
		t.Errorf("the user's file is now %q, %v", text, err)
	}
}

// TestSecondDemoInAFolderNamesTheFirst, also if it could not listen on its port.
func TestSecondDemoInAFolderNamesTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	log := startDemo(t, dir)
	wait.For(t, wait.Timeout, "the first demo", func() error {
		if !strings.Contains(log.String(), `msg="partitions assigned"`) {
			return errors.New("no partition is assigned")
		}
		return nil
	})
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for _, listen := range []string{"127.0.0.1:0", used.Addr().String()} {
		code, out, stderr := kcagent(t, "demo", "--dir", dir, "--listen", listen)
		if want := fmt.Sprintf("run demo in %s: another demo runs there (pid %d, page http://127.0.0.1:", dir, os.Getpid()); code != command.Failure || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, stdout %q, stderr %s", code, out, stderr)
		}
	}
}

func TestDemoRejectsInvalidFlagsBeforeItWrites(t *testing.T) {
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
	f(command.Usage, "--rate", "0")
	f(command.Usage, "--rate", "1000001")
	f(command.Usage, "--duration", "-1s")
	f(command.Usage, "--dir", "")
	f(command.Failure, "--listen", l.Addr().String())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// TestReadmeShowsTheDemoWithObjects runs the commands of the README: objects appear while the demo runs,
// what remains is published at its end, and each record is in them once. The commands that the report
// names prove that.
func TestReadmeShowsTheDemoWithObjects(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for two rotations")
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^(?:go run \.|kcagent) ((?:demo --objects|verify file:)[^#]*?) *#`).FindAllStringSubmatch(string(readme), -1)
	if len(shown) != 2 {
		t.Fatalf("the README shows %q", shown)
	}
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields(shown[0][1]), "--duration", "7s", "--listen", "127.0.0.1:0")
	code, out, stderr := kcagent(t, args...)
	if code != command.Success {
		t.Fatalf("%v exits with %d, stderr\n%s", args, code, stderr)
	}
	verified := strings.ReplaceAll(shown[1][1], "$PWD", here)
	if !strings.HasSuffix(out, "Proof that no record is missing or repeated: kcagent "+verified+"\n") {
		t.Errorf("the last line does not name %s:\n%s", verified, out)
	}
	named := regexp.MustCompile(`(?m)^Read one: zcat (\S+\.gz) \| head -3$`).FindStringSubmatch(out)
	if named == nil {
		t.Fatalf("no object is named:\n%s", out)
	}
	if lines, err := exec.Command("zcat", named[1]).Output(); err != nil || !strings.HasPrefix(string(lines), `{"topic":"`) {
		t.Errorf("zcat %s: %v\n%s", named[1], err, lines)
	}
	for _, args := range [][]string{strings.Fields(verified), append(strings.Fields(verified), "--deep"), {"verify", "--deep", "--config", "objects-demo/consumers.yaml", "payments"}} {
		code, out, stderr := kcagent(t, args...)
		rows := regexp.MustCompile(`(?m)^ +(orders|payments) +\S+ +\d +0 +\d+ +(\d+) `).FindAllStringSubmatch(out, -1)
		if code != command.Success || len(rows) != 6 {
			t.Errorf("%v exits with %d\n%s%s", args, code, out, stderr)
		}
		for _, row := range rows {
			if row[2] == "1" {
				t.Errorf("nothing was published while the demo ran:\n%s", out)
			}
		}
	}
}
