// Package demo runs an agent without a Kafka cluster: with an embedded broker, generated
// records and a sample file to edit. Start reading with [Run].
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options configure a demo. Log and Stdout must be set.
type Options struct {
	Dir      string        // for the sample file and the data; ./kcagent-demo if empty
	Rate     int           // generated records per second, over all topics; 200 if zero
	Duration time.Duration // the demo ends after it; if zero, with the context
	Listen   string        // host:port of the agent's HTTP API, only to be printed
	Objects  bool          // the sample file has objects sinks, which write into a folder
	Stdout   io.Writer     // for the instructions and the report
	Log      *slog.Logger
}

// Defaults of Options, and the maximum of Rate.
const (
	DefaultDir  = "kcagent-demo"
	DefaultRate = 200
	MaxRate     = 1_000_000
)

// BrokerEnv is the environment variable with the address of the broker, which the sample
// file refers to. Run sets it for this process.
const BrokerEnv = "KCAGENT_DEMO_BROKER"

var errDurationOver = errors.New("the duration of the demo is over")

// Run runs agent on a sample file until ctx ends or the duration is over, and returns once
// agent and broker have ended. It returns the error of agent unchanged. A file that exists
// in the folder is used unchanged. The data of an earlier demo is moved to another folder. It
// is an error if another demo runs in the folder.
func Run(ctx context.Context, o Options, agent func(ctx context.Context, configPath string) error) error {
	o.Dir, o.Rate = cmp.Or(o.Dir, DefaultDir), cmp.Or(o.Rate, DefaultRate)
	kept, err := writeSample(o.Dir, o.Objects)
	if err != nil {
		return err
	}
	locked, err := lockFolder(o.Dir, url(o.Listen))
	if err != nil {
		return err
	}
	defer locked.Close()
	data, objects := filepath.Join(o.Dir, dataDir), filepath.Join(o.Dir, objectsDir)
	var aside []string
	for _, folder := range []string{data, objects} {
		moved, err := setAside(folder)
		if err != nil {
			return err
		}
		if moved != "" {
			aside = append(aside, moved)
		}
	}
	b, err := startBroker(preferredAddr, o.Log)
	if err != nil {
		return err
	}
	defer b.Close() // last, because the agent commits and leaves its groups before
	if err := os.Setenv(BrokerEnv, b.addr); err != nil {
		return fmt.Errorf("set %s: %w", BrokerEnv, err)
	}
	if err := welcome(o, b.addr, kept, aside); err != nil {
		return err
	}
	if o.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Duration, errDurationOver)
		defer cancel()
	}
	err = runBoth(ctx, b.addr, o.Rate, func(ctx context.Context) error {
		return agent(ctx, filepath.Join(o.Dir, sampleName))
	})
	return errors.Join(err, report(o.Stdout, data), reportObjects(o.Stdout, objects))
}

// runBoth runs the agent and the generator. The end of one ends the other.
func runBoth(ctx context.Context, addr string, rate int, agent func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	generated := make(chan error, 1)
	go func() {
		err := generate(ctx, addr, rate)
		cancel(err)
		generated <- err
	}()
	err := agent(ctx)
	cancel(nil)
	return errors.Join(err, <-generated)
}

// welcome prints the page, what to edit, and where to look.
func welcome(o Options, addr string, kept bool, aside []string) error {
	var b strings.Builder
	sample, data, page := filepath.Join(o.Dir, sampleName), filepath.Join(o.Dir, dataDir), url(o.Listen)
	look := "tail -f " + filepath.Join(data, "orders.log")
	if o.Objects {
		look = "find " + filepath.Join(o.Dir, objectsDir) + " -name '*.gz'   a new object for each partition every few seconds"
	}
	fmt.Fprintf(&b, `Page:  %[3]s
Edit:  %[2]s, while this runs:
       audit: state: running      %[1]s/audit.log fills with the records that waited
       delete the payments entry  it is terminated; add it again: it continues where it ended
       misspell a key             nothing changes; the page and the log show the problem
Look:  kcagent top --url %[3]s
       %[4]s
       curl %[3]s/status
`, data, sample, page, look)
	if kept {
		fmt.Fprintf(&b, "Note:  %s exists and is used unchanged\n", sample)
	}
	if len(aside) > 0 {
		fmt.Fprintf(&b, "Note:  the records of an earlier demo were moved to %s\n", strings.Join(aside, " and "))
	}
	fmt.Fprintf(&b, "Kafka: %s, topics orders, payments and audit, %d records per second\n", addr, o.Rate)
	if addr != preferredAddr {
		fmt.Fprintf(&b, "       (%s is in use; for other commands on the file: export %s=%s)\n", preferredAddr, BrokerEnv, addr)
	}
	end := "Ctrl-C"
	if o.Duration > 0 {
		end += fmt.Sprintf(", or %s after the start", o.Duration)
	}
	fmt.Fprintf(&b, "End:   %s\n", end)
	_, err := io.WriteString(o.Stdout, b.String())
	return err
}

// url returns the URL of a server that listens on addr, for a browser on this host.
func url(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
