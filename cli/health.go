package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"kcagent/cli/command"
)

func newHealth() *cobra.Command {
	c := &cobra.Command{
		Use:     "health",
		Short:   "request /healthz from a running agent, for health checks of containers",
		Example: "kcagent health --url http://127.0.0.1:8080",
		Args:    command.NoArgs,
	}
	address := urlFlag(c, "")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return runHealth(c.Context(), c.OutOrStdout(), *address)
	}
	return c
}

// runHealth requests /healthz, so that an image without a shell can check itself.
func runHealth(ctx context.Context, w io.Writer, address string) error {
	c, err := newClient(address)
	if err != nil {
		return err
	}
	if _, err := c.Get(ctx, "/healthz"); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "ok")
	return err
}
