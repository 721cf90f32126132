package docs

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/agent/plan"
	"kcagent/config"
	"kcagent/sink"
)

// configurationPage is the reference of the file. It comes from the structs that the
// file is decoded into: key, type and description from the field, the default from a
// file that sets nothing else, and the cost of a change from the planner.
func configurationPage(t *testing.T) string {
	defaults := defaultValues(t)
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString(configurationIntro)
	list := func(title, intro string, settings []setting, root string, cost func(setting) string) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, intro)
		b.WriteString("| key | type | default | cost of a change | meaning |\n|---|---|---|---|---|\n")
		for _, s := range settings {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.key, typeOf(s.field.Type), defaultOf(t, s, root, defaults), cost(s), meaning(s))
		}
	}
	section := func(title, intro string, block reflect.Type, root string, cost func(setting) string) {
		list(title, intro, settingsOf(block, "", nil), root, cost)
	}
	section("consumers, defaults", consumersIntro, reflect.TypeFor[config.Consumer](), "consumer", func(s setting) string { return costOf(s, nil) })
	section("clusters", clustersIntro, reflect.TypeFor[config.Cluster](), "cluster", func(s setting) string {
		return costOf(s, func(c *config.Consumer) reflect.Value { return reflect.ValueOf(&c.Cluster).Elem() })
	})
	// The limits belong to no consumer, so that no plan has them: an edit applies them.
	section("limits", limitsIntro, reflect.TypeFor[config.Limits](), "limits", func(setting) string { return "none" })
	list("other keys", otherKeysIntro, slices.DeleteFunc(settingsOf(reflect.TypeFor[config.Config](), "", nil), func(s setting) bool {
		return s.field.Type.Kind() != reflect.String || len(s.index) > 1
	}), "", func(setting) string { return "none" })
	b.WriteString(envelope)
	return b.String()
}

// A setting is a key of the file, with its blocks: flush.interval.
type setting struct {
	key   string
	field reflect.StructField
	index [][]int // of the field, and before it of the blocks that hold it
}

// settingsOf lists the keys of a block in the order of its fields, each block before
// its keys.
func settingsOf(block reflect.Type, prefix string, index [][]int) []setting {
	var list []setting
	for f := range block.Fields() {
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		s := setting{prefix + name, f, append(index[:len(index):len(index)], f.Index)}
		list = append(list, s)
		if inner := pointed(f.Type); isBlock(inner) {
			list = append(list, settingsOf(inner, s.key+".", s.index)...)
		}
	}
	return list
}

