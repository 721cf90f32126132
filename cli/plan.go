package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"kcagent/agent/plan"
	"kcagent/cli/client"
	"kcagent/cli/command"
	"kcagent/config"
)

// exitChanges is the exit code of a plan with changes. Every error of this command is
// [command.Failure], because 2 has another meaning here.
const exitChanges = 2

func newPlan() *cobra.Command {
	c := &cobra.Command{
		Use:   "plan",
		Short: "show what a file would change in the running agent",
		Long: `
Each change is one line with the keys that cause it and its cost to the consumer group:

  ! replace orders  cost: leave and join  (group)

With --output json stdout is one object:

  {"changes": [{"action": "replace", "consumer": "orders", "fields": ["group"],
                "cost": "leave and join", "warning": ""}],
   "summary": {"replace": 1},
   "untouched": 2,
   "settings": [{"key": "log_level", "from": "", "to": "debug"}]}

The actions are create, start, pause, resume, update, resubscribe, stop, replace and
terminate. Settings are keys of the agent itself, which touch no consumer; "" means that
the file does not set the key.`,
		Example: "kcagent plan --config consumers.yaml --url http://127.0.0.1:8080",
	}
	command.Exits(c, "the file changes nothing", "an error, also if the agent would reject the file", "the file changes something")
	command.UsageFails(c)
	var file string
	configFlag(c, &file, "configuration `file` to compare with the agent, the same as the argument")
	command.FileArg(c, &file)
	address := urlFlag(c, "; if empty, the file is compared with an agent without consumers")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		changes, err := runPlan(c.Context(), streamsOf(c), file, *address, *output)
		if err == nil && changes > 0 {
			return command.Reported(exitChanges)
		}
		return err
	}
	return c
}

// runPlan shows what a file would change in the running agent, or in one without consumers.
func runPlan(ctx context.Context, io streams, file, address, output string) (changes int, err error) {
	if err := checkExists(file); err != nil {
		return 0, err
	}
	want, _, problems := config.Load(file, os.LookupEnv)
	if len(problems) > 0 {
		return 0, problems
	}
	printWarnings(io, want.Warnings)
	have := &config.Config{}
	if address != "" {
		c, err := newClient(address)
		if err != nil {
			return 0, err
		}
		if have, err = runningConfig(ctx, c, want); err != nil {
			return 0, err
		}
		if p := plan.Guard(have.Consumers, want); p != nil {
			p.File = file
			return 0, fmt.Errorf("the agent would reject the file: %s", p)
		}
	}
	report := comparePlan(have, want)
	if output == "json" {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		return report.changes(), enc.Encode(report)
	}
	_, err = fmt.Fprint(io.out, report.text(coloured(io.out)))
	return report.changes(), err
}

// runningConfig returns the configuration that the agent has applied. Secrets that are the
// same in mine are known, see [config.FromNormalised].
func runningConfig(ctx context.Context, c client.Client, mine *config.Config) (*config.Config, error) {
	var shown struct {
		Config json.RawMessage              `json:"config"`
		Seals  map[string]config.SecretHash `json:"seals"`
	}
	if err := c.Decode(ctx, "/config", &shown); err != nil {
		return nil, err
	}
	have, err := config.FromNormalised(shown.Config, shown.Seals, mine)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the agent: %w; check that the agent has the version of this command", err)
	}
	return have, nil
}

// A planReport is the output of the command.
type planReport struct {
	Changes   []planned      `json:"changes"`
	Summary   map[string]int `json:"summary"` // by action
	Untouched int            `json:"untouched"`
	Settings  []setting      `json:"settings"` // of the agent itself
}

// A setting is a changed key of the agent itself.
type setting struct {
	Key  string `json:"key"`
	From string `json:"from"` // "" if it was not set
	To   string `json:"to"`
}

// changes counts everything that the file changes.
func (p planReport) changes() int { return len(p.Changes) + len(p.Settings) }

