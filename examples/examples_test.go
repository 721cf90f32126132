// Package examples has complete configuration files, which its tests keep valid.
package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/config"
)

// environment holds the variables that the examples require, as the table in README.md
// lists them.
var environment = map[string]string{"KAFKA_USERNAME": "reader", "API_KEY": "reader", "POD_NAME": "app-0"}

func getenv(name string) (string, bool) {
	value, ok := environment[name]
	return value, ok
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := config.Parse(file, data, getenv)
		if len(problems) > 0 {
			t.Errorf("%v", problems)
			continue
		}
		if len(c.Consumers) == 0 {
			t.Errorf("%s has no consumer", file)
		}
	}
}

// TestTableListsEveryExample: the table in README.md lists every example and every
// variable that it requires.
func TestTableListsEveryExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(string(readme)) {
		if rest, ok := strings.CutPrefix(line, "| ["); ok {
			name, _, _ := strings.Cut(rest, "]")
			rows[name] = line
		}
	}
	files, _ := filepath.Glob("*.yaml")
	if len(rows) != len(files) {
		t.Errorf("the table has %d rows for %d files", len(rows), len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range environment {
			if strings.Contains(string(data), "${"+name+"}") && !strings.Contains(rows[file], "`"+name+"`") {
				t.Errorf("the row of %s lacks %s", file, name)
			}
		}
		if rows[file] == "" {
			t.Errorf("%s is not in the table", file)
		}
	}
}

func TestDefaultsExampleAppliesDefaultsAndOverrides(t *testing.T) {
	c, _, problems := config.Load("many-with-defaults.yaml", getenv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, consumer := range c.Consumers {
		switch f := consumer.Sink.File; consumer.Name {
		case "clicks":
			if f.Path != "/data/clicks/{topic}-{partition}.jsonl" || f.Durability != "none" || consumer.Flush.Bytes != 16<<20 {
				t.Errorf("the defaults of clicks came out as %+v, %+v", *f, consumer.Flush)
			}
		case "history":
			if consumer.ClusterName != "archive" || f.Path != "/data/history/orders.log" {
				t.Errorf("history came out as %+v, %+v", consumer, *f)
			}
		}
	}
}
