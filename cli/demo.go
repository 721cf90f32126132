package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"kcagent/cli/command"
	"kcagent/cli/httpserver"
	"kcagent/cli/logging"
	"kcagent/demo"
)

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "run an agent with an embedded Kafka broker, generated records and a sample file",
		Long: `
The command writes a sample file to the folder. It uses an existing file unchanged, and
moves the records of an earlier demo to another folder beside them: the broker is a new one.
With --objects, two consumers of the sample file write objects, every few seconds, as they would
into a bucket. The demo ends on SIGINT or SIGTERM, or after --duration.`,
		Example: "kcagent demo --dir /tmp/kcagent-demo --duration 1m",
		Args:    command.NoArgs,
	}
	var o demo.Options
	flags := c.Flags()
	flags.StringVar(&o.Dir, "dir", "./"+demo.DefaultDir, "`folder` for the sample file and the data")
	flags.IntVar(&o.Rate, "rate", demo.DefaultRate, "`number` of records to generate per second")
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "`address` of the read-only HTTP API")
	flags.DurationVar(&o.Duration, "duration", 0, "end after this `duration`; with 0, run until a signal")
	flags.BoolVar(&o.Objects, "objects", false, "write a sample file with objects sinks, which store objects in a folder")
	command.CompleteFolder(c, "dir")
	command.CompleteNothing(c, "rate", "listen", "duration")
	log := logFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		l := log.open(c.ErrOrStderr())
		o.Stdout, o.Log = c.OutOrStdout(), l.Logger
		return runDemo(c.Context(), o, l)
	}
	return c
}

func runDemo(ctx context.Context, o demo.Options, log *logging.Log) error {
	switch {
	case o.Rate < 1 || o.Rate > demo.MaxRate:
		return command.Usagef("invalid --rate %d: use a number from 1 to %d", o.Rate, demo.MaxRate)
	case o.Duration < 0:
		return command.Usagef("invalid --duration %s: use a duration such as 1m, or 0 to run until a signal", o.Duration)
	case o.Dir == "":
		return command.Usagef("invalid --dir: it is empty; set a folder, or remove the flag")
	}
	if err := checkListen(o.Listen); err != nil {
		return err
	}
	err := demo.CheckFolder(o.Dir) // before the port, which the other demo uses, too
	if err != nil {
		return err
	}
	if o.Listen, err = freeAddress(o.Listen); err != nil {
		return err
	}
	command.SurviveBrokenPipes()
	return demo.Run(ctx, o, func(ctx context.Context, configPath string) error {
		return runAgent(ctx, runOptions{
			config: configPath, listen: o.Listen, watch: true, shutdownTimeout: 25 * time.Second, log: log,
		})
	})
}

// freeAddress checks that the agent can listen on an address, before the demo prints it,
// and replaces port 0 by a free port.
func freeAddress(address string) (string, error) {
	l, err := httpserver.Listen(address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
