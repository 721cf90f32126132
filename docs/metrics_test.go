package docs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const prefix = "kcagent_"

// metricsPage is what a scraper finds in a running agent.
func metricsPage(t *testing.T, agent demoAgent) string {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(agent.get(t, "/metrics").body))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString(metricsIntro)
	var factors []int // series of the agent, of each consumer, of each partition, of each objects sink
	var tables strings.Builder
	for _, scope := range []struct {
		title string
		has   func(f *dto.MetricFamily, labels []string) bool
	}{
		{"The agent", func(_ *dto.MetricFamily, labels []string) bool { return !slices.Contains(labels, "consumer") }},
		{"Each consumer", func(f *dto.MetricFamily, labels []string) bool {
			return slices.Contains(labels, "consumer") && !slices.Contains(labels, "partition") && of(f, "orders") > 0
		}},
		{"Each assigned partition", func(_ *dto.MetricFamily, labels []string) bool { return slices.Contains(labels, "partition") }},
		{"Each consumer with an objects sink", func(f *dto.MetricFamily, labels []string) bool {
			return slices.Contains(labels, "consumer") && !slices.Contains(labels, "partition") && of(f, "orders") == 0
		}},
	} {
		total := 0
		fmt.Fprintf(&tables, "\n## %s\n\n| metric | type | labels | series | meaning |\n|---|---|---|---|---|\n", scope.title)
		for _, name := range slices.Sorted(maps.Keys(families)) {
			f := families[name]
			if labels := labelsOf(f); strings.HasPrefix(name, prefix) && scope.has(f, labels) {
				n, per := series(f, labels)
				total += n
				fmt.Fprintf(&tables, "| `%s` | %s | %s | %d%s | %s |\n", name, strings.ToLower(f.GetType().String()),
					code(labels), n, per, cell(f.GetHelp()))
			}
		}
		factors = append(factors, total)
	}
	fmt.Fprintf(&b, metricsCardinality, factors[0], factors[1], factors[2], factors[0]+1000*factors[1]+10_000*factors[2], factors[3])
	b.WriteString(tables.String())
	checkAllScraped(t, families)
	return b.String()
}

func labelsOf(f *dto.MetricFamily) []string {
	var labels []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, l.GetName())
	}
	slices.Sort(labels)
	return labels
}

func code(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "`" + w + "`"
	}
	return strings.Join(quoted, ", ")
}

// series returns how many time series the metric has, and for what.
func series(f *dto.MetricFamily, labels []string) (n int, per string) {
	switch {
	case slices.Contains(labels, "partition"):
		return 1, " per partition"
	case slices.Contains(labels, "consumer"):
		return max(of(f, "orders"), of(f, archive)), " per consumer"
	}
	return of(f, ""), ""
}

// of returns how many time series the metric has for a consumer; with "", of all.
func of(f *dto.MetricFamily, consumer string) (all int) {
	for _, m := range f.GetMetric() {
		n := 1
		if h := m.GetHistogram(); h != nil {
			n = len(h.GetBucket()) + 2 // with +Inf; the sum and the count
		}
		counts := consumer == ""
		for _, l := range m.GetLabel() {
			counts = counts || l.GetName() == "consumer" && l.GetValue() == consumer
		}
		if counts {
			all += n
		}
	}
	return all
}

// checkAllScraped compares the scraped metrics with those that the source declares: one
// that has no series yet would be missing on the page.
func checkAllScraped(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	declared := regexp.MustCompile(`describe(?:Metric|Histogram)\("([a-z_]+)"|Name: +"kcagent_([a-z_]+)"`)
	found := false
	for _, source := range sources(t, "agent") {
		for _, m := range declared.FindAllStringSubmatch(source, -1) {
			found = true
			if name := prefix + m[1] + m[2]; families[name] == nil {
				t.Errorf("%s is declared, but the agent of the demo has no series of it", name)
			}
		}
	}
	if !found {
		t.Error("the source declares no metrics: adapt the pattern")
	}
}

// sources returns the text of each Go file of the program below a folder of the module, by
// its path: without tests, and without packages for tests, such as disktest and testkit.
func sources(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(filepath.Join("..", folder), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (strings.HasSuffix(path, "test") || strings.HasSuffix(path, "testkit")) {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const metricsIntro = `# Metrics

` + "`/metrics`" + ` serves the Prometheus and the OpenMetrics format. All names begin with ` + "`kcagent_`" + `, and all values are in base units: seconds, bytes, records.

- The labels of a consumer's metrics are its name, and the topic and number of a partition for the metrics of partitions. There is no label for a group, member or error, so the number of series does not grow with time.
- The column *series* is the number of time series. A histogram has one per bucket, one for the sum and one for the count.
- A terminated consumer has no series.
- Offsets and lag cover the partitions that are assigned to this member, and are absent while it has none. A lag that is unknown for another reason is absent, too: it is not a lag of 0. [operations.md](operations.md#lag) describes what it means, and an alert for its absence.
- ` + "`/metrics`" + ` also has the Go collectors (` + "`go_…`" + `) and the process collectors (` + "`process_…`" + `).
`

const metricsCardinality = `
## Number of series

An agent has at most ` + "`%d + %d × consumers + %d × partitions`" + ` series of its own, where *partitions* is the number of partitions that are assigned to its consumers, plus fewer than 100 of the Go and process collectors. With 1,000 consumers of 10 partitions each, these are %d series. A consumer with an objects sink has %d more. To store fewer, drop ` + "`kcagent_partition_.*`" + ` with ` + "`metric_relabel_configs`" + `: no alert needs them.
`
