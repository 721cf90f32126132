// Package deploy has the alerts for Prometheus and the dashboard for Grafana. Its tests
// check them with promtool, with the types of Grafana's dashboards, and with a real
// Prometheus that scrapes an agent: see [TestAlertsFireAndClear].
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/loud"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}

const (
	rulesFile     = "prometheus/kcagent.rules.yaml"
	rulesTestFile = "prometheus/kcagent.rules.test.yaml"
	dashboardFile = "grafana/kcagent.json"
	runbookFile   = "../docs/alerts.md"
)

// program returns the path of a program of the package prometheus of Debian. Without it, the
// test is skipped.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_PROMETHEUS", name+" is not installed (Debian: apt-get install prometheus)")
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An alertRule is one alert of the rules.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// A ruleFile is a file of rules for Prometheus.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name  string      `yaml:"name"`
	Rules []alertRule `yaml:"rules"`
}

func readRules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	d := yaml.NewDecoder(strings.NewReader(read(t, rulesFile)))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if len(f.Groups) != 1 || len(f.Groups[0].Rules) == 0 {
		t.Fatalf("%s has %d groups, want one with rules", rulesFile, len(f.Groups))
	}
	return f
}

// TestPromtoolAcceptsTheRules, the example of a configuration, and the unit tests of the
// rules.
func TestPromtoolAcceptsTheRules(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", rulesFile},
		{"check", "config", "prometheus/scrape.yaml"},
		{"test", "rules", rulesTestFile},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestCollectorScrapesAsPrometheusDoes: the part of the collector's configuration for its
// prometheus receiver is valid for Prometheus, and its pipeline exists.
func TestCollectorScrapesAsPrometheusDoes(t *testing.T) {
	promtool := program(t, "promtool")
	var c struct {
		Receivers struct {
			Prometheus struct{ Config yaml.Node }
		}
		Exporters map[string]yaml.Node
		Service   struct {
			Pipelines struct {
				Metrics struct{ Receivers, Exporters []string }
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(read(t, "opentelemetry/collector.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(&c.Receivers.Prometheus.Config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "config", file).CombinedOutput(); err != nil || !strings.Contains(string(text), "job_name: kcagent") {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
	p := c.Service.Pipelines.Metrics
	if _, ok := c.Exporters["otlphttp"]; !ok || !slices.Equal(p.Receivers, []string{"prometheus"}) || !slices.Equal(p.Exporters, []string{"otlphttp"}) {
		t.Errorf("the pipeline is %v", p)
	}
}

// TestEachAlertIsTestedAndDescribed: it has a severity, texts, unit tests in which it fires
// and does not fire, and a paragraph in the runbook, to which its link leads.
func TestEachAlertIsTestedAndDescribed(t *testing.T) {
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Alert string      `yaml:"alertname"`
				Want  []yaml.Node `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal([]byte(read(t, rulesTestFile)), &tests); err != nil {
		t.Fatal(err)
	}
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, test := range tests.Tests {
		for _, a := range test.Alerts {
			if len(a.Want) > 0 {
				fires[a.Alert] = true
			} else {
				silent[a.Alert] = true
			}
		}
	}
	runbook := read(t, runbookFile)
	headings := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^### (Kcagent.*)$`).FindAllStringSubmatch(runbook, -1) {
		headings[m[1]] = true
	}
	for _, r := range readRules(t).Groups[0].Rules {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: a unit test in which it fires: %v, in which it does not: %v", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", r.Alert)
		}
		if want := "docs/alerts.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !headings[r.Alert] {
			t.Errorf("docs/alerts.md has no heading ### %s", r.Alert)
		}
		delete(headings, r.Alert)
	}
	for h := range headings {
		t.Errorf("docs/alerts.md describes %s, which is no alert", h)
	}
}

// documented returns the labels of each metric of docs/metrics.md, by its name.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	labels := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(kcagent_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		var names []string
		for _, l := range regexp.MustCompile("`([a-z_0-9]+)`").FindAllStringSubmatch(m[3], -1) {
			names = append(names, l[1])
		}
		labels[m[1]] = names
		if m[2] == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				labels[m[1]+suffix] = append(slices.Clone(names), "le")
			}
		}
	}
	if len(labels) < 30 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(labels))
	}
	return labels
}

// targetLabels are the labels that Prometheus adds, and the name of an alert and its state.
var targetLabels = []string{"job", "instance", "alertname", "alertstate"}

// TestNamedMetricsExist: each metric that the rules, the dashboard and the documents name is
// in the reference, with each label by which they select or group it.
func TestNamedMetricsExist(t *testing.T) {
	known := documented(t)
	selector := regexp.MustCompile(`(kcagent_[a-z_]*[a-z])(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
	texts := map[string]string{rulesFile: read(t, rulesFile), rulesTestFile: read(t, rulesTestFile)}
	for _, p := range panelsOf(readDashboard(t)) {
		texts["panel "+*p.Title] = strings.Join(queriesOf(t, p), "\n")
	}
	for _, v := range readDashboard(t).Templating.List {
		if v.Query != nil && v.Query.Map != nil {
			texts["variable "+v.Name], _ = v.Query.Map["query"].(string)
		}
	}
	for _, pattern := range []string{"../*.md", "../docs/*.md", "prometheus/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			texts[file] = read(t, file)
		}
	}
	found := 0
	for where, text := range texts {
		for _, m := range selector.FindAllStringSubmatch(text, -1) {
			labels, ok := known[m[1]]
			if !ok {
				if m[1] != "kcagent_partition" { // the pattern kcagent_partition_.*
					t.Errorf("%s names %s, which is not in docs/metrics.md", where, m[1])
				}
				continue
			}
			found++
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels, l[1]) && !slices.Contains(targetLabels, l[1]) {
					t.Errorf("%s selects %s by %s, but its labels are %v", where, m[1], l[1], labels)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d metrics are named: adapt the pattern", found)
	}
	checkGroups(t, known)
}

// checkGroups checks the labels of by and on in each expression with all metrics in it.
func checkGroups(t *testing.T, known map[string][]string) {
	t.Helper()
	exprs := make(map[string]string)
	for _, r := range readRules(t).Groups[0].Rules {
		exprs[r.Alert] = r.Expr
	}
	for _, p := range panelsOf(readDashboard(t)) {
		for i, e := range queriesOf(t, p) {
			exprs[*p.Title+string(rune('A'+i))] = e
		}
	}
	for where, expr := range exprs {
		for _, m := range regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(m[1], ", ") {
				for _, name := range regexp.MustCompile(`kcagent_[a-z_]+`).FindAllString(expr, -1) {
					if !slices.Contains(known[name], l) && !slices.Contains(targetLabels, l) {
						t.Errorf("%s groups %s by %s, but its labels are %v", where, name, l, known[name])
					}
				}
			}
		}
	}
}
