package config

import (
	"reflect"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestExamplesDecode: the example of each key is a value that the key accepts. Rules
// that concern several keys are not checked, for each example stands alone.
func TestExamplesDecode(t *testing.T) {
	for _, block := range []reflect.Type{reflect.TypeFor[Consumer](), reflect.TypeFor[Cluster](), reflect.TypeFor[Limits]()} {
		checkExamples(t, block)
	}
}

func checkExamples(t *testing.T, block reflect.Type) {
	for f := range block.Fields() {
		key, example := f.Tag.Get("yaml"), f.Tag.Get("example")
		if key == "-" {
			continue
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		isBlock := inner.Kind() == reflect.Struct && !isText(reflect.New(inner).Elem())
		if isBlock {
			checkExamples(t, inner)
		}
		if example == "" {
			if !isBlock {
				t.Errorf("%s.%s has no example", block, key)
			}
			continue
		}
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(key+": "+example), &document); err != nil {
			t.Errorf("%s.%s: %v", block, key, err)
			continue
		}
		p := newParser("example", func(string) (string, bool) { return "", false })
		root := p.resolve(document.Content[0], "", 0, nil)
		p.decode(root, "", reflect.New(block).Elem())
		if len(p.problems) > 0 {
			t.Errorf("the example of %s.%s has problems: %v", block, key, p.problems)
		}
	}
}
