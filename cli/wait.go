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
	"kcagent/config"
)

// waitFor waits until the agent has applied exactly the file and every consumer
// is where it should be. It does not wait for what waiting cannot mend: a file
// that the agent rejects. Its error says what is missing.
func waitFor(ctx context.Context, io streams, c client, file string, timeout time.Duration) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return errUsage{fmt.Errorf("read --wait: %w", err)}
	}
	sum := sha256.Sum256(text)
	sha := hex.EncodeToString(sum[:])
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		missing, hopeless := lacks(ctx, c, sha)
		switch {
		case len(missing) == 0:
			_, err := fmt.Fprintf(io.out, "%s is applied, and every consumer is where it should be\n", file)
			return err
		case hopeless:
			return fmt.Errorf("wait for %s: %s", file, strings.Join(missing, "\n  "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: interrupted; missing:\n  %s", file, strings.Join(missing, "\n  "))
		case <-deadline.C:
			return fmt.Errorf("wait for %s: not after %s; missing:\n  %s", file, timeout, strings.Join(missing, "\n  "))
		case <-time.After(waitEvery):
		}
	}
}

// lacks says what is missing, and whether it is hopeless.
func lacks(ctx context.Context, c client, sha string) (missing []string, hopeless bool) {
	var s web.Status
	if err := c.decode(ctx, "/status", &s); err != nil {
		return []string{err.Error()}, false
	}
	switch {
	case s.Config.State == "rejected" && s.Config.FileSHA256 == sha:
		missing = append(missing, "the agent rejects it:")
		for _, p := range s.Config.Problems {
			missing = append(missing, p.String())
		}
		return missing, true
	case s.Config.SHA256 != sha:
		return []string{fmt.Sprintf("the agent runs another file: %s, sha256 %.12s…, want %.12s…", s.Config.Path, s.Config.SHA256, sha)}, false
	}
	for _, one := range s.Consumers {
		if lack := lack(one); lack != "" {
			missing = append(missing, lack)
		}
	}
	if len(missing) == 0 && s.Config.State != "synced" {
		missing = append(missing, "the configuration is being applied")
	}
	return missing, false
}

// goals are the states that fulfil a wish.
var goals = map[config.State]consumer.State{
	config.Running: consumer.Running, config.Paused: consumer.Paused, config.Stopped: consumer.Created,
}

// lack says what is missing at one consumer.
func lack(c web.ConsumerStatus) string {
	goal := goals[c.Desired]
	switch {
	case c.Status == goal && c.PendingChange == nil:
		return ""
	case c.Status == goal:
		return c.Name + ": " + waits(c.PendingChange)
	case c.LastError != nil:
		return fmt.Sprintf("%s is %s, want %s: %s", c.Name, c.Status, goal, *c.LastError)
	}
	return fmt.Sprintf("%s is %s, want %s", c.Name, c.Status, goal)
}

// waits says why a change has not been made.
func waits(p *web.PendingChange) string {
	why := "it is being tried"
	if p.Error != nil {
		why = *p.Error
	}
	return fmt.Sprintf("%s of %s waits: %s", p.Action, strings.Join(p.Fields, ", "), why)
}
