package docs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
)

// statusSchema is the JSON Schema of /status, made from the structs that it is encoded
// from and their doc tags.
func statusSchema() string {
	schema := schemaOf(reflect.TypeFor[web.Status]())
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "/status of kcagent"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic("docs: encode the schema: " + err.Error()) // it holds maps, strings and lists alone
	}
	return string(text) + "\n"
}

func schemaOf(t reflect.Type) map[string]any {
	switch {
	case t.Kind() == reflect.Pointer:
		s := schemaOf(t.Elem())
		if kind, ok := s["type"].(string); ok {
			s["type"] = []string{kind, "null"}
		}
		return s
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Struct:
		properties, required := make(map[string]any), []string{}
		for _, f := range fieldsOf(t) {
			s := schemaOf(f.goType)
			s["description"] = f.doc
			properties[f.name] = s
			if !f.optional {
				required = append(required, f.name)
			}
		}
		return map[string]any{"type": "object", "properties": properties, "required": required}
	case reflect.Map:
		s := map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
		if values := valuesOf(t.Key()); values != nil {
			s["propertyNames"] = map[string]any{"enum": values}
		}
		return s
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.String:
		s := map[string]any{"type": "string"}
		if values := valuesOf(t); values != nil {
			s["enum"] = values
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "integer"}
}

// valuesOf lists the legal values of a type of texts; nil if any text is one.
func valuesOf(t reflect.Type) []string {
	if t == reflect.TypeFor[consumer.State]() {
		var states []string
		for _, s := range consumer.States {
			states = append(states, string(s))
		}
		return states
	}
	if e, ok := reflect.Zero(t).Interface().(interface{ Values() []string }); ok {
		return e.Values()
	}
	return nil
}

// A jsonField is a field of a struct as JSON.
type jsonField struct {
	name, doc string
	goType    reflect.Type
	optional  bool
}

func fieldsOf(t reflect.Type) []jsonField {
	var fields []jsonField
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields = append(fields, jsonField{name, f.Tag.Get("doc"), f.Type, strings.Contains(options, "omit")})
	}
	return fields
}

// writeFields writes a table of all fields, those of inner objects with their path.
func writeFields(b *strings.Builder, t reflect.Type) {
	b.WriteString("\n| field | type | meaning |\n|---|---|---|\n")
	writeRows(b, t, "")
}

func writeRows(b *strings.Builder, t reflect.Type, path string) {
	for _, f := range fieldsOf(t) {
		at := path + f.name
		kind, inner := describe(f.goType)
		if f.optional {
			kind += ", optional"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", at, kind, asCode(cell(f.doc)))
		if inner != nil {
			if pointed(f.goType).Kind() == reflect.Slice {
				at += "[]"
			}
			writeRows(b, inner, at+".")
		}
	}
}

// describe names a type for people, and returns the struct that it holds, if any.
func describe(t reflect.Type) (kind string, inner reflect.Type) {
	if t.Kind() == reflect.Pointer {
		kind, inner = describe(t.Elem())
		return kind + " or null", inner
	}
	if t == reflect.TypeFor[time.Time]() {
		return "time", nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return "object", t
	case reflect.Map:
		kind, inner = describe(t.Elem())
		return "object of " + kind, inner
	case reflect.Slice:
		kind, inner = describe(t.Elem())
		return "array of " + kind, inner
	case reflect.String:
		if values := valuesOf(t); values != nil {
			return code(values), nil
		}
		return "text", nil
	case reflect.Bool:
		return "boolean", nil
	}
	return "number", nil
}

// TestStatusFieldsAreDescribed: each field of /status and /threads has a description.
func TestStatusFieldsAreDescribed(t *testing.T) {
	var check func(reflect.Type)
	check = func(s reflect.Type) {
		for _, f := range fieldsOf(s) {
			if f.doc == "" {
				t.Errorf("%s.%s has no description: add a tag doc:\"…\"", s, f.name)
			}
			if _, inner := describe(f.goType); inner != nil {
				check(inner)
			}
		}
	}
	check(reflect.TypeFor[web.Status]())
	check(reflect.TypeFor[web.Threads]())
}

// TestStatusMatchesItsSchema validates the /status of a running agent, and shows that
// the schema rejects an invalid status.
func TestStatusMatchesItsSchema(t *testing.T) {
	schema := compile(t, statusSchema())
	validate := func(text string) error {
		t.Helper()
		status, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(status)
	}
	status := startDemo(t).get(t, "/status").body
	if err := validate(status); err != nil {
		t.Errorf("%v\nin\n%s", err, status)
	}
	for _, change := range [][2]string{
		{`"started_at": "`, `"started_at": "yesterday`},
		{`"status": "RUNNING"`, `"status": "ASLEEP"`},
		{`"partitions": [`, `"shares": [`},
		{`"last_error": null`, `"last_error": 7`},
	} {
		wrong := strings.ReplaceAll(status, change[0], change[1])
		if wrong == status || validate(wrong) == nil {
			t.Errorf("a status with %s is accepted, or the status has no %s", change[1], change[0])
		}
	}
	var fields web.Status
	strict := json.NewDecoder(strings.NewReader(status))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&fields); err != nil {
		t.Errorf("/status has a field that the schema does not describe: %v", err)
	}
}
