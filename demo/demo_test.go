package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/config"
	"kcagent/e2e/wait"
	"kcagent/sink/objects/folder"
	"kcagent/sink/objects/store"
)

func testOptions(t *testing.T, stdout io.Writer) Options {
	return Options{Dir: t.TempDir(), Listen: "127.0.0.1:8080", Stdout: stdout, Log: slog.New(slog.DiscardHandler)}
}

// brokerOf returns the broker that an agent finds in the file.
func brokerOf(path string) (string, error) {
	c, _, problems := config.Load(path, os.LookupEnv)
	if len(problems) > 0 {
		return "", problems
	}
	return c.Consumers[0].Cluster.Brokers[0], nil
}

func ping(addr string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait.Timeout)
	defer cancel()
	return client.Ping(ctx)
}

func TestBrokerOutlivesTheAgent(t *testing.T) {
	o := testOptions(t, io.Discard)
	o.Duration = time.Millisecond
	var addr string
	err := Run(t.Context(), o, func(ctx context.Context, path string) error {
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, errDurationOver) {
			t.Errorf("ended by %v", cause)
		}
		var err error
		if addr, err = brokerOf(path); err != nil {
			return err
		}
		return ping(addr)
	})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the broker is still there after the demo")
	}
}

func TestErrorOfTheAgentEndsTheDemo(t *testing.T) {
	problems := config.Problems{{Message: "bad"}}
	err := Run(t.Context(), testOptions(t, io.Discard), func(context.Context, string) error { return problems })
	var got config.Problems
	if !errors.As(err, &got) || got.Error() != problems.Error() {
		t.Errorf("error %v", err)
	}
}

