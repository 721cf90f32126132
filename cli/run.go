package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"kcagent/agent"
	"kcagent/agent/kafka"
	"kcagent/cli/httpserver"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/limits"
	"kcagent/logkey"
)

// runOptions configure a running agent; the commands run and demo set them.
type runOptions struct {
	config          string
	listen          string
	watch           bool
	shutdownTimeout time.Duration
	webConfig       string
	log             *slog.Logger
}

var runCommand = command{
	name:    "run",
	summary: "run the consumers that the file declares",
	details: `
The agent applies each edit of the file and of the files that it names, such as
certificates and passwords, as soon as it has not changed for 100 ms. SIGHUP makes it
read them at once. On SIGTERM or SIGINT it drains, flushes, commits and closes every
consumer; a second signal ends the process at once. The log goes to stderr.`,
	exits: []exit{
		{exitSuccess, "every consumer stopped in time"},
		{exitFailure, "a consumer did not stop in time, or the HTTP API failed"},
		{exitUsage, "invalid usage, or the first file has problems"},
	},
	example: "kcagent run --config consumers.yaml --listen 127.0.0.1:8080",
	run:     runRun,
}

func runRun(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	var o runOptions
	flags.StringVar(&o.config, "config", "consumers.yaml", "configuration `file`")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of the read-only HTTP API")
	flags.BoolVar(&o.watch, "watch", true, "watch the configuration file and the files that it names; if false, the agent reads them again on SIGHUP only")
	flags.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 25*time.Second, "maximum `duration` for consumers to stop at shutdown")
	flags.StringVar(&o.webConfig, "web.config.file", "", "`file` with TLS and basic authentication for the HTTP API, as in Prometheus exporters")
	level, format := logFlags(flags)
	if err := parse(io, flags, args); err != nil {
		return err
	}
	var err error
	if o.log, err = newLogger(io.err, *level, *format); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	surviveBrokenPipes()
	return runAgent(ctx, o)
}

// check validates the flags.
func (o *runOptions) check() error {
	if o.shutdownTimeout < 0 {
		return usageError{fmt.Errorf("invalid --shutdown-timeout %s: use a duration such as 25s", o.shutdownTimeout)}
	}
	if _, err := net.ResolveTCPAddr("tcp", o.listen); err != nil {
		return usageError{fmt.Errorf("invalid --listen %q: %w; use an address such as 127.0.0.1:8080", o.listen, err)}
	}
	if err := web.Validate(o.webConfig); err != nil {
		return usageError{fmt.Errorf("read --web.config.file: %w", err)}
	}
	return nil
}

func logFlags(flags *flag.FlagSet) (level, format *string) {
	return flags.String("log-level", "info", "minimum level to log: `debug|info|warn|error`"),
		flags.String("log-format", "text", "format of the log: `text|json`")
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("invalid --log-level %q: use debug, info, warn or error", level)}
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, checkOneOf("log-format", format, "text", "json")
}

// serverGrace is how long requests in progress may take once the agent has ended.
const serverGrace = 2 * time.Second

// runAgent runs an agent until ctx ends: the watcher sends it edits, and the HTTP server
// shows its state. It returns nil if every consumer ended cleanly.
func runAgent(ctx context.Context, o runOptions) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before anything else, because the default action ends the process
	defer signal.Stop(hup)

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	kafka.SetUpSarama(o.log)
	if err := limits.SetUpGC(o.log); err != nil {
		o.log.Warn("memory limit is unknown; memory is not limited", logkey.Error, err)
	}
	files := filewatch.NewFiles(filewatch.Options{Log: o.log, Events: o.watch})
	a := agent.New(agent.Options{Log: o.log, Version: version(), ShutdownTimeout: o.shutdownTimeout, Files: files})

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := httpserver.New(a.Handler(), o.log)
	clients := httpserver.Limit(server, listener, limits.Of().Connections)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := web.Serve(clients, server, &web.FlagConfig{WebConfigFile: &o.webConfig}, o.log)
		if !errors.Is(err, http.ErrServerClosed) {
			cancel(serverError{fmt.Errorf("serve http on %s: %w", o.listen, err)})
		}
	})
	reload := make(chan os.Signal, 1)
	wg.Go(func() {
		for {
			select {
			case sig := <-hup:
				a.Reopen()
				select {
				case reload <- sig:
				default: // a reload is pending already
				}
			case <-ctx.Done():
				return
			}
		}
	})
	w := config.NewWatcher(o.config, os.LookupEnv, filewatch.Options{Log: o.log, Reload: reload, Events: o.watch})
	wg.Go(func() { w.Run(ctx) })
	wg.Go(func() { files.Run(ctx) })

	err = a.Run(ctx, w.Updates())
	if failed, ok := errors.AsType[serverError](context.Cause(ctx)); ok {
		err = errors.Join(failed, err)
	}
	cancel(nil)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), serverGrace)
	defer done()
	_ = server.Shutdown(grace) // Close ends the requests that take longer
	_ = server.Close()
	wg.Wait()
	return err
}

// A serverError is the reason why the HTTP API ended on its own. It ends the agent, because
// an agent without the API cannot be monitored.
type serverError struct{ error }
