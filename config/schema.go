package config

import (
	"encoding"
	"encoding/json"
	"reflect"
	"time"

	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

// Schema returns the JSON Schema of the file, for editors. It is made from the structs
// that the file is decoded into. It is a little more lenient than Parse, which checks rules
// that a schema cannot express.
func Schema() []byte {
	consumer := block(reflect.TypeFor[Consumer]())
	defaults := block(reflect.TypeFor[Consumer]())
	delete(defaults["properties"].(map[string]any), "name")
	defaults["description"] = "Sets the keys that a consumer leaves out, nested blocks included."
	consumer["required"] = []string{"name"}

	cluster := block(reflect.TypeFor[Cluster]())
	cluster["required"] = []string{"brokers"}
	properties := block(reflect.TypeFor[Config]())["properties"].(map[string]any)
	properties["clusters"].(map[string]any)["additionalProperties"] = cluster
	properties["consumers"].(map[string]any)["items"] = consumer
	properties["defaults"] = defaults
	text, err := json.MarshalIndent(map[string]any{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "kcagent consumers.yaml",
		"type":                 "object",
		"properties":           properties,
		"patternProperties":    map[string]any{"^x-": true}, // ignored, for anchors
		"required":             []string{"consumers"},
		"additionalProperties": false,
	}, "", "  ")
	if err != nil {
		panic("config: encode the schema: " + err.Error()) // it holds maps, strings and lists alone
	}
	return append(text, '\n')
}

// block returns the schema of a struct.
func block(t reflect.Type) map[string]any {
	properties := make(map[string]any)
	for f := range t.Fields() {
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		s := schemaOf(f.Type)
		s["description"] = f.Tag.Get("doc")
		if e := f.Tag.Get("example"); e != "" {
			var value any
			if err := yaml.Unmarshal([]byte(e), &value); err != nil {
				panic("config: the example of " + key + " is not YAML: " + err.Error()) // a test reads all of them
			}
			s["examples"] = []any{value}
		}
		properties[key] = s
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if t == reflect.TypeFor[sink.Spec]() {
		s["minProperties"], s["maxProperties"] = 1, 1
	}
	return s
}

// variable matches a value from the environment, which any scalar may be.
const variable = `^\$\{.+\}$`

func schemaOf(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		return schemaOf(t.Elem())
	}
	if e, ok := reflect.Zero(t).Interface().(interface{ Values() []string }); ok {
		return orVariable(map[string]any{"enum": e.Values()})
	}
	switch t {
	case reflect.TypeFor[OnError]():
		return map[string]any{"anyOf": []any{orVariable(map[string]any{"enum": []string{string(StopPartition), string(Skip)}}), block(t)}}
	case reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "examples": []string{"500ms", "1s", "1h"}}
	case reflect.TypeFor[sink.Size]():
		return map[string]any{"type": []string{"string", "integer"}, "examples": []string{"512KiB", "8MiB", "10MB"}}
	case reflect.TypeFor[sink.Mode]():
		return map[string]any{"type": []string{"string", "integer"}, "examples": []string{"0640"}}
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		return block(t)
	case reflect.Map:
		return map[string]any{"type": "object"}
	case reflect.Slice:
		return orVariable(map[string]any{"type": "array", "items": schemaOf(t.Elem())})
	case reflect.Bool:
		return orVariable(map[string]any{"type": "boolean"})
	case reflect.Int:
		return orVariable(map[string]any{"type": "integer"})
	}
	return map[string]any{"type": "string"}
}

// orVariable accepts s or a variable.
func orVariable(s map[string]any) map[string]any {
	return map[string]any{"anyOf": []any{s, map[string]any{"type": "string", "pattern": variable}}}
}
