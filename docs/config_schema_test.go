package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"kcagent/config"
)

// TestExamplesMatchTheConfigurationSchema: an editor that validates with the output of
// `kcagent schema` accepts each example, and rejects a misspelt key.
func TestExamplesMatchTheConfigurationSchema(t *testing.T) {
	schema := compile(t, string(config.Schema()))
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples: ", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(fromYAML(t, string(text))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if schema.Validate(fromYAML(t, "consumers: [{name: a, topcs: [t]}]")) == nil {
		t.Error("a misspelt key is accepted")
	}
	if err := schema.Validate(fromYAML(t, "x-anchors: {a: 1}\nconsumers: [{name: a, topics: '${TOPICS}'}]")); err != nil {
		t.Errorf("a key for anchors, or a list from a variable: %v", err)
	}
	if schema.Validate(fromYAML(t, "consumers: [{name: a, x-team: b}]")) == nil {
		t.Error("a key that begins with x- is accepted in a consumer")
	}
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// fromYAML returns the value that a JSON text of the same content has.
func fromYAML(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}
