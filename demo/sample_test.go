package demo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"kcagent/config"
	"kcagent/sink"
)

func unset(string) (string, bool) { return "", false }

func TestSampleIsValid(t *testing.T) {
	f := func(dir string) {
		t.Helper()
		text, err := sample(dir, filesText)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := config.Parse(sampleName, []byte(text), unset)
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		states := make(map[string]config.State)
		formats := make(map[sink.Format]bool)
		for _, consumer := range c.Consumers {
			states[consumer.Name] = consumer.State
			formats[consumer.Sink.File.Format] = true
			if got := filepath.Dir(consumer.Sink.File.Path); got != filepath.Join(dir, dataDir) {
				t.Errorf("%s writes into %s", consumer.Name, got)
			}
			for _, topic := range consumer.Topics {
				if topics[topic] == 0 {
					t.Errorf("%s reads %s, which the broker does not have", consumer.Name, topic)
				}
			}
			if b := consumer.Cluster.Brokers; len(b) != 1 || b[0] != preferredAddr {
				t.Errorf("%s has the brokers %v", consumer.Name, b)
			}
		}
		if len(states) != 3 || states["orders"] != config.Running || states["payments"] != config.Running || states["audit"] != config.Paused {
			t.Errorf("consumers: %v", states)
		}
		if !formats[sink.Raw] || !formats[sink.JSON] {
			t.Errorf("formats: %v", formats)
		}
	}
	f("/tmp/demo")
	f(`/tmp/a "strange" $HOME $$ folder: # 'of' ü<&>`)
}

func TestSampleReadsTheBrokerFromTheEnvironment(t *testing.T) {
	text, err := sample("/tmp/demo", filesText)
	if err != nil {
		t.Fatal(err)
	}
	c, problems := config.Parse(sampleName, []byte(text), func(name string) (string, bool) {
		return "127.0.0.1:1", name == BrokerEnv
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got := c.Consumers[0].Cluster.Brokers[0]; got != "127.0.0.1:1" {
		t.Errorf("broker %s", got)
	}
}

func TestExistingSampleIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for it")
	path := filepath.Join(dir, sampleName)
	if kept, err := writeSample(dir, false); kept || err != nil {
		t.Fatalf("first: kept %v, %v", kept, err)
	}
	const edited = "consumers: [] # edited"
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if kept, err := writeSample(dir, false); !kept || err != nil {
		t.Errorf("second: kept %v, %v", kept, err)
	}
	if text, err := os.ReadFile(path); string(text) != edited || err != nil {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

// TestSampleWithObjectsIsValid: orders and payments have objects sinks into a folder of the demo.
func TestSampleWithObjectsIsValid(t *testing.T) {
	for _, dir := range []string{"/tmp/demo", "/tmp/a strange $HOME $$ folder: 'of' ü<&>"} {
		text, err := sample(dir, objectsText)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := config.Parse(sampleName, []byte(text), unset)
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		for _, consumer := range c.Consumers {
			o := consumer.Sink.Objects
			if consumer.Name == "audit" {
				if consumer.State != config.Paused || o != nil {
					t.Errorf("%s is %s, with the sink %s", consumer.Name, consumer.State, consumer.Sink)
				}
				continue
			}
			if o == nil || o.URL != "file://"+filepath.Join(dir, objectsDir) || o.Spool != filepath.Join(dir, spoolDir) || o.Rotate.Every > 10*time.Second || o.Format != sink.JSON {
				t.Errorf("%s has the sink %+v", consumer.Name, o)
			}
		}
		if len(c.Consumers) != 3 || len(c.Warnings) > 0 {
			t.Errorf("%d consumers, warnings %v", len(c.Consumers), c.Warnings)
		}
	}
}
