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
	f("1\n2\n3\n", "tail -f "+data+"/orders.log", "curl http://127.0.0.1:8080/status",
		filepath.Join(o.Dir, sampleName), data+"/a.log: 3 records")
	f("4\n", sampleName+" exists", data+"/a.log: 1 records")
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
