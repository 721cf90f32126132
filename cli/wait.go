package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/cli/client"
	"kcagent/cli/statustable"
	"kcagent/config"
)

// waitFor waits until the agent has applied exactly the file and every consumer is in its
// desired state. It ends at once if the agent rejects the file. Its error says what is
// missing.
func waitFor(ctx context.Context, io streams, c client.Client, file string, timeout time.Duration) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return usageError{fmt.Errorf("read --wait: %w", err)}
	}
	sum := sha256.Sum256(text)
	sha := hex.EncodeToString(sum[:])
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		missing, rejected := missingFor(ctx, c, sha)
		switch {
		case len(missing) == 0:
			_, err := fmt.Fprintf(io.out, "%s is applied, and every consumer is in its desired state\n", file)
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
			missing = append(missing, p.String())
		}
		return missing, true
	case s.Config.SHA256 != sha:
		return []string{fmt.Sprintf("the agent runs another file: %s, sha256 %.12s…, want %.12s…", s.Config.Path, s.Config.SHA256, sha)}, false
	}
	for _, one := range s.Consumers {
		if m := missingOf(one); m != "" {
			missing = append(missing, m)
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
