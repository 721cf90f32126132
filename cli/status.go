package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/cli/client"
	"kcagent/cli/command"
	"kcagent/cli/statustable"
	"kcagent/config"
)

const (
	watchInterval = 2 * time.Second
	waitInterval  = 200 * time.Millisecond
)

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "show the consumers of a running agent, or wait until it has applied a file",
		Long: `
The table has one line per consumer, consumers with errors first. With --output json
stdout is the response of /status, see docs/http-api.md.

With --wait FILE the command waits until the agent has applied exactly this file and
every consumer is in its desired state. The command ends at once if the agent
rejects the file.`,
		Example: "kcagent status --wait consumers.yaml --timeout 60s",
		Args:    command.NoArgs,
	}
	command.Exits(c, "success", "the agent does not respond, or the wait failed; stderr says what is missing", "invalid usage")
	address := urlFlag(c)
	watch := c.Flags().Bool("watch", false, "repeat every two seconds")
	file := c.Flags().String("wait", "", "wait until the agent has applied exactly this `file`")
	timeout := c.Flags().Duration("timeout", time.Minute, "maximum `duration` of --wait")
	output := outputFlag(c)
	command.CompleteYAML(c, "wait")
	command.CompleteNothing(c, "timeout")
	c.RunE = func(c *cobra.Command, _ []string) error {
		std := streamsOf(c)
		agent, err := newClient(*address)
		switch {
		case err != nil:
			return err
		case *watch && *file != "":
			return command.Usagef("--watch cannot be combined with --wait")
		case *watch:
			return watchStatus(c.Context(), std, agent, *output)
		case *file != "":
			return waitFor(c.Context(), std, agent, *file, *timeout)
		}
		return showStatus(c.Context(), std, agent, *output)
	}
	return c
}

// showStatus prints the status once.
func showStatus(ctx context.Context, std streams, c client.Client, output string) error {
	if output == "json" {
		body, err := c.Get(ctx, "/status")
		if err == nil {
			_, err = std.out.Write(body)
		}
		return err
	}
	var s web.Status
	if err := c.Decode(ctx, "/status?fields="+statustable.Fields, &s); err != nil {
		return err
	}
	_, err := fmt.Fprint(std.out, statustable.Render(s, time.Now(), widthOf(std.out), coloured(std.out)))
	return err
}

// widthOf returns the number of columns of a terminal; 0 if w is none.
func widthOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// watchStatus prints the status again and again until ctx ends. If the agent stops
// responding, it reports that and continues.
func watchStatus(ctx context.Context, std streams, c client.Client, output string) error {
	for first := true; ; first = false {
		if isTerminal(std.out) {
			fmt.Fprint(std.out, "\x1b[H\x1b[2J")
		} else if !first && output == "text" {
			fmt.Fprintln(std.out)
		}
		if err := showStatus(ctx, std, c, output); err != nil && ctx.Err() == nil {
			if first {
				return err
			}
			fmt.Fprintln(std.err, "kcagent status:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

// waitFor waits until the agent has applied exactly the file and every consumer is in its
// desired state. It ends at once if the agent rejects the file. Its error says what is
// missing.
func waitFor(ctx context.Context, std streams, c client.Client, file string, timeout time.Duration) error {
	if err := checkExists(file); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return command.Usagef("read --wait %s: %w", file, cause(err))
	}
	sum := sha256.Sum256(text)
	sha := hex.EncodeToString(sum[:])
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		missing, rejected := missingFor(ctx, c, sha)
		switch {
		case len(missing) == 0:
			_, err := fmt.Fprintf(std.out, "%s is applied, and every consumer is in its desired state\n", file)
			return err
		case rejected:
			return fmt.Errorf("wait for %s: %s", file, strings.Join(missing, "\n  "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: interrupted; missing:\n  %s", file, strings.Join(missing, "\n  "))
		case <-deadline.C:
			return fmt.Errorf("wait for %s: timeout after %s; missing:\n  %s", file, timeout, strings.Join(missing, "\n  "))
		case <-time.After(waitInterval):
		}
	}
}

// missingFor returns what is missing for the agent to have applied the file with a hash.
// A rejected file will never be applied.
func missingFor(ctx context.Context, c client.Client, sha string) (missing []string, rejected bool) {
	var s web.Status
	if err := c.Decode(ctx, "/status", &s); err != nil {
		return []string{err.Error()}, false
	}
	switch {
	case s.Config.State == "rejected" && s.Config.FileSHA256 == sha:
		missing = append(missing, "the agent rejected the file:")
		for _, p := range s.Config.Problems {
			missing = append(missing, statustable.Clean(p.String()))
		}
		return missing, true
	case s.Config.SHA256 != sha:
		return []string{fmt.Sprintf("the agent runs another file: %s, sha256 %.12s…, want %.12s…", s.Config.Path, s.Config.SHA256, sha)}, false
	}
	for _, one := range s.Consumers {
		if m := missingOf(one); m != "" {
			missing = append(missing, statustable.Clean(m))
		}
	}
	if len(missing) == 0 && s.Config.State != "synced" {
		missing = append(missing, "the configuration is being applied")
	}
	return missing, false
}

// goals are the states that each desired state converges to.
var goals = map[config.State]consumer.State{
	config.Running: consumer.Running, config.Paused: consumer.Paused, config.Stopped: consumer.Created,
}

// missingOf says what one consumer lacks to be in its desired state; "" if nothing.
func missingOf(c web.ConsumerStatus) string {
	goal := goals[c.Desired]
	switch {
	case c.Status == goal && c.PendingChange == nil:
		return ""
	case c.Status == goal:
		return c.Name + ": " + statustable.PendingChange(c.PendingChange)
	case c.LastError != nil:
		return fmt.Sprintf("%s is %s, want %s: %s", c.Name, c.Status, goal, *c.LastError)
	}
	return fmt.Sprintf("%s is %s, want %s", c.Name, c.Status, goal)
}
