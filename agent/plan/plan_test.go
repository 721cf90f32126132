package plan

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"kcagent/config"
	"kcagent/sink"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// planDefaults comes before the consumers of each golden.
const planDefaults = `
clusters:
  main: {brokers: ["localhost:9092"]}
  same: {brokers: ["localhost:9092"]}
  other: {brokers: ["localhost:9093"]}
  near: {brokers: ["localhost:9092"], rack: zone-a}
  wider: {brokers: ["localhost:9092"], fetch: {max_bytes: 32MiB}}
  shorter: {brokers: ["localhost:9092"], session_timeout: 30s}
defaults:
  cluster: main
  topics: [t]
  sink: {file: {path: "/data/{name}.log"}}
consumers:
`

func parseConsumers(t *testing.T, text string) []config.Consumer {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		text = "  []"
	}
	c, problems := config.Parse("consumers.yaml", []byte(planDefaults+text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c.Consumers
}

// TestPlanGoldens: each file is one case: have.yaml, want.yaml and the plan. The consumers
// in "ending" are ending, and the specs in "pending.yaml" are pending.
func TestPlanGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d goldens, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := make(map[string]*txtar.File)
			for i := range a.Files {
				part[a.Files[i].Name] = &a.Files[i]
			}
			text := func(name string) string {
				if f := part[name]; f != nil {
					return string(f.Data)
				}
				return ""
			}
			have := make(map[string]Current)
			for _, c := range parseConsumers(t, text("have.yaml")) {
				have[c.Name] = Current{Spec: c}
			}
			for name := range strings.FieldsSeq(text("ending")) {
				h := have[name]
				h.Ending = true
				have[name] = h
			}
			for _, c := range parseConsumers(t, text("pending.yaml")) {
				if h, ok := have[c.Name]; ok && text("pending.yaml") != "" {
					h.Pending = &c
					have[c.Name] = h
				}
			}
			want := parseConsumers(t, text("want.yaml"))
			var got strings.Builder
			changes := Plan(want, have)
			for _, c := range changes {
				got.WriteString(c.String() + "\n")
				if c.Warning != "" {
					got.WriteString("  " + c.Warning + "\n")
				}
			}
			if *update {
				part["plan"].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != text("plan") {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", a.Comment, got.String(), text("plan"))
			}
			if again := Plan(want, started(changes, maps.Clone(have))); len(again) > 0 {
				t.Errorf("planning again while changes are pending gives %v, want nothing", again)
			}
			if again := Plan(want, applied(changes, maps.Clone(have))); len(again) > 0 && text("pending.yaml") == "" {
				t.Errorf("planning again after the changes gives %v, want nothing", again)
			}
		})
	}
}

// applied returns the consumers after all changes were applied.
func applied(changes []Change, have map[string]Current) map[string]Current {
	for _, c := range changes {
		switch c.Op {
		case Terminate:
			delete(have, c.Name)
		default:
			have[c.Name] = Current{Spec: c.Spec}
		}
	}
	return have
}

// started returns the consumers after the changes were started, while those that need a
// pre-check are pending.
func started(changes []Change, have map[string]Current) map[string]Current {
	for _, c := range changes {
		h := have[c.Name]
		switch {
		case c.Op == Terminate:
			delete(have, c.Name)
			continue
		case c.Op.preChecked() && h.Spec.State != config.Stopped && c.Spec.State != config.Stopped:
			h.Pending = &c.Spec
			h.Spec.State = c.Spec.State
		case h.Pending != nil && c.Op != Keep && c.Op != Stop && !c.Op.preChecked():
			h.Pending = &c.Spec
			h.Spec.State = c.Spec.State
		default:
			h = Current{Spec: c.Spec}
		}
		have[c.Name] = h
	}
	return have
}

