package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"kcagent/agent/web"
	"kcagent/cli/client"
	"kcagent/cli/statustable"
)

const (
	watchInterval = 2 * time.Second
	waitInterval  = 200 * time.Millisecond
)

var statusCommand = command{
	name:    "status",
	summary: "show the consumers of a running agent, or wait until it has applied a file",
	details: `
The table has one line per consumer, consumers with errors first. With --output json
stdout is the response of /status, see docs/http-api.md.

With --wait FILE the command waits until the agent has applied exactly this file and
every consumer is in its desired state. The command ends at once if the agent
rejects the file.`,
	exits: []exit{
		{exitSuccess, "success"},
		{exitFailure, "the agent does not respond, or the wait failed; stderr says what is missing"},
		{exitUsage, "invalid usage"},
	},
	example: "kcagent status --wait consumers.yaml --timeout 60s",
	run:     runStatus,
}

// runStatus shows the consumers of a running agent, or waits until it has applied a file.
func runStatus(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	address := urlFlag(flags)
	watch := flags.Bool("watch", false, "repeat every two seconds")
	file := flags.String("wait", "", "wait until the agent has applied exactly this `file`")
	timeout := flags.Duration("timeout", time.Minute, "maximum `duration` of --wait")
	output := outputFlag(flags)
	if err := parse(io, flags, args); err != nil {
		return err
	}
	if err := checkOneOf("output", *output, "text", "json"); err != nil {
		return err
	}
	c, err := newClient(*address)
	if err != nil {
		return err
	}
	switch {
	case *watch && *file != "":
		return usageError{errors.New("--watch cannot be combined with --wait")}
	case *watch:
		return watchStatus(ctx, io, c, *output)
	case *file != "":
		return waitFor(ctx, io, c, *file, *timeout)
	}
	return showStatus(ctx, io, c, *output)
}

// showStatus prints the status once.
func showStatus(ctx context.Context, io streams, c client.Client, output string) error {
	if output == "json" {
		body, err := c.Get(ctx, "/status")
		if err == nil {
			_, err = io.out.Write(body)
		}
		return err
	}
	var s web.Status
	if err := c.Decode(ctx, "/status", &s); err != nil {
		return err
	}
	_, err := fmt.Fprint(io.out, statustable.Render(s, time.Now(), coloured(io.out)))
	return err
}

// watchStatus prints the status again and again until ctx ends. If the agent stops
// responding, it reports that and continues.
func watchStatus(ctx context.Context, io streams, c client.Client, output string) error {
	for first := true; ; first = false {
		if isTerminal(io.out) {
			fmt.Fprint(io.out, "\x1b[H\x1b[2J")
		} else if !first && output == "text" {
			fmt.Fprintln(io.out)
		}
		if err := showStatus(ctx, io, c, output); err != nil && ctx.Err() == nil {
			if first {
				return err
			}
			fmt.Fprintln(io.err, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}
