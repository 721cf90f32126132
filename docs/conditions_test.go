package docs

import (
	"regexp"
	"strings"
	"testing"

	"kcagent/condition"
)

// TestConditionsAreListed: the table of docs/operations.md has each kind of condition that
// lasts, and the messages of the table exist.
func TestConditionsAreListed(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "docs/operations.md"), "### Conditions that last")
	table, _, _ = strings.Cut(table, "\n## ")
	listed := read(t, "docs/log-messages.md")
	reminders := make(map[string]bool)
	message := regexp.MustCompile("`([^`=]+ [^`=]+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			continue
		}
		for i, cell := range cells[1:] {
			for _, m := range message.FindAllStringSubmatch(cell, -1) {
				if i == 1 {
					reminders[m[1]] = true
				}
				if !strings.Contains(listed, "| `"+m[1]+"` |") {
					t.Errorf("the table of conditions has %q, which is no log message", m[1])
				}
			}
		}
	}
	for _, k := range condition.Kinds() {
		if !reminders[k.Reminder] {
			t.Errorf("the table of conditions in docs/operations.md lacks the reminder %q", k.Reminder)
		}
	}
}
