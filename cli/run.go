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
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/limits"
)

// runOptions are what the run command and the demo say of a running agent.
type runOptions struct {
	config          string
	listen          string
	watch           bool
	shutdownTimeout time.Duration
	webConfig       string
	log             *slog.Logger
}

var runHelp = command{
	name:    "run",
	summary: "run the consumers that the file declares",
	details: `
The agent applies each edit of the file and of the files that it names, such as
certificates and passwords, as soon as it has not changed for 100 ms. SIGHUP makes it
read them at once. On SIGTERM or SIGINT it drains, flushes, commits and closes every
consumer; a second signal ends the process at once. The log goes to stderr.`,
	exits: []exit{
		{exitGood, "every consumer stopped in time"},
		{exitFailure, "a consumer did not stop in time, or the HTTP API failed"},
		{exitUsage, "invalid usage, or the first file has problems"},
	},
	example: "kcagent run --config consumers.yaml --listen 127.0.0.1:8080",
	run:     runCommand,
}

func runCommand(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
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

// check finds flags that cannot be meant.
func (o *runOptions) check() error {
	if o.shutdownTimeout < 0 {
		return errUsage{fmt.Errorf("--shutdown-timeout is %s: write a time such as 25s", o.shutdownTimeout)}
	}
	if _, err := net.ResolveTCPAddr("tcp", o.listen); err != nil {
		return errUsage{fmt.Errorf("--listen is %q: write an address such as 127.0.0.1:8080: %w", o.listen, err)}
	}
	if err := web.Validate(o.webConfig); err != nil {
		return errUsage{fmt.Errorf("read --web.config.file: %w", err)}
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
		return nil, errUsage{fmt.Errorf("--log-level is %q: write debug, info, warn or error", level)}
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

// Limits of the HTTP API, besides that of its connections: no client may hold more
// than a little of the agent.
const (
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10
	serverGrace    = 2 * time.Second
)

// runAgent runs an agent until ctx ends: the watcher sends edits to the agent,
// and the server shows it. It returns nil if every consumer ended cleanly.
func runAgent(ctx context.Context, o runOptions) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // first of all: unheard, it would end the process
	defer signal.Stop(hup)

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	kafka.SetUpSarama(o.log)
	if err := limits.SetUpGC(o.log); err != nil {
		o.log.Warn("memory is not limited", "error", err)
	}
	files := filewatch.NewFiles(filewatch.Options{Log: o.log, Events: o.watch})
	a := agent.New(agent.Options{Log: o.log, Version: version(), ShutdownTimeout: o.shutdownTimeout, Files: files})

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := newServer(a.Handler(), o.log)
	clients := limitClients(server, listener, limits.Of().Connections)
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
				default: // one waits already
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
	if broken := new(serverError); errors.As(context.Cause(ctx), broken) {
		err = errors.Join(*broken, err)
	}
	cancel(nil)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), serverGrace)
	defer done()
	_ = server.Shutdown(grace) // what it still answers after the grace is cut off
	_ = server.Close()
	wg.Wait()
	return err
}

// A serverError is why the HTTP API ended by itself. It ends the agent, because
// an agent without the API cannot be monitored.
type serverError struct{ error }

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
}