func pointed(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isBlock distinguishes a block of keys from a struct that is one value, such as a
// [config.Start].
func isBlock(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeOf(t reflect.Type) string {
	t = pointed(t)
	if e, ok := reflect.Zero(t).Interface().(interface{ Values() []string }); ok {
		return "`" + strings.Join(e.Values(), "`, `") + "`"
	}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[sink.Size]():
		return "size"
	case reflect.TypeFor[sink.Mode]():
		return "octal number"
	case reflect.TypeFor[config.Start]():
		return "`earliest`, `latest`, time"
	case reflect.TypeFor[config.OnError]():
		return "`stop`, `skip`, block"
	case reflect.TypeFor[config.Secret]():
		return "secret text"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "block"
	case reflect.Map:
		return "mapping"
	case reflect.Slice:
		return "list of texts"
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int:
		return "number"
	}
	return "text"
}

// defaultValues is what the parser makes of files that leave out everything that they
// can, by the section of the page and the key.
func defaultValues(t *testing.T) map[string]any {
	t.Helper()
	values := make(map[string]any)
	for _, sink := range []string{"stdout: {}", "file: {path: /data/x}", "objects: {url: s3://bucket}"} {
		text := "clusters: {main: {brokers: [localhost:9092]}}\nconsumers: [{name: x, cluster: main, topics: [t], sink: {" + sink + "}}]\n"
		c, problems := config.Parse("default.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		var file struct {
			Clusters  map[string]any
			Limits    any
			Consumers []any
		}
		shown, err := json.Marshal(c.Normalised())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(shown, &file); err != nil {
			t.Fatal(err)
		}
		flatten("limits", file.Limits, values)
		flatten("cluster", file.Clusters["main"], values)
		flatten("consumer", file.Consumers[0], values)
	}
	return values
}

func flatten(path string, value any, into map[string]any) {
	if m, ok := value.(map[string]any); ok {
		for key, v := range m {
			flatten(path+"."+key, v, into)
		}
		return
	}
	into[path] = value
}

// defaultOf is the default that the parser sets, or what the field's tag says where it
// sets none.
func defaultOf(t *testing.T, s setting, root string, defaults map[string]any) string {
	if text := s.field.Tag.Get("default"); text != "" {
		return asCode(text)
	}
	if isBlock(pointed(s.field.Type)) {
		return "see its keys"
	}
	value, ok := defaults[root+"."+s.key]
	if !ok {
		t.Errorf("%s has no default: set one in the parser, or describe it in a tag default:\"…\"", s.key)
	}
	text := fmt.Sprint(value)
	if minutes, ok := strings.CutSuffix(text, "m0s"); ok { // as people write it
		text = minutes + "m"
	}
	return "`" + text + "`"
}

// costOf returns what a change of the key costs a running consumer, by the planner. at finds
// the block that holds the keys in a consumer; nil is the consumer itself.
func costOf(s setting, at func(*config.Consumer) reflect.Value) string {
	if at == nil {
		at = func(c *config.Consumer) reflect.Value { return reflect.ValueOf(c).Elem() }
		switch s.key {
		case "name":
			return "leave and join: another name is another consumer"
		case "state":
			return stateCost()
		case "cluster", "brokers":
			return "none if the cluster is the same, else leave and join"
		}
	}
	if isBlock(s.field.Type) {
		return "see its keys"
	}
	before, after := fullConsumer(), fullConsumer()
	v := at(&after)
	for _, index := range s.index {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		v = v.FieldByIndex(index)
	}
	alter(v)
	return planCost(before, after)
}

func planCost(before, after config.Consumer) string {
	costs := "none"
	for _, c := range plan.Plan([]config.Consumer{after}, map[string]plan.Current{before.Name: {Spec: before}}) {
		costs = c.Cost()
	}
	return costs
}

func stateCost() string {
	from := func(a, b config.State) string {
		before, after := fullConsumer(), fullConsumer()
		before.State, after.State = a, b
		return planCost(before, after)
	}
	return fmt.Sprintf("pause and resume: %s; stop: %s; start: %s",
		from(config.Running, config.Paused), from(config.Running, config.Stopped), from(config.Stopped, config.Running))
}

// fullConsumer has every block, so that each key can be changed.
func fullConsumer() config.Consumer {
	return config.Consumer{
		Name: "x", State: config.Running, Topics: []string{"t"},
		Cluster: config.Cluster{TLS: new(config.TLS), SASL: &config.SASL{OAuth: new(config.OAuth), AWS: new(config.AWS)}},
		Sink:    sink.Spec{File: &sink.FileSpec{Rotate: new(sink.Rotate)}, Objects: &sink.ObjectsSpec{TLS: new(sink.ObjectsTLS)}, Stdout: new(sink.StdoutSpec)},
	}
}

// alter changes a value to one that differs.
func alter(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[config.Start]():
		v.Set(reflect.ValueOf(config.Start{Latest: true}))
	case v.Type() == reflect.TypeFor[config.OnError]():
		v.Set(reflect.ValueOf(config.OnError{Action: config.Skip}))
	case v.Type() == reflect.TypeFor[config.Secret]():
		v.Set(reflect.ValueOf(config.NewSecret("another")))
	case v.Kind() == reflect.Pointer:
		v.SetZero()
	case v.Kind() == reflect.Slice:
		v.Set(reflect.ValueOf([]string{"another"}))
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"another": "x"}))
	case v.Kind() == reflect.String:
		v.SetString("another")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	default:
		panic("docs: cannot change a " + v.Type().String())
	}
}

// meaning is the description of a key, with its example.
func meaning(s setting) string {
	text := asCode(cell(s.field.Tag.Get("doc")))
	if e := s.field.Tag.Get("example"); e != "" {
		name := s.key[strings.LastIndexByte(s.key, '.')+1:]
		text += fmt.Sprintf(" Example: `%s: %s`", name, cell(e))
	}
	return text
}

// codeLike matches what a description writes without quotes, which a struct tag cannot
// have: keys, placeholders, variables.
var codeLike = regexp.MustCompile(`\$?\{[A-Za-z_:]*\}|[a-z]+-<[a-z]+>|\$[A-Z]+\b|\b[a-z]+(?:\[\d+\])?(?:[._][a-z]+)+\b`)

func asCode(text string) string { return codeLike.ReplaceAllString(text, "`$0`") }

