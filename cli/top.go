package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"kcagent/cli/command"
	"kcagent/cli/top"
)

func newTop() *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "show the consumers of a running agent as a live table",
		Long: `
The table fills the screen of the terminal. Consumers that require an action come first;
another order, a filter and the details of a consumer are one key away: press ? for the
list of keys. While the agent does not respond, the last values stay and are marked.

The command needs a terminal. Elsewhere use kcagent status --watch.`,
		Example: "kcagent top --url http://127.0.0.1:8080",
		Args:    command.NoArgs,
	}
	command.Exits(c, "the user quit", "the agent does not respond at the start, or there is no terminal", "invalid usage")
	address := urlFlag(c, "")
	interval := c.Flags().Duration("interval", top.Interval, "`duration` between two requests")
	command.CompleteNothing(c, "interval")
	c.RunE = func(c *cobra.Command, _ []string) error { return runTop(c.Context(), *address, *interval) }
	return c
}

func runTop(ctx context.Context, address string, interval time.Duration) error {
	if interval < top.MinInterval {
		return command.Usagef("invalid --interval %s: must be at least %s", interval, top.MinInterval)
	}
	agent, err := newClient(address)
	if err != nil {
		return err
	}
	return top.Run(ctx, top.Agent{Client: agent, URL: address, Interval: interval})
}