func TestTwoDemosRunAtTheSameTime(t *testing.T) {
	err := Run(t.Context(), testOptions(t, io.Discard), func(_ context.Context, path string) error {
		first, err := brokerOf(path)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		return Run(t.Context(), testOptions(t, &out), func(_ context.Context, path string) error {
			second, err := brokerOf(path)
			if err != nil {
				return err
			}
			if second == first || !strings.Contains(out.String(), BrokerEnv+"="+second) {
				t.Errorf("brokers %s and %s, printed\n%s", first, second, out.String())
			}
			return ping(second)
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestInstructionsAndReportArePrinted(t *testing.T) {
	var out bytes.Buffer
	o := testOptions(t, &out)
	data := filepath.Join(o.Dir, dataDir)
	f := func(extra string, want ...string) {
		t.Helper()
		out.Reset()
		err := Run(t.Context(), o, func(context.Context, string) error { return write(data, extra) })
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("not printed: %s\n%s", w, out.String())
			}
		}
		instructions, _, _ := strings.Cut(out.String(), data+"/a.log:")
		if n := strings.Count(instructions, "\n"); n > 15 {
			t.Errorf("%d lines are printed:\n%s", n, instructions)
		}
		if strings.Contains(out.String(), "+checkpoint") {
			t.Errorf("a checkpoint is counted as data:\n%s", out.String())
		}
	}
	f("1\n2\n3\n", "kcagent top --url http://127.0.0.1:8080\n", "tail -f "+data+"/orders.log", "curl http://127.0.0.1:8080/status",
		filepath.Join(o.Dir, sampleName), data+"/a.log: 3 records")
	if first, second, _ := strings.Cut(out.String(), "\n"); first != "Page:  http://127.0.0.1:8080" || !strings.HasPrefix(second, "Edit:  "+filepath.Join(o.Dir, sampleName)) {
		t.Errorf("the page and the file do not come first:\n%s", out.String())
	}
	// The records of an earlier demo are moved, and not counted.
	f("4\n", sampleName+" exists", "records of an earlier demo were moved to "+data+"-1\n", data+"/a.log: 1 records")
	f("5\n6\n", "moved to "+data+"-2\n", data+"/a.log: 2 records")
	if text, err := os.ReadFile(filepath.Join(data+"-1", "a.log")); string(text) != "1\n2\n3\n" {
		t.Errorf("the records of the first demo are %q, %v", text, err)
	}
}

// TestOneDemoUsesAFolder: another one reports the page of the first, and changes nothing.
func TestOneDemoUsesAFolder(t *testing.T) {
	o := testOptions(t, io.Discard)
	if err := CheckFolder(filepath.Join(o.Dir, "none")); err != nil {
		t.Error(err)
	}
	data := filepath.Join(o.Dir, dataDir)
	err := Run(t.Context(), o, func(context.Context, string) error {
		if err := write(data, "1\n"); err != nil {
			return err
		}
		second := o
		second.Listen = "127.0.0.1:1"
		for what, err := range map[string]error{
			"check": CheckFolder(o.Dir),
			"run":   Run(t.Context(), second, func(context.Context, string) error { return errors.New("the second one runs") }),
		} {
			want := fmt.Sprintf("another demo runs there (pid %d, page http://127.0.0.1:8080); end it, or choose another folder with --dir", os.Getpid())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", what, err, want)
			}
		}
		_, err := os.Stat(filepath.Join(data, "a.log"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckFolder(o.Dir); err != nil {
		t.Errorf("after the end of the demo: %v", err)
	}
}

func TestReportNamesTheProof(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"payments.jsonl": "{}\n{}\n", "orders+20261127T180000.000Z.log.gz": "\x1f\x8b\n\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := report(&out, dir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/payments.jsonl: 2 records", ".log.gz: compressed\n", "kcagent verify " + dir + "/payments*.jsonl\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not printed:\n%s", want, out.String())
		}
	}
	if err := report(io.Discard, filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

// TestObjectsAreReported: how many there are, the newest ones, how to read one, and the proof. Objects of
// an earlier demo are moved to another folder.
func TestObjectsAreReported(t *testing.T) {
	var out bytes.Buffer
	o := testOptions(t, &out)
	o.Objects = true
	dir := filepath.Join(o.Dir, objectsDir)
	agent := func(_ context.Context, path string) error {
		c, _, problems := config.Load(path, os.LookupEnv)
		if len(problems) > 0 {
			return problems
		}
		s, err := folder.Open(t.Context(), c.Consumers[0].Sink.Objects)
		if err != nil {
			return err
		}
		for i := range 5 {
			key := fmt.Sprintf("orders/%d.jsonl.gz", i)
			if err := s.Put(t.Context(), key, strings.NewReader("abc"), 3, store.Attributes{}); err != nil {
				return err
			}
			at := time.Now().Add(time.Duration(i) * time.Hour)
			if err := os.Chtimes(filepath.Join(dir, key), at, at); err != nil {
				return err
			}
		}
		return nil
	}
	for _, again := range []bool{false, true} {
		out.Reset()
		if err := Run(t.Context(), o, agent); err != nil {
			t.Fatal(err)
		}
		want := dir + ": 5 objects with 15 bytes, the newest ones:\n" +
			"  " + dir + "/orders/4.jsonl.gz\n  " + dir + "/orders/3.jsonl.gz\n  " + dir + "/orders/2.jsonl.gz\n" +
			"Read one: zcat " + dir + "/orders/4.jsonl.gz | head -3\n" +
			"Proof that no record is missing or repeated: kcagent verify file://" + dir + "\n"
		if !strings.HasSuffix(out.String(), want) || !strings.Contains(out.String(), "find "+dir+" -name '*.gz'") {
			t.Errorf("not printed: %s\n%s", want, out.String())
		}
		if moved := strings.Contains(out.String(), "an earlier demo were moved to "+dir+"-1\n"); moved != again {
			t.Errorf("moved: %v\n%s", moved, out.String())
		}
	}
}

// write appends to a file of data, with a checkpoint beside it.
func write(dir, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(f, text)
	return errors.Join(err, f.Close(), os.WriteFile(f.Name()+"+checkpoint", nil, 0o600))
}

func TestURLIsForABrowserOnThisHost(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := url(addr); got != want {
			t.Errorf("%s is at %s, want %s", addr, got, want)
		}
	}
	f("127.0.0.1:8080", "http://127.0.0.1:8080")
	f("localhost:1", "http://localhost:1")
	f(":8080", "http://127.0.0.1:8080")
	f("[::]:8080", "http://127.0.0.1:8080")
	f("[::1]:8080", "http://[::1]:8080")
}
