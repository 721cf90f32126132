package config

import (
	"encoding"
	"reflect"
	"testing"
)

// TestExamplesDecode: the example of each key is a value that the key accepts. Rules
// that concern several keys are not checked, because each example is checked alone.
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
		_, isText := reflect.New(inner).Interface().(encoding.TextUnmarshaler)
		isBlock := inner.Kind() == reflect.Struct && !isText
		if isBlock {
			checkExamples(t, inner)
		}
		if example == "" {
			if !isBlock {
				t.Errorf("%s.%s has no example", block, key)
			}
			continue
		}
		p := newParser("example", func(string) (string, bool) { return "", false })
		root := p.doc.Read([]byte(key + ": " + example))
		p.doc.Decode(root, "", reflect.New(block).Interface())
		if problems := p.doc.Problems(); len(problems) > 0 {
			t.Errorf("the example of %s.%s has problems: %v", block, key, problems)
		}
	}
}
