// Package helm has the Helm chart of kcagent, in the folder kcagent. Its tests run Helm: they
// compare what it renders with golden files, and start the agent as a rendered manifest says.
package helm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"kcagent/cli"
	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/tools"
)

//go:generate go test -count=1 -update .

var update = flag.Bool("update", false, "write the golden files, the copies in the chart and its README instead of comparing them")

const (
	chart       = "kcagent"
	helmPackage = "helm.sh/helm/v3/cmd/helm@v3.22.0"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}

// helm runs Helm and returns what it prints. It ignores the user's configuration of Helm.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(tools.Go(t, helmPackage), args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+filepath.Join(home, "none"))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), problems.String())
	}
	if problems.Len() > 0 { // such as a value that is merged into another type
		return "", fmt.Errorf("helm %s prints %s", strings.Join(args, " "), problems.String())
	}
	return out.String(), nil
}

// template renders the chart as release "test" in namespace "data". Many tests render the same
// values, so Helm runs once for them.
func template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tools.Go(t, helmPackage) // may skip the test, so not within the function that runs once
	type result struct {
		out string
		err error
	}
	render := func() result {
		out, err := helm(t, append([]string{"template", "test", chart, "--namespace=data"}, args...)...)
		return result{out, err}
	}
	once, _ := rendered.LoadOrStore(strings.Join(args, "\x00"), sync.OnceValue(render))
	r := once.(func() result)()
	return r.out, r.err
}

var rendered sync.Map // from arguments to a function that returns the result

// valueSets returns the files with values in testdata.
func valueSets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var sets []string
	for _, f := range files {
		if !strings.HasSuffix(f, ".golden.yaml") {
			sets = append(sets, f)
		}
	}
	if len(sets) < 5 {
		t.Fatalf("testdata has only %v", sets)
	}
	return sets
}

// wantFile compares a file with its expected content, or writes it with -update.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if has := read(t, path); has != want {
		t.Errorf("%s is out of date: run go generate ./deploy/helm and read the difference", path)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLint: Helm finds nothing in the chart, with each set of values.
