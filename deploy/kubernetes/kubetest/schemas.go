package kubetest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kcagent/e2e/tools"
)

// Versions are those of Kubernetes in which a manifest must be valid: the oldest that the
// manifests support, which is the first with native sidecars, and the newest.
var Versions = []string{"1.29.0", "1.37.0"}

// kubernetes is the Python package with the schemas of Kubernetes. Those that it calls
// strict reject unknown fields.
const kubernetes = "kubernetes-validate==1.37.0"

// operators are the Python packages with models of custom resources. Their schemas are
// taken from the models, which Python does once.
var operators = []string{"cloudcoil-models-prometheus-operator==0.80.1.0", "cloudcoil-models-keda==2.16.1.0"}

// customResources has the Python module of each kind that operators know.
var customResources = map[string]string{
	"monitoring.coreos.com/v1/ServiceMonitor":       "cloudcoil.models.prometheus_operator.v1",
	"monitoring.coreos.com/v1/PodMonitor":           "cloudcoil.models.prometheus_operator.v1",
	"monitoring.coreos.com/v1/PrometheusRule":       "cloudcoil.models.prometheus_operator.v1",
	"keda.sh/v1alpha1/ScaledObject":                 "cloudcoil.models.keda.v1alpha1",
	"keda.sh/v1alpha1/TriggerAuthentication":        "cloudcoil.models.keda.v1alpha1",
	"keda.sh/v1alpha1/ClusterTriggerAuthentication": "cloudcoil.models.keda.v1alpha1",
}

//go:embed schemas/application.json
var application []byte

// A compiled schema is kept until the process ends.
var compiled struct {
	sync.Mutex
	schemas map[string]*jsonschema.Schema
	files   map[string]any // decoded, by path
}

// violations returns what the schemas of the object's kind reject.
func violations(t testing.TB, o Object) (mistakes []string) {
	t.Helper()
	kind := o.APIVersion + "/" + o.Kind
	versions := Versions
	if _, custom := customResources[kind]; custom || kind == "argoproj.io/v1alpha1/Application" {
		versions = []string{""}
	}
	for _, version := range versions {
		schema, err := schemaOf(t, o, version)
		if err != nil {
			mistakes = append(mistakes, err.Error())
			continue
		}
		var invalid *jsonschema.ValidationError
		if err := schema.Validate(any(o.Fields)); errors.As(err, &invalid) {
			mistakes = append(mistakes, leaves(invalid)...)
		} else if err != nil {
			mistakes = append(mistakes, err.Error())
		}
	}
	return mistakes
}

// leaves returns the causes of an error that have no cause themselves, each with its place.
func leaves(err *jsonschema.ValidationError) (all []string) {
	if len(err.Causes) == 0 {
		return []string{err.Error()}
	}
	for _, cause := range err.Causes {
		all = append(all, leaves(cause)...)
	}
	return all
}

// schemaOf returns the schema of the object's kind in a version of Kubernetes.
func schemaOf(t testing.TB, o Object, version string) (*jsonschema.Schema, error) {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	kind := o.APIVersion + "/" + o.Kind
	if s := compiled.schemas[version+"/"+kind]; s != nil {
		return s, nil
	}
	var schema *jsonschema.Schema
	var err error
	switch {
	case kind == "argoproj.io/v1alpha1/Application":
		schema, err = compile(t, decode(t, application))
	case customResources[kind] != "":
		schema, err = compile(t, customSchemas(t)[kind])
	default:
		schema, err = builtIn(t, o, version)
	}
	if err != nil {
		return nil, err
	}
	if compiled.schemas == nil {
		compiled.schemas = make(map[string]*jsonschema.Schema)
	}
	compiled.schemas[version+"/"+kind] = schema
	return schema, nil
}

