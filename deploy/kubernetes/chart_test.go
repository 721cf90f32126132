package kubernetes

import (
	"encoding/json"
	"regexp"
	"testing"

	"kcagent/deploy/kubernetes/kubetest"
)

// TestBaseAgreesWithTheChart: the base has the same objects as the Helm chart with minimal
// values, apart from what only Helm has: its labels, the name of the release, and values that
// the agent or Kubernetes has by default.
func TestBaseAgreesWithTheChart(t *testing.T) {
	chart := make(map[string]string)
	for _, o := range kubetest.Validate(t, read(t, "../helm/testdata/minimal.golden.yaml")) {
		if o.Kind == "Pod" {
			continue // of helm test
		}
		text := marshal(t, o)
		for _, r := range []struct{ pattern, with string }{
			{`test-kcagent`, "kcagent"},
			{`("app.kubernetes.io/instance": )"test"`, `$1"kcagent"`},
			{`"(app.kubernetes.io/(version|managed-by)|helm.sh/chart)": "[^"]*",?`, ""},
			{`"image": "[^"]*/kcagent:1.0.0"`, `"image": "kcagent"`},
			{`\{\s*"name": "GOMEMLIMIT",\s*"value": "[^"]*"\s*\},?`, ""}, // what the agent computes
			{`,\s*"scheme": "HTTP"`, ""},
			{`"consumers.yaml": ".*"`, `"consumers.yaml": ""`},
			{`,(\s*[\]}])`, "$1"},
		} {
			text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
		}
		if err := json.Unmarshal([]byte(text), &o.Fields); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var named struct{ Metadata struct{ Name string } }
		o.Decode(t, &named)
		o.Name = named.Metadata.Name
		chart[o.String()] = marshal(t, o)
	}
	for _, o := range kubetest.Validate(t, kustomize(t, "base")) {
		text := regexp.MustCompile(`"consumers.yaml": ".*"`).ReplaceAllString(marshal(t, o), `"consumers.yaml": ""`)
		if want, ok := chart[o.String()]; text != want {
			t.Errorf("%s is\n%s\nin the chart (%v) it is\n%s", o, text, ok, want)
		}
		delete(chart, o.String())
	}
	for name := range chart {
		t.Errorf("only the chart has %s", name)
	}
}
