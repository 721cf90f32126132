package cli

import (
	"context"
	"flag"
	"fmt"
)

var healthCommand = command{
	name:    "health",
	summary: "request /healthz from a running agent, for health checks of containers",
	example: "kcagent health --url http://127.0.0.1:8080",
	run:     runHealth,
}

// runHealth requests /healthz, so that an image without a shell can check itself.
func runHealth(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	address := urlFlag(flags)
	if err := parse(io, flags, args); err != nil {
		return err
	}
	c, err := newClient(*address)
	if err != nil {
		return err
	}
	if _, err := c.Get(ctx, "/healthz"); err != nil {
		return err
	}
	_, err = fmt.Fprintln(io.out, "ok")
	return err
}
