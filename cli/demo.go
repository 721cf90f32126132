package cli

import (
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"kcagent/demo"
)

var demoCommand = command{
	name:    "demo",
	summary: "run an agent with an embedded Kafka broker, generated records and a sample file",
	details: `
The command writes a sample file to the folder. It uses an existing file unchanged. The
demo ends on SIGINT or SIGTERM, or after --duration.`,
	example: "kcagent demo --dir /tmp/kcagent-demo --duration 1m",
	run:     runDemo,
}

func runDemo(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	o := demo.Options{Stdout: io.out}
	flags.StringVar(&o.Dir, "dir", "./"+demo.DefaultDir, "`folder` for the sample file and the data")
	flags.IntVar(&o.Rate, "rate", demo.DefaultRate, "`number` of records to generate per second")
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "`address` of the read-only HTTP API")
	flags.DurationVar(&o.Duration, "duration", 0, "end after this `duration`; with 0, run until a signal")
	level, format := logFlags(flags)
	if err := parse(io, flags, args); err != nil {
		return err
	}
	var err error
	if o.Log, err = newLogger(io.err, *level, *format); err != nil {
		return err
	}
	switch {
	case o.Rate < 1:
		return usageError{fmt.Errorf("invalid --rate %d: must be at least 1", o.Rate)}
	case o.Duration < 0:
		return usageError{fmt.Errorf("invalid --duration %s: use a duration such as 1m, or 0 to run until a signal", o.Duration)}
	case o.Dir == "":
		return usageError{fmt.Errorf("invalid --dir: it is empty; set a folder, or remove the flag")}
	}
	if o.Listen, err = freeAddress(o.Listen); err != nil {
		return err
	}
	surviveBrokenPipes()
	return demo.Run(ctx, o, func(ctx context.Context, configPath string) error {
		return runAgent(ctx, runOptions{
			config: configPath, listen: o.Listen, watch: true, shutdownTimeout: 25 * time.Second, log: o.Log,
		})
	})
}

// freeAddress checks that the agent can listen on an address, before the demo prints it,
// and replaces port 0 by a free port.
func freeAddress(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w; choose another address with --listen", address, err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