// TestEveryFieldIsPlanned changes every field of a consumer in turn: an edit of a field that
// Plan ignores would have no effect.
func TestEveryFieldIsPlanned(t *testing.T) {
	base := fullConsumer()
	fields := 0
	var visit func(path string, v reflect.Value, of *config.Consumer)
	visit = func(path string, v reflect.Value, of *config.Consumer) {
		if v.Kind() == reflect.Pointer && hasTags(v.Type().Elem()) {
			visit(path, v.Elem(), of)
			return
		}
		if v.Kind() == reflect.Struct && hasTags(v.Type()) {
			for i := range v.NumField() {
				visit(path+"."+v.Type().Field(i).Name, v.Field(i), of)
			}
			return
		}
		if path == ".Name" {
			return // another name is another consumer
		}
		fields++
		old := reflect.ValueOf(v.Interface())
		set(t, v)
		if got := Plan([]config.Consumer{*of}, map[string]Current{base.Name: {Spec: base}}); len(got) == 0 {
			t.Errorf("Plan ignores a change of %s", path)
		}
		v.Set(old)
	}
	changed := fullConsumer()
	visit("", reflect.ValueOf(&changed).Elem(), &changed)
	if fields < 60 {
		t.Errorf("only %d fields were changed; does the walk reach the blocks?", fields)
	}
	if !reflect.DeepEqual(changed, base) {
		t.Error("the walk did not put everything back")
	}
}

func fullConsumer() config.Consumer {
	return config.Consumer{
		Name: "c", Brokers: []string{"a:1"}, Topics: []string{"t"}, State: config.Running,
		Cluster: config.Cluster{Brokers: []string{"a:1"}, TLS: &config.TLS{}, SASL: &config.SASL{OAuth: &config.OAuth{}, AWS: &config.AWS{}}},
		OnError: config.OnError{DeadLetter: &config.DeadLetter{File: &sink.FileSpec{Rotate: &sink.Rotate{}}}},
		Sink:    sink.Spec{File: &sink.FileSpec{Rotate: &sink.Rotate{}}, Objects: &sink.ObjectsSpec{TLS: &sink.ObjectsTLS{}}, Stdout: &sink.StdoutSpec{}},
	}
}

// set gives v another value than it has.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *config.Secret:
		*x = config.NewSecret("other")
		return
	case *config.Start:
		x.At = time.Unix(1, 0)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"another": "x"}))
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{"another"}))
	default:
		t.Fatalf("no other value for a %s", v.Type())
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{4, 3, 2, 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		have := make(map[string]Current)
		for _, c := range consumersFrom(a) {
			have[c.Name] = Current{Spec: c}
		}
		// Two edits: the second while the changes of the first are pending.
		for cs := range slices.Chunk(b, len(b)/2+1) {
			want := consumersFrom(cs)
			changes := Plan(want, have)
			have = started(changes, have)
			if again := Plan(want, have); len(again) > 0 {
				t.Errorf("planning again while %v are pending gives %v", changes, again)
			}
		}
		for name, h := range have {
			if h.Pending != nil {
				have[name] = Current{Spec: *h.Pending}
			}
		}
		want := consumersFrom(b)
		if again := Plan(want, applied(Plan(want, have), have)); len(again) > 0 {
			t.Errorf("planning again gives %v", again)
		}
	})
}

func consumersFrom(data []byte) []config.Consumer {
	seen := make(map[byte]bool)
	var cs []config.Consumer
	for _, d := range data {
		name := d & 7
		if seen[name] {
			continue
		}
		seen[name] = true
		c := fullConsumer()
		c.Name = string('a' + rune(name))
		c.State = config.State(config.Running.Values()[d>>3&3%3])
		c.Group = string('a' + rune(d>>5&1))
		c.Topics = []string{string('a' + rune(d>>4&1))}
		c.Flush.Interval = time.Duration(d >> 6)
		cs = append(cs, c)
	}
	return cs
}

// BenchmarkPlan plans an edit of one consumer among a thousand.
func BenchmarkPlan(b *testing.B) {
	have := make(map[string]Current)
	var want []config.Consumer
	for i := range 1000 {
		c := fullConsumer()
		c.Name = fmt.Sprintf("c%d", i)
		have[c.Name] = Current{Spec: c}
		if i == 500 {
			c.Group = "other"
		}
		want = append(want, c)
	}
	for b.Loop() {
		if n := len(Plan(want, have)); n != 1 {
			b.Fatalf("%d changes", n)
		}
	}
}