type planned struct {
	Action   string   `json:"action"`
	Consumer string   `json:"consumer"`
	Fields   []string `json:"fields"`
	Cost     string   `json:"cost"`
	Warning  string   `json:"warning"` // "" if there is none
}

func comparePlan(have, want *config.Config) planReport {
	running := make(map[string]plan.Current, len(have.Consumers))
	for _, c := range have.Consumers {
		running[c.Name] = plan.Current{Spec: c}
	}
	p := planReport{Changes: []planned{}, Summary: map[string]int{}, Settings: []setting{}}
	if from, to := have.LogLevel, want.LogLevel; from != to {
		p.Settings = append(p.Settings, setting{"log_level", string(from), string(to)})
	}
	p.Settings = append(p.Settings, changedLimits(have.Limits, want.Limits)...)
	touched := make(map[string]bool)
	for _, c := range plan.Plan(want.Consumers, running) {
		fields := c.Fields
		if fields == nil {
			fields = []string{}
		}
		p.Changes = append(p.Changes, planned{string(c.Op), c.Name, fields, c.Cost(), c.Warning})
		p.Summary[string(c.Op)]++
		touched[c.Name] = true
	}
	for _, c := range want.Consumers {
		if !touched[c.Name] {
			p.Untouched++
		}
	}
	return p
}

// changedLimits lists the limits that differ. An agent without consumers has none to compare
// with: the zero value.
func changedLimits(have, want config.Limits) (changed []setting) {
	if have == (config.Limits{}) {
		return nil
	}
	from, to := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range from.NumField() {
		if a, b := fmt.Sprint(from.Field(i)), fmt.Sprint(to.Field(i)); a != b {
			changed = append(changed, setting{"limits." + from.Type().Field(i).Tag.Get("yaml"), a, b})
		}
	}
	return changed
}

// styles are the mark and the colour of each action.
var styles = map[string]struct{ mark, colour string }{
	string(plan.Create): {"+", "32"}, string(plan.Start): {"+", "32"},
	string(plan.Terminate): {"-", "31"}, string(plan.Stop): {"-", "31"},
	string(plan.Replace): {"!", "33"}, string(plan.Resubscribe): {"!", "33"},
}

// text returns a line for each change, one more for its warning, and a summary.
func (p planReport) text(coloured bool) string {
	var b strings.Builder
	width, actions := 0, 0
	for _, c := range p.Changes {
		width, actions = max(width, len(c.Consumer)), max(actions, len(c.Action))
	}
	for _, c := range p.Changes {
		style := styles[c.Action]
		if style.mark == "" {
			style.mark, style.colour = "~", "36"
		}
		line := fmt.Sprintf("%s %-*s %-*s  cost: %s", style.mark, actions, c.Action, width, c.Consumer, c.Cost)
		if len(c.Fields) > 0 {
			line += "  (" + strings.Join(c.Fields, ", ") + ")"
		}
		if coloured {
			line = "\x1b[" + style.colour + "m" + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
		if c.Warning != "" {
			b.WriteString("  warning: " + c.Warning + "\n")
		}
	}
	for _, s := range p.Settings {
		fmt.Fprintf(&b, "~ %s  cost: none  (from %s to %s)\n", s.Key, cmp.Or(s.From, "unset"), cmp.Or(s.To, "unset"))
	}
	switch {
	case p.changes() == 0:
		fmt.Fprintf(&b, "no changes; %s untouched\n", count(p.Untouched, "consumer"))
		return b.String()
	case len(p.Changes) == 0:
		fmt.Fprintf(&b, "%s; %s untouched\n", count(len(p.Settings), "setting"), count(p.Untouched, "consumer"))
		return b.String()
	}
	var parts []string
	for _, op := range plan.Ops {
		if n := p.Summary[string(op)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, op))
		}
	}
	fmt.Fprintf(&b, "%s: %s; %s untouched\n", count(len(p.Changes), "change"),
		strings.Join(parts, ", "), count(p.Untouched, "consumer"))
	return b.String()
}
