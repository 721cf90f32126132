package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// testEnv is the environment of every test.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"EMPTY": "", "NUMBER": "7", "WORD": "word", "BROKER": "localhost:9092", "PASSWORD": "hunter2-hunter2",
		"BROKERS": "b:2, a:1,", "TOPICS": "orders,refunds", "LINE": "line\n", "PASSWORD_LINE": "hunter2-hunter2\r\n",
	}[name]
	return v, ok
}

func goldens(t *testing.T, dir string, least int, check func(t *testing.T, in []byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(files) < least {
		t.Fatalf("%d goldens in %s, want at least %d: %v", len(files), dir, least, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil || len(a.Files) != 2 {
				t.Fatalf("%d parts, want the file and the result: %v", len(a.Files), err)
			}
			got := check(t, a.Files[0].Data)
			if *update {
				a.Files[1].Data = got
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if string(got) != string(a.Files[1].Data) {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", a.Comment, got, a.Files[1].Data)
			}
		})
	}
}

// TestMistakesAreReportedWithPlaceAndHint: one golden for each mistake.
func TestMistakesAreReportedWithPlaceAndHint(t *testing.T) {
	goldens(t, "bad", 40, func(t *testing.T, in []byte) []byte {
		c, problems := Parse("consumers.yaml", in, testEnv)
		if c != nil || len(problems) == 0 {
			t.Fatal("no problem was found")
		}
		for i, p := range problems {
			if p.File != "consumers.yaml" || p.Message == "" || p.Line > 0 && p.Column < 1 {
				t.Errorf("problem without its place: %+v", p)
			}
			if i > 0 && p.Line < problems[i-1].Line {
				t.Error("problems are not in the order of the file")
			}
			if strings.Contains(p.String(), "hunter2") {
				t.Errorf("a secret shows: %s", p)
			}
		}
		return []byte(problems.Error() + "\n")
	})
}

// TestDefaultsAreFilledIn: one golden for each valid file, with all defaults.
func TestDefaultsAreFilledIn(t *testing.T) {
	goldens(t, "good", 5, func(t *testing.T, in []byte) []byte {
		c, problems := Parse("consumers.yaml", in, testEnv)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		text, err := json.MarshalIndent(c.Normalised(), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "hunter2") {
			t.Error("a secret shows")
		}
		return append(text, '\n')
	})
}

// TestWarningsDoNotRejectTheFile: one golden for each warning.
func TestWarningsDoNotRejectTheFile(t *testing.T) {
	goldens(t, "warned", 3, func(t *testing.T, in []byte) []byte {
		c, problems := Parse("consumers.yaml", in, testEnv)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for _, w := range c.Warnings {
			if w.Line < 1 || w.Column < 1 || strings.Contains(w.String(), "hunter2") {
				t.Errorf("warning without its place, or with a secret: %s", w)
			}
		}
		return []byte(c.Warnings.Error() + "\n")
	})
}

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := Parse("consumers.yaml", []byte(text), testEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// TestSameMeaningIsEqual: two files that mean the same parse to equal values. Otherwise an
// edit without meaning would restart a consumer.
func TestSameMeaningIsEqual(t *testing.T) {
	base := parse(t, `
clusters: {main: {brokers: [b:2, a:1]}}
consumers:
- {name: c, cluster: main, topics: [y, x], sink: {file: {path: /data/c.log}}}
`)
	same := `
# a comment
clusters:
  main: {brokers: [a:1, b:2, a:1], fetch: {max_wait: 0.5s}, session_timeout: 45000ms}
defaults: {cluster: main, flush: {interval: 1000ms}}
consumers:
- name: c
  group: kcagent-c
  state: running
  start: earliest
  topics: [x, y, x]
  flush: {bytes: 64MiB}
  max_partition_bytes: 1048576
  sink: {file: {path: "/data//{name}.log", format: raw, mode: 0640, delivery: exactly_once, durability: fsync, compression: none, rotate: {}}}
`
	if got := parse(t, same); !reflect.DeepEqual(got.Consumers, base.Consumers) {
		t.Errorf("%s\nmeans %+v\nnot   %+v", same, got.Consumers, base.Consumers)
	}
}

func TestAnchorsAndMergeKeysAreResolved(t *testing.T) {
	got := parse(t, `
consumers:
- &a {name: a, brokers: [a:1], topics: &t [x], sink: {stdout: {}}}
- {<<: *a, name: b}
- {name: c, brokers: [a:1], topics: *t, sink: {stdout: {format: raw}}}
`).Consumers
	if len(got) != 3 || got[1].Name != "b" || got[1].Topics[0] != "x" || got[2].Sink.Stdout.Format != sink.Raw {
		t.Errorf("parsed to %+v", got)
	}
}

// TestAliasBombIsRejected: a small file that stands for a huge one by aliases.
func TestAliasBombIsRejected(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	_, problems := Parse("f", []byte(b.String()), testEnv)
	if !strings.Contains(problems.Error(), "too large") {
		t.Errorf("problems are %.300s", problems.Error())
	}
}

func TestProblemsPointAtTheText(t *testing.T) {
	text := "consumers:\n- name: a\n  brokers: [\"a:1\"]\n  topics: [t]\n  sink:\n    file: {path: /x, formt: raw}\n"
	_, problems := Parse("f", []byte(text), testEnv)
	if len(problems) != 1 {
		t.Fatal(problems)
	}
	line := strings.Split(text, "\n")[problems[0].Line-1]
	if !strings.HasPrefix(line[problems[0].Column-1:], "formt") {
		t.Errorf("%s does not point at it", problems[0])
	}
}

func TestLocateFindsTheNearestNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	text := "consumers:\n- name: a\n  topics: [t]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := Locate(path, "consumers[0].topics", "m"); p.Line != 3 || p.Column != 11 {
		t.Errorf("located at %d:%d", p.Line, p.Column)
	}
	if p := Locate(path, "consumers[0].sink.file", "m"); p.Line != 2 {
		t.Errorf("a missing key is located at line %d, want its consumer's", p.Line)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	c := parse(t, `
clusters: {main: {brokers: [a:1], sasl: {mechanism: PLAIN, username: u, password: "${PASSWORD}"}}}
consumers: [{name: a, cluster: main, topics: [t], sink: {stdout: {}}}]
`)
	s := c.Clusters["main"].SASL
	if s.Password.Reveal() != "hunter2-hunter2" {
		t.Fatalf("the password is %q", s.Password.Reveal())
	}
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&shown, verb+"\n", s.Password)
		fmt.Fprintf(&shown, verb+"\n", *s)
		fmt.Fprintf(&shown, verb+"\n", struct{ hidden SASL }{*s})
		fmt.Fprintf(&shown, verb+"\n", c.Consumers)
	}
	for _, v := range []any{c.Normalised(), c, s} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(j)
	}
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(y)
	log := slog.New(slog.NewJSONHandler(&shown, nil))
	log.Info("m", "password", s.Password, "sasl", s, "config", c)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("m", "password", s.Password, "sasl", *s)
	for _, part := range []string{"hunter2", "68756e74657232", "68756E74657232"} { // plain and hex
		if strings.Contains(shown.String(), part) {
			t.Errorf("a secret shows:\n%s", shown.String())
		}
	}
	if !strings.Contains(shown.String(), "<secret>") && !strings.Contains(shown.String(), `\u003csecret\u003e`) {
		t.Error("nothing shows that there is a secret")
	}
}

