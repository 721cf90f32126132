package cli

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const healthTimeout = 5 * time.Second

// healthCommand asks /healthz, so that an image without a shell can check
// itself.
func healthCommand(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	url := flags.String("url", "http://127.0.0.1:8080", "`address` of the agent")
	if err := parse(io, flags, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	target := strings.TrimSuffix(*url, "/") + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return errUsage{fmt.Errorf("--url is no address: %w", err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the agent: %s answered %s", target, resp.Status)
	}
	_, err = fmt.Fprintln(io.out, "ok")
	return err
}