func TestLint(t *testing.T) {
	t.Parallel()
	args := []string{"lint", "--strict", "--quiet", chart}
	if out, err := helm(t, args...); err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	for _, set := range valueSets(t) {
		if out, err := helm(t, append(args, "--values="+set)...); err != nil || out != "" {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestGoldens: each set of values renders as its golden file, and each manifest matches the
// schema of its kind, and refers to names that exist.
func TestGoldens(t *testing.T) {
	for _, set := range valueSets(t) {
		t.Run(filepath.Base(set), func(t *testing.T) {
			t.Parallel()
			out, err := template(t, "--values="+set)
			if err != nil {
				t.Fatal(err)
			}
			wantFile(t, strings.TrimSuffix(set, ".yaml")+".golden.yaml", out)
			kubetest.References(t, kubetest.Validate(t, out))
		})
	}
}

// TestChartHasCopies of the rules and the dashboard: Helm reads files of the chart only.
func TestChartHasCopies(t *testing.T) {
	t.Parallel()
	for copied, original := range map[string]string{
		"kcagent.rules.yaml": "../prometheus/kcagent.rules.yaml",
		"kcagent.json":       "../grafana/kcagent.json",
	} {
		wantFile(t, filepath.Join(chart, "files", copied), read(t, original))
	}
}

// TestReadmeShowsTheMinimalValues, so that the example for newcomers is one that is tested. The
// commands install the chart of the same release, as deploy/release names its archive.
func TestReadmeShowsTheMinimalValues(t *testing.T) {
	t.Parallel()
	_, values, _ := strings.Cut(read(t, "testdata/minimal.yaml"), "\n") // after its comment
	if !strings.Contains(read(t, filepath.Join(chart, "README.md")), "# values.yaml\n"+values+"```\n") {
		t.Error("the README does not show the values of testdata/minimal.yaml")
	}
	_, c := agent(t, render(t, "--values=testdata/minimal.yaml"), "test-kcagent")
	_, tag, _ := strings.Cut(c.Image, ":")
	for _, page := range []string{filepath.Join(chart, "README.md"), "../../docs/kubernetes.md"} {
		if !strings.Contains(read(t, page), "helm install orders kcagent-"+tag+"-chart.tgz --values values.yaml\n") {
			t.Errorf("%s does not install the chart of %s", page, c.Image)
		}
	}
}

// TestDocumentedValuesRender: docs/kubernetes.md shows values that the chart accepts. The blocks
// have the language yml; those with yaml are manifests.
func TestDocumentedValuesRender(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?ms)^```yml\n(.*?)^```$").FindAllStringSubmatch(read(t, "../../docs/kubernetes.md"), -1)
	if len(blocks) < 2 {
		t.Fatalf("the page has %d blocks with values", len(blocks))
	}
	for i, m := range blocks {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i)+".yaml")
		if err := os.WriteFile(file, []byte(m[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := template(t, "--values="+file)
		if err != nil {
			t.Errorf("%v\n%s", err, m[1])
			continue
		}
		kubetest.References(t, kubetest.Validate(t, out))
	}
}

// TestNotes: after an install, the notes name the pods, and warn of what is missing.
func TestNotes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), chart)
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{ // helm template does not print the notes
		"notes.txt":            read(t, filepath.Join(chart, "templates", "NOTES.txt")),
		"templates/notes.yaml": `text: {{ tpl (.Files.Get "notes.txt") . | quote }}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ set, want, not string }{
		{"http.port=9090", "kubectl port-forward -n data test-kcagent-0 8080:9090", "WARNING"},
		{"http.port=9090", "/kcagent status --url http://127.0.0.1:9090", "WARNING"},
		{"replicas=1", "No consumer is declared yet", "WARNING"},
		{"config.consumers[0].name=a", "helm test test -n data", "No consumer is declared yet"},
		{"configText=consumers: []", "WARNING: configText has no instance_id", "No consumer is declared yet"},
		{"persistence.enabled=false", "kubectl exec -n data deploy/test-kcagent -- /kcagent status", "test-kcagent-0"},
		{"persistence.enabled=false,configText=consumers: []", "port-forward -n data deploy/test-kcagent 8080", "WARNING"},
		{"configText=${POD_NAME}", "the ConfigMap test-kcagent.", "WARNING"},
		{"existingConfigMap=other", "the ConfigMap other.", "No consumer is declared yet"},
		{"http.webConfigSecret=web", "kubectl port-forward", "kubectl exec"},
	} {
		out, err := helm(t, "template", "test", dir, "--namespace=data", "--show-only=templates/notes.yaml", "--set="+c.set)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, c.want) || strings.Contains(out, c.not) {
			t.Errorf("with %s, the notes do not contain %q, or contain %q:\n%s", c.set, c.want, c.not, out)
		}
	}
}

const schemaFile = chart + "/values.schema.json"

// TestSchemaContainsTheSchemaOfTheFile: Helm rejects a config that the agent would reject. Only
// the mode of a file must be a text: Helm passes on 0640 as the decimal number 416.
func TestSchemaContainsTheSchemaOfTheFile(t *testing.T) {
	t.Parallel()
	var out, problems bytes.Buffer
	if code := cli.Run([]string{"schema"}, &out, &problems); code != 0 {
		t.Fatal(problems.String())
	}
	var schema map[string]any
	if err := json.Unmarshal(out.Bytes(), &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema, "$schema") // the schema around it has it
	if n := onlyTextModes(schema); n == 0 {
		t.Error("the schema has no mode of a file")
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	written, _, ok := strings.Cut(read(t, schemaFile), `  "$defs": {`)
	if !ok {
		t.Fatalf("%s has no $defs", schemaFile)
	}
	wantFile(t, schemaFile, written+`  "$defs": {
    "consumers": `+strings.TrimSpace(text.String())+`
  }
}
`)
}

// onlyTextModes makes the type of each property "mode" a text, and returns their number.
func onlyTextModes(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		if properties, ok := v["properties"].(map[string]any); ok {
			if mode, ok := properties["mode"].(map[string]any); ok {
				mode["type"] = "string"
				n++
			}
		}
		for _, child := range v {
			n += onlyTextModes(child)
		}
	case []any:
		for _, child := range v {
			n += onlyTextModes(child)
		}
	}
	return n
}