// builtIn returns the schema of a kind that Kubernetes itself has.
func builtIn(t testing.TB, o Object, version string) (*jsonschema.Schema, error) {
	t.Helper()
	none := fmt.Errorf("no schema of kind %s in %s of Kubernetes %s", o.Kind, o.APIVersion, version)
	group, v, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		group, v = "", o.APIVersion
	}
	name := strings.ToLower(o.Kind) + "-" + v + ".json"
	if group != "" {
		short, _, _ := strings.Cut(group, ".")
		name = strings.ToLower(o.Kind) + "-" + short + "-" + v + ".json"
	}
	if strings.ContainsAny(name, `/\`) {
		return nil, none
	}
	dir := filepath.Join(kubernetesSchemas(t), "v"+version+"-local-strict")
	doc := file(t, filepath.Join(dir, name))
	// The folder has the schemas of parts, such as PodSpec, as well.
	var head struct {
		Kinds []struct{ Group, Kind, Version string } `json:"x-kubernetes-group-version-kind"`
	}
	if text, err := json.Marshal(doc); err != nil || json.Unmarshal(text, &head) != nil {
		return nil, none
	}
	if !slices.Contains(head.Kinds, struct{ Group, Kind, Version string }{group, o.Kind, v}) {
		return nil, none
	}
	return compile(t, doc, file(t, filepath.Join(dir, "_definitions.json")))
}

// kubernetesSchemas returns the folder with one folder per version.
func kubernetesSchemas(t testing.TB) string {
	t.Helper()
	bin := tools.Python(t, tools.Require, "kubernetes-validate", kubernetes)
	pattern := filepath.Join(bin, "..", "lib", "python3*", "site-packages", "kubernetes_validate", "kubernetes-json-schema")
	dirs, err := filepath.Glob(pattern)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("schemas of %s not found: %s matches %v", kubernetes, pattern, dirs)
	}
	return dirs[0]
}

// file returns a decoded file, nil if it does not exist.
func file(t testing.TB, path string) any {
	t.Helper()
	if doc, ok := compiled.files[path]; ok {
		return doc
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if compiled.files == nil {
		compiled.files = make(map[string]any)
	}
	compiled.files[path] = decode(t, text)
	return compiled.files[path]
}

// customSchemas returns the schemas of customResources by kind. Python takes seconds to load
// the models, so that the result is kept in the folder of the environment.
func customSchemas(t testing.TB) map[string]any {
	t.Helper()
	bin := tools.Python(t, tools.Require, "cloudcoil-models", operators...)
	kinds, err := json.Marshal(customResources)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(bin, "..", "schemas.json")
	var dump struct {
		Of      json.RawMessage
		Schemas map[string]any
	}
	if text, err := os.ReadFile(kept); err == nil && json.Unmarshal(text, &dump) == nil && bytes.Equal(dump.Of, kinds) {
		return dump.Schemas
	}
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "python"), "-c", `
import importlib, json, sys
schemas = {}
for kind, module in json.loads(sys.argv[1]).items():
    model = getattr(importlib.import_module(module), kind.split("/")[-1])
    schemas[kind] = model.model_json_schema()
json.dump(schemas, sys.stdout)`, string(kinds))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &dump.Schemas); err != nil {
		t.Fatal(err)
	}
	for _, s := range dump.Schemas {
		closeObjects(s)
	}
	dump.Of = kinds
	text, err := json.Marshal(dump)
	if err != nil {
		t.Fatal(err)
	}
	// Renamed, because tests of several packages do this at the same time.
	temporary := fmt.Sprintf("%s.%d", kept, os.Getpid())
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, kept); err != nil {
		t.Fatal(err)
	}
	return dump.Schemas
}

// closeObjects lets each object of a schema that lists its properties reject all others.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		_, lists := s["properties"].(map[string]any)
		if _, set := s["additionalProperties"]; lists && !set && s["type"] == "object" {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			closeObjects(v)
		}
	case []any:
		for _, v := range s {
			closeObjects(v)
		}
	}
}

// compile compiles the first of some schemas. The others are those that it refers to.
func compile(t testing.TB, docs ...any) (*jsonschema.Schema, error) {
	t.Helper()
	c := jsonschema.NewCompiler()
	var first string
	for i, doc := range docs {
		id, _ := doc.(map[string]any)["$id"].(string)
		if id == "" {
			id = fmt.Sprintf("https://kubernetes.io/%d.json", i)
		}
		if i == 0 {
			first = id
		}
		if err := c.AddResource(id, doc); err != nil {
			return nil, err
		}
	}
	return c.Compile(first)
}

func decode(t testing.TB, text []byte) any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