// TestSchemaNamesEveryKey: the schema is made from the structs; the test proves that the
// walk reaches all of them.
func TestSchemaNamesEveryKey(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var visit func(s map[string]any, t reflect.Type, path string)
	visit = func(s map[string]any, of reflect.Type, path string) {
		properties, _ := s["properties"].(map[string]any)
		for f := range of.Fields() {
			key := f.Tag.Get("yaml")
			if key == "-" {
				continue
			}
			sub, ok := properties[key].(map[string]any)
			if !ok {
				t.Errorf("the schema has no %s.%s", path, key)
				continue
			}
			if sub["description"] == "" {
				t.Errorf("%s.%s has no description", path, key)
			}
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if ft == reflect.TypeFor[OnError]() { // or a text
				sub = sub["anyOf"].([]any)[1].(map[string]any)
			}
			if ft.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Secret]() && f.Type != reflect.TypeFor[Start]() {
				visit(sub, ft, path+"."+key)
			}
		}
	}
	visit(schema, reflect.TypeFor[Config](), "")
	properties := schema["properties"].(map[string]any)
	visit(properties["consumers"].(map[string]any)["items"].(map[string]any), reflect.TypeFor[Consumer](), "consumers")
	visit(properties["clusters"].(map[string]any)["additionalProperties"].(map[string]any), reflect.TypeFor[Cluster](), "clusters")
}

func TestSizesHaveBinaryAndDecimalUnits(t *testing.T) {
	f := func(text string, want sink.Size) {
		t.Helper()
		var s sink.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	f("512KiB", 512<<10)
	f("8MiB", 8<<20)
	f("1GiB", 1<<30)
	f("10MB", 10e6)
	f("4096", 4096)
	for _, bad := range []string{"", "-1", "1.5MiB", "MiB", "1 XB", "99999999999GiB"} {
		if err := new(sink.Size).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read as a size", bad)
		}
	}
}

// thousand is a file of as many consumers, whose paths look as if they could conflict.
func thousand(t testing.TB, path string) []byte {
	t.Helper()
	var b strings.Builder
	b.WriteString("clusters: {main: {brokers: ['localhost:9092']}}\ndefaults: {cluster: main, sink: {file: {format: json}}}\nconsumers:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "- name: c%d\n  topics: [t%d]\n  flush: {interval: 2s}\n  sink: {file: {path: %q}}\n", i, i, path)
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, path := range []string{"/data/{name}.log", "/data/{topic}.log", "/data/{topic}-{partition}.log"} {
		b.Run(path, func(b *testing.B) {
			data := thousand(b, path)
			for b.Loop() {
				if _, problems := Parse("f", data, testEnv); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		files, _ := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
		for _, file := range files {
			if a, err := txtar.ParseFile(file); err == nil && len(a.Files) > 0 {
				f.Add(a.Files[0].Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Parse("f", data, testEnv)
		if (c == nil) == (len(problems) == 0) {
			t.Fatalf("neither or both of configuration and problems: %v", problems)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 {
				t.Errorf("problem without its place: %s", p)
			}
		}
		if c != nil {
			if _, err := json.Marshal(c.Normalised()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestStartTimesAreUTC(t *testing.T) {
	var s Start
	if err := s.UnmarshalText([]byte("2026-01-31T08:00:00+02:00")); err != nil || !s.At.Equal(time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC)) {
		t.Errorf("start is %v, %v", s, err)
	}
}
