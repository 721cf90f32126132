package cli

import (
	"context"
	"errors"
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
	"kcagent/config/filewatch"
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
every consumer is in its desired state. With --for accepted, it waits only until the
agent has accepted the file: consumers that fail or wait for a broker do not count. The
command ends at once if the agent rejects the file. If the file changes meanwhile, the
command waits for the new content.`,
		Example: "kcagent status --wait consumers.yaml --timeout 60s",
		Args:    command.NoArgs,
	}
	command.Exits(c, "success", "the agent does not respond, or the wait failed; stderr says what is missing", "invalid usage")
	address := urlFlag(c, "")
	watch := c.Flags().Bool("watch", false, "repeat every two seconds")
	file := c.Flags().String("wait", "", "wait until the agent has applied exactly this `file`")
	goal := command.Choice(c, "for", waitApplied, "with --wait, what to wait for: every consumer in its desired state, or the agent's verdict on the file only", waitApplied, waitAccepted)
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
		case *timeout < 0:
			return command.Usagef("invalid --timeout %s: it is negative; use a duration such as 60s", *timeout)
		case *watch && *file != "":
			return command.Usagef("--watch cannot be combined with --wait")
		case *file == "" && c.Flags().Changed("for"):
			return command.Usagef("--for requires --wait FILE")
		case *watch:
			return watchStatus(c.Context(), std, agent, *output)
		case *file != "":
			return waitFor(c.Context(), std, agent, target{*file, *goal == waitAccepted, *timeout})
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

// The values of --for.
const (
	waitApplied  = "applied"
	waitAccepted = "accepted"
)

// A target is what status --wait waits for.
type target struct {
	file     string
	accepted bool // accepting the file is enough
	timeout  time.Duration
}

// waitFor waits until the agent has accepted or applied the file. If the file changes meanwhile,
// its new content counts. It ends at once if the agent rejects the file or the login. Its error
// says what is missing.
func waitFor(ctx context.Context, std streams, c client.Client, t target) error {
	if err := checkExists(t.file); err != nil {
		return err
	}
	if _, err := filewatch.SumFile(t.file); err != nil { // a pipe would have no content for the next read
		return command.Usagef("read --wait %s: %w", t.file, cause(err))
	}
	deadline := time.NewTimer(t.timeout)
	defer deadline.Stop()
	var unreadable time.Time // since when the agent cannot read the file
	for {
		missing, end := t.missing(ctx, c)
		if end != cannotRead {
			unreadable = time.Time{}
		} else if unreadable.IsZero() {
			unreadable = time.Now()
		}
		final := end == never || end == cannotRead && time.Since(unreadable) >= replacing
		switch {
		case len(missing) == 0 && t.accepted:
			_, err := fmt.Fprintf(std.out, "%s is accepted\n", t.file)
			return err
		case len(missing) == 0:
			_, err := fmt.Fprintf(std.out, "%s is applied, and every consumer is in its desired state\n", t.file)
			return err
		case final:
			return fmt.Errorf("wait for %s: %s", t.file, strings.Join(missing, "\n  "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: interrupted; missing:\n  %s", t.file, strings.Join(missing, "\n  "))
		case <-deadline.C:
			return fmt.Errorf("wait for %s: timeout after %s; missing:\n  %s", t.file, t.timeout, strings.Join(missing, "\n  "))
		case <-time.After(waitInterval):
		}
	}
}

// An outlook says whether more waiting can help.
type outlook int

const (
	later      outlook = iota // the agent may still apply the file
	cannotRead                // the agent cannot read the file, which may be replaced at this moment
	never                     // the agent has rejected the file, or the login
)

// replacing is how long a file may be unreadable because something replaces it.
const replacing = 5 * time.Second

// missing returns what is missing for the agent to have accepted or applied the file as it is
// now.
func (t target) missing(ctx context.Context, c client.Client) ([]string, outlook) {
	sha, err := filewatch.SumFile(t.file)
	if err != nil {
		return []string{fmt.Sprintf("read %s: %s", t.file, cause(err))}, later // it may be replaced at this moment
	}
	path := "/status"
	if t.accepted {
		path += "?fields=config"
	}
	var s web.Status
	if err := c.Decode(ctx, path, &s); err != nil {
		if errors.As(err, new(client.LoginError)) {
			return []string{err.Error()}, never
		}
		return []string{err.Error()}, later
	}
	switch {
	case s.Config.State == "rejected" && s.Config.FileSHA256 == sha:
		return problemsOf(s, "the agent rejected the file:"), never
	case s.Config.State == "rejected" && s.Config.FileSHA256 == "":
		return problemsOf(s, "the agent cannot read its file:"), cannotRead
	case s.Config.SHA256 != sha:
		return []string{fmt.Sprintf("the agent runs another file: %s, sha256 %.12s…, want %.12s…", s.Config.Path, s.Config.SHA256, sha)}, later
	case t.accepted && s.Config.State == "rejected":
		return []string{"the agent has not read the file again since it rejected another content"}, later
	case t.accepted:
		return nil, later
	}
	var missing []string
	for _, one := range s.Consumers {
		if m := missingOf(one); m != "" {
			missing = append(missing, statustable.Clean(m))
		}
	}
	if len(missing) == 0 && s.Config.State != "synced" {
		missing = append(missing, "the configuration is being applied")
	}
	return missing, later
}

// problemsOf returns a title and the lines of the problems with the file.
func problemsOf(s web.Status, title string) []string {
	lines := []string{title}
	for _, p := range s.Config.Problems {
		for line := range strings.SplitSeq(p.String(), "\n") { // the second one is the hint
			lines = append(lines, statustable.Clean(line))
		}
	}
	return lines
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
