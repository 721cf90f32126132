package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/spf13/cobra"

	"kcagent/agent"
	"kcagent/agent/kafka"
	"kcagent/cli/command"
	"kcagent/cli/httpserver"
	"kcagent/cli/logging"
	"kcagent/cli/systemd"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/limits"
	"kcagent/logkey"
	"kcagent/retry"
)

// runOptions configure a running agent; the commands run and demo set them.
type runOptions struct {
	config          string
	listen          string
	watch           bool
	shutdownTimeout time.Duration
	webConfig       string
	log             *logging.Log
}

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "run the consumers that the file declares",
		Long: `
The agent applies each edit of the file and of the files that it names, such as
certificates and passwords, as soon as it has not changed for 100 ms. SIGHUP makes it
read them at once. On SIGTERM or SIGINT it drains, flushes, commits and closes every
consumer; a second signal ends the process at once. The log goes to stderr.`,
		Example: "kcagent run --config consumers.yaml --listen 127.0.0.1:8080",
		Args:    command.NoArgs,
	}
	command.Exits(c, "every consumer stopped in time", "a consumer did not stop in time, or the HTTP API failed", "invalid usage, or the first file has problems")
	var o runOptions
	configFlag(c, &o.config, "configuration `file`")
	flags := c.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of the read-only HTTP API")
	flags.BoolVar(&o.watch, "watch", true, "watch the configuration file and the files that it names; with --watch=false, the agent reads them again on SIGHUP only")
	flags.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 25*time.Second, "maximum `duration` for consumers to stop at shutdown")
	flags.StringVar(&o.webConfig, "web.config.file", "", "`file` with TLS and basic authentication for the HTTP API, as in Prometheus exporters")
	command.CompleteYAML(c, "web.config.file")
	command.CompleteNothing(c, "listen", "shutdown-timeout")
	log := logFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.log = log.open(c.ErrOrStderr())
		if err := o.check(); err != nil {
			return err
		}
		command.SurviveBrokenPipes()
		return runAgent(c.Context(), o)
	}
	return c
}

// check validates the flags.
func (o *runOptions) check() error {
	if o.shutdownTimeout < 0 {
		return command.Usagef("invalid --shutdown-timeout %s: it is negative; use a duration such as 25s", o.shutdownTimeout)
	}
	if err := checkListen(o.listen); err != nil {
		return err
	}
	if info, err := os.Stat(o.webConfig); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return command.Usagef("read --web.config.file %s: it is a pipe, and each request reads the file again; use a regular file", o.webConfig)
	}
	if err := web.Validate(o.webConfig); err != nil {
		return webConfigError(o.webConfig, err)
	}
	return checkExists(o.config)
}

// yamlNoise matches the parts of YAML errors that name Go types.
var yamlNoise = regexp.MustCompile(`yaml: (unmarshal errors:)?|(in type|into) \w+\.\w+`)

func webConfigError(file string, err error) error {
	pe, ok := errors.AsType[*fs.PathError](err)
	if ok && pe.Path == file {
		return command.Usagef("read --web.config.file %s: %w", file, pe.Err)
	}
	text := yamlNoise.ReplaceAllString(err.Error(), "")
	return command.Usagef("invalid --web.config.file %s: %s", file, strings.Join(strings.Fields(text), " "))
}

func checkListen(address string) error {
	if err := httpserver.CheckAddress(address); err != nil {
		return command.Usagef("invalid --listen %w", err)
	}
	return nil
}

// logOptions are the flags of the commands that log.
type logOptions struct{ level, format *string }

func logFlags(c *cobra.Command) logOptions {
	return logOptions{
		level:  command.Choice(c, "log-level", "info", "minimum level to log, unless the file has log_level", "debug", "info", "warn", "error"),
		format: command.Choice(c, "log-format", "text", "format of the log", "text", "json"),
	}
}

// open returns the log that the flags describe.
func (l logOptions) open(w io.Writer) *logging.Log {
	return logging.New(w, *l.level, *l.format == "json")
}

// serverGrace is how long requests in progress may take once the agent has ended.
const serverGrace = 2 * time.Second

// exitTime is how long the process may take to end after the shutdown of the consumers.
const exitTime = serverGrace + 5*time.Second

// runAgent runs an agent until ctx ends: the watcher sends it edits, and the HTTP server
// shows its state. It returns nil if every consumer ended cleanly.
func runAgent(ctx context.Context, o runOptions) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before anything else, because the default action ends the process
	defer signal.Stop(hup)
	notifier := systemd.FromEnvironment()

	listener, err := httpserver.Listen(o.listen)
	if err != nil {
		return err
	}
	log := o.log.Logger
	o.log.CaptureStandard()
	kafka.SetUpSarama(log)
	if err := limits.SetUpGC(log); err != nil {
		log.Warn("memory limit is unknown; memory is not limited", logkey.Error, err)
	}
	files := filewatch.NewFiles(filewatch.Options{Log: log, Events: o.watch})
	a := agent.New(agent.Options{
		Log: log, Version: version(), ShutdownTimeout: o.shutdownTimeout, Files: files,
		SetLogLevel: func(l config.LogLevel) { o.log.SetLevel(string(l)) },
	})

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server, clients := newServer(a.Handler(), listener, limits.Of().Connections, log)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := web.Serve(clients, server, &web.FlagConfig{WebConfigFile: &o.webConfig}, log)
		if !errors.Is(err, http.ErrServerClosed) {
			cancel(serverError{fmt.Errorf("serve http on %s: %w", o.listen, err)})
		}
	})
	reload, reloads := make(chan os.Signal, 1), retry.NewSignal()
	wg.Go(func() { forward(ctx, hup, a, reload, reloads) })
	w := config.NewWatcher(o.config, os.LookupEnv, filewatch.Options{Log: log, Reload: reload, Events: o.watch})
	wg.Go(func() { w.Run(ctx) })
	wg.Go(func() { files.Run(ctx) })
	running, ended := context.WithCancel(context.WithoutCancel(ctx))
	defer ended()
	wg.Go(func() {
		notifier.Run(ctx, running, systemd.Options{
			Agent: a, File: o.config, Hup: reloads, StopTime: o.shutdownTimeout + exitTime, Log: log,
		})
	})

	err = a.Run(ctx, w.Updates())
	ended()
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

// forward hands over each SIGHUP to the agent, the watcher and the notifier, until ctx ends.
func forward(ctx context.Context, hup <-chan os.Signal, a *agent.Agent, watcher chan<- os.Signal, notifier retry.Signal) {
	for {
		select {
		case sig := <-hup:
			a.Reopen()
			select {
			case watcher <- sig:
			default: // a reload is pending already
			}
			notifier.Set()
		case <-ctx.Done():
			return
		}
	}
}

// newServer returns a server of the HTTP API and the listener that it must serve, which has at
// most this many connections open.
func newServer(api http.Handler, l net.Listener, connections int, log *slog.Logger) (*http.Server, net.Listener) {
	server := httpserver.New(httpserver.Admit(api, connections, requestClass), log)
	return server, httpserver.Limit(server, l, connections)
}

// requestClass keeps health checks and scrapes apart from other requests.
func requestClass(r *http.Request) httpserver.Class {
	switch r.URL.Path {
	case "/healthz", "/readyz":
		return httpserver.Health
	case "/metrics":
		return httpserver.Scrape
	}
	return httpserver.Other
}

// A serverError is the reason why the HTTP API ended on its own. It ends the agent, because
// an agent without the API cannot be monitored.
type serverError struct{ error }
