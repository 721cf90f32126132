package strictyaml

import (
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// A block of keys, as another package would define it.
type block struct {
	Name  string        `yaml:"name"`
	Count int           `yaml:"count"`
	Wait  time.Duration `yaml:"wait"`
	Inner *block        `yaml:"inner"`
	Other string        `yaml:"-"`
}

// decode reads a document and returns the value and all problems.
func decode(text string) (block, string) {
	d := New(Options{File: "f", Root: "name", Getenv: func(name string) (string, bool) { return "7", name == "SEVEN" }})
	var b block
	if root := d.Read([]byte(text)); root != nil {
		d.Decode(root, "", &b)
	}
	return b, d.Problems().Error()
}

// TestAllProblemsAreReportedInOrder: a problem does not end the decoding.
func TestAllProblemsAreReportedInOrder(t *testing.T) {
	_, got := decode("name: [x]\ncout: 1\nwait: soon\ninner:\n  count: ${UNSET}\n  name: 5\n")
	want := `f:1:7: name: expected a text, found a list
f:2:1: cout: unknown key
  hint: did you mean "count"?
f:3:7: wait: invalid duration "soon"
  hint: use a duration such as 500ms, 1s or 2h30m
f:5:10: inner.count: environment variable UNSET is not set
  hint: set it, or use ${UNSET:-default}
f:6:9: inner.name: expected a text, found a number
  hint: quote it: "5"`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestVariablesHaveTheTypeOfTheirKey: the value of a variable may be a text or a number.
func TestVariablesHaveTheTypeOfTheirKey(t *testing.T) {
	b, problems := decode("name: ${SEVEN}\ncount: ${SEVEN}\n")
	if problems != "" || b.Name != "7" || b.Count != 7 {
		t.Errorf("got %+v, %s", b, problems)
	}
}

// TestFillPrefersOwnKeys: nested mappings are merged key by key.
func TestFillPrefersOwnKeys(t *testing.T) {
	parse := func(text string) *yaml.Node {
		t.Helper()
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		return document.Content[0]
	}
	filled := Fill(parse("{a: {x: own}}"), parse("{a: {x: default, y: default}, b: default, c: default}"), map[string]bool{"c": true})
	text, err := yaml.Marshal(filled)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(strings.Fields(string(text)), " "), "{a: {x: own, y: default}, b: default}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestReportFieldReportsAMistakeOnce: a field with a problem gets no second one.
func TestReportFieldReportsAMistakeOnce(t *testing.T) {
	d := New(Options{File: "f", Getenv: func(string) (string, bool) { return "", false }})
	root := d.Read([]byte("a: {b: 1}\n"))
	d.ReportField(root, "", "a.b", "first", "")
	d.ReportField(root, "", "a", "second", "")
	d.ReportField(root, "", "c", "third", "")
	if got := d.Problems().Error(); got != "f:1:1: c: third\nf:1:8: a.b: first" {
		t.Errorf("got\n%s", got)
	}
}