const configurationIntro = `# The configuration file

` + "`kcagent run --config consumers.yaml`" + ` runs the consumers that one YAML file declares. This page lists every key. ` + "`kcagent schema`" + ` prints the same as a JSON Schema, for editors.

` + "```yaml" + `
clusters:
  main:
    brokers: [kafka-1:9093, kafka-2:9093]
    tls: {ca_file: /etc/kcagent/ca.pem}
    sasl: {mechanism: SCRAM-SHA-512, username: kcagent, password_file: /run/secrets/kafka}

defaults:
  cluster: main
  flush: {interval: 500ms}

consumers:
  - name: orders
    topics: [orders, refunds]
    sink:
      file: {path: /data/orders.log}
  - name: audit
    topics: [audit]
    state: paused
    sink:
      file: {path: "/data/{name}/{topic}-{partition}.jsonl", format: json}
` + "```" + `

The agent validates the file strictly. An unknown key, a duplicate key or name, a wrong type, an invalid combination or a second document is an error with line, column, path and often a hint. All errors are reported together.

- **Variables.** ` + "`${NAME}` and `${NAME:-default}`" + ` in a value are replaced from the environment; ` + "`$$`" + ` is a dollar sign. A variable that is not set is an error. Inside ` + "`{ }` or `[ ]`" + ` such a value needs quotes. A newline at the end of a variable is ignored. A variable in a list of texts may hold several elements, separated by commas: ` + "`brokers: ${BROKERS}`" + `, or ` + "`topics: [audit, \"${TOPICS}\"]`" + `. A text in the file is not split. ` + "`$NAME`, `$(command)`, `~/`, `%NAME%`, `<name>` and `{{ template }}`" + ` are not expanded, and are errors; in a password or user name, which may look like this, they cause a warning.
- **Placeholders.** ` + "`{name}` in `group`, `instance_id`, `sink.file.path` and `url`, `key` and `spool` of `sink.objects`" + ` is the name of the consumer, also in ` + "`defaults`: `group: \"team-{name}\"`" + `.
- **Anchors.** Keys of the top level that begin with ` + "`x-`" + ` are ignored. They can hold blocks for aliases and merge keys: ` + "`x-file: &file {format: json}`, then `file: {<<: *file, path: …}`" + `.
- **An explicit zero** is not the default. It is an error, except in ` + "`sink.file.rotate`" + `, where it means no limit.
- **Warnings.** Secrets and user names that look like a mistake, and groups that several consumers share, are reported by ` + "`kcagent validate`, `kcagent plan`" + ` and the log. The file is still applied.
- **Sizes** are ` + "`512KiB`, `8MiB`, `1GiB`, `10MB`" + `, or a number of bytes.
- **Durations** are ` + "`250ms`, `1s`, `1h30m`" + `.
- **An empty file** is an error, and so is a missing one. To run no consumers, write ` + "`consumers: []`" + `.

The column *cost of a change* says what an edit of the key costs the group of a running consumer. ` + "`kcagent plan`" + ` shows the same for a file.

| cost | what happens |
|---|---|
| none | the consumer applies the value and stays a member of its group |
| one rebalance | the same member joins its group again |
| leave and join | the consumer flushes, commits and leaves; then a new one joins. The agent runs a pre-check first, while the consumer continues unchanged |
`

const consumersIntro = "`consumers` is a list with one entry per consumer. `defaults` accepts the same keys except `name`; a consumer inherits each key that it does not set, also within nested blocks."

const clustersIntro = "`clusters` names the Kafka clusters. A change of a cluster applies to each consumer that uses it. A new name for a cluster with the same content costs nothing."

const limitsIntro = "`limits` bounds the number of consumers, what one edit may remove, and the size of one record batch."

const otherKeysIntro = "These keys of the file concern the agent itself."

const envelope = `
## The JSON envelope

With ` + "`format: json`" + ` each record is one line:

` + "```json" + `
{"topic":"orders","partition":0,"offset":42,"timestamp":"2026-01-31T08:00:00.000Z","key":"7","value":"…","headers":[{"key":"source","value":"shop"}]}
` + "```" + `

A key or value that is not valid UTF-8 is encoded as ` + "`key_base64` or `value_base64`" + `; a null is ` + "`null`" + `. The timestamp is that of the record, or ` + "`null`" + ` if the record has none. RFC 3339 covers the years 0000 to 9999: an earlier or later timestamp is written as ` + "`0000-01-01T00:00:00.000Z` or `9999-12-31T23:59:59.999Z`" + `.
`
