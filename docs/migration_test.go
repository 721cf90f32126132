package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kcagent/config"
)

// TestMigrationShowsEqualPipelines: in each section of docs/migration.md that shows the
// configuration of another program, the file of the agent has its brokers, topics and group.
func TestMigrationShowsEqualPipelines(t *testing.T) {
	var seen []string
	for title, section := range sections(read(t, "docs/migration.md")) {
		theirs := strings.Join(slices.Concat(blocks(section, "toml"), blocks(section, "yml"), blocks(section, "properties")), "\n")
		ours := blocks(section, "yaml")
		if theirs == "" && len(ours) == 0 {
			continue
		}
		seen = append(seen, title)
		if len(ours) != 1 {
			t.Errorf("%s: %d files of the agent, want 1", title, len(ours))
			continue
		}
		c, problems := config.Parse(title, []byte(ours[0]), os.LookupEnv)
		if len(problems) > 0 {
			t.Errorf("%s: %v", title, problems)
			continue
		}
		for _, consumer := range c.Consumers {
			group := strings.TrimPrefix(consumer.Group, "connect-") // Kafka Connect names the connector only
			for _, want := range slices.Concat(consumer.Cluster.Brokers, consumer.Topics, []string{group}) {
				if !regexp.MustCompile(`\b` + regexp.QuoteMeta(want) + `\b`).MatchString(theirs) {
					t.Errorf("%s: %q is only in the file of the agent", title, want)
				}
			}
			if strings.Contains(theirs, consumer.Sink.File.Path) {
				t.Errorf("%s: both write to %s", title, consumer.Sink.File.Path)
			}
		}
	}
	slices.Sort(seen)
	if want := []string{"Kafka Connect", "Redpanda Connect", "Telegraf", "Vector"}; !slices.Equal(seen, want) {
		t.Errorf("sections with configurations are %q, want %q", seen, want)
	}
}

// TestMigrationNamesKeysOfTheFile: each key in the second column of a table of
// docs/migration.md is in docs/configuration.md.
func TestMigrationNamesKeysOfTheFile(t *testing.T) {
	keys := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(read(t, "docs/configuration.md"), -1) {
		keys[m[1]] = true
	}
	values := []string{"read_committed", "read_uncommitted", "sticky", "connect-", "consumers"}
	found := 0
	for line := range strings.Lines(read(t, "docs/migration.md")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 2 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_.-]+)`").FindAllStringSubmatch(cells[1], -1) {
			found++
			if key := m[1]; !keys[key] && !keys["sink.file."+key] && !keys["limits."+key] && !keys[strings.TrimPrefix(key, "limits.")] && !slices.Contains(values, key) {
				t.Errorf("%s is no key of the file, in the row %s", key, line)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d keys were found", found)
	}
}

// sections returns the text below each heading of the second level.
func sections(page string) map[string]string {
	all := make(map[string]string)
	for _, part := range strings.Split("\n"+page, "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		all[title] = text
	}
	return all
}
