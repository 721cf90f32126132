package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/cli/command"
	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/stores"
)

// putObject stores an object of partition 3 of the topic orders below a folder, and returns its key.
func putObject(t *testing.T, url string, first, last int, key string) string {
	t.Helper()
	return putObjectOf(t, url, 3, first, last, key, nil)
}

// putObjectOf stores an object of the topic orders with further metadata.
func putObjectOf(t *testing.T, url string, partition, first, last int, key string, more map[string]string) string {
	t.Helper()
	s, err := stores.Open(t.Context(), &sink.ObjectsSpec{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if key == "" {
		key = fmt.Sprintf("orders/dt=2026-11-28/hour=03/orders-%d-%020d-%020d-abcdefgh.jsonl", partition, first, last)
	}
	var data string
	for offset := first; offset <= last; offset++ {
		data += fmt.Sprintf(`{"topic":"orders","partition":%d,"offset":%d,"timestamp":"2026-11-28T03:00:00.000Z"}`+"\n", partition, offset)
	}
	meta := map[string]string{
		"kcagenttopic": "orders", "kcagentpartition": fmt.Sprint(partition), "kcagentfirst": fmt.Sprint(first), "kcagentlast": fmt.Sprint(last), "kcagentcount": fmt.Sprint(last - first + 1), "kcagentobjects": "1",
	}
	maps.Copy(meta, more)
	if err := s.Put(t.Context(), key, strings.NewReader(data), int64(len(data)), store.Attributes{Meta: meta}); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestVerifyOfObjects: the command reads the objects below a URL, or those of a consumer, with the exit
// codes of verify.
func TestVerifyOfObjects(t *testing.T) {
	root := t.TempDir()
	url := func(name string) string { return "file://" + filepath.Join(root, name) }
	for _, name := range []string{"whole", "hole", "short", "probe", "damaged"} {
		if name != "short" {
			putObject(t, url(name), 7, 9, "")
		}
	}
	putObject(t, url("whole"), 10, 12, "")
	putObject(t, url("hole"), 12, 12, "")
	putObject(t, url("short"), 0, 4, "a/orders/3/00000000000000000000.jsonl")
	putObject(t, url("short"), 5, 5, "a/orders/3/00000000000000000005.jsonl")
	putObject(t, url("probe"), 0, 0, ".kcagent-probe-ABC")
	putObject(t, url("damaged"), 10, 11, "orders/dt=2026-11-28/hour=04/orders-3-00000000000000000010-00000000000000000011-abcdefgh.jsonl")
	file := filepath.Join(root, "consumers.yaml")
	text := fmt.Sprintf(`defaults: {brokers: ['127.0.0.1:1'], topics: [orders]}
consumers:
  - {name: lake, sink: {objects: {url: '%s'}}}
  - {name: a, sink: {objects: {url: '%s', key: '{name}/{topic}/{partition}/{first}'}}}
  - {name: disk, sink: {file: {path: '%s/x'}}}
`, url("hole"), url("short"), root)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		out  string // what stdout has
		err  string // what stderr has
	}{
		{[]string{url("whole")}, command.Success, "orders  abcdefgh          3      7    12       2        2     0         0\n", ""},
		{[]string{url("whole") + "/"}, command.Success, "  12  ", ""},
		{[]string{url("whole"), "--deep"}, command.Success, "orders  abcdefgh          3      7    12       2        2     0         0        6       0\n", ""},
		{[]string{url("hole")}, command.Failure, "orders/3: gap of offsets 10 to 11 before orders/dt=", "--allow-holes accepts"},
		{[]string{url("hole"), "--allow-holes"}, command.Success, "gap of offsets 10 to 11", ""},
		{[]string{url("probe")}, command.Success, "  1  ", ""},
		{[]string{url("damaged")}, command.Success, "  2  ", ""},
		{[]string{url("damaged"), "--deep"}, command.Failure, "timestamp 2026-11-28T03:00:00Z belongs to the key orders/dt=2026-11-28/hour=03/", ""},
		{[]string{url("damaged"), "--deep", "--time-zone", "Asia/Tokyo"}, command.Failure, "belongs to the key orders/dt=2026-11-28/hour=12/", ""},
		{[]string{url("short")}, command.Failure, "key does not match the template", ""},
		{[]string{url("short"), "--key", "a/{topic}/{partition}/{first}"}, command.Success, "orders                    3      0     5  ", ""},
		{[]string{url("short"), "--key", "{topic}/{partition}/{first}", "--key", "a/{topic}/{partition}/{first}"}, command.Success, "orders                    3      0     5  ", ""},
		{[]string{"--config", file, "lake", "--key", "{topic}/{partition}/{first}-{last}"}, command.Failure, "gap of offsets 10 to 11", ""},
		{[]string{url("whole"), "--key", "{topic}/{partition}/{first}", "--key", "{topic}"}, command.Usage, "", `invalid --key "{topic}": {partition} is missing`},
		{[]string{"--config", file, "lake"}, command.Failure, "gap of offsets 10 to 11", ""},
		{[]string{"--config", file, "a", "--deep"}, command.Success, "  6       0        0        0\n", ""},
		{[]string{url("none")}, command.Failure, "", "kcagent verify: verify " + url("none") + ": nothing is proven: no key matches"},
		{[]string{"--config", file}, command.Usage, "", "several consumers with an objects sink: name one of lake, a"},
		{[]string{"--config", file, "disk"}, command.Usage, "", "consumer disk has no objects sink"},
		{[]string{"--config", file, "nobody"}, command.Usage, "", `consumer "nobody" not found in ` + file},
		{[]string{"--config", file, "lake", "a"}, command.Usage, "", `unexpected argument "a": name one consumer`},
		{[]string{"--config", file, url("whole")}, command.Usage, "", "a URL cannot be combined with --config"},
		{[]string{"--config", file, "--region", "x", "lake"}, command.Usage, "", "--region cannot be combined with --config"},
		{[]string{"--config", filepath.Join(root, "none")}, command.Usage, "", "file not found"},
		{[]string{url("whole"), url("hole")}, command.Usage, "", "name one URL"},
		{[]string{"S3://lake/kafka"}, command.Usage, "", "unknown scheme"},
		{[]string{"--deep", root}, command.Usage, "", "--deep requires the URL of objects, or --config"},
		{[]string{"--brokers", "x:9092", root}, command.Usage, "", "--brokers requires the URL of objects, or --config"},
		{[]string{"--brokers", "x:9092", url("hole")}, command.Usage, "", "--brokers requires --deep"},
		{[]string{"--brokers", "x:9092,y", "--deep", url("hole")}, command.Usage, "", `invalid --brokers "y": must be host:port`},
		{[]string{"--config", file, "--brokers", "x:9092", "lake"}, command.Usage, "", "--brokers cannot be combined with --config"},
		{[]string{url("hole"), "--deep"}, command.Failure, ": only the log can explain it\n", "with the cluster of --config or --brokers"},
		{[]string{"--config", file, "lake", "--deep"}, command.Failure, ": unknown: the log cannot be read\n", "verify " + url("hole") + ": reach brokers 127.0.0.1:1: connect to 127.0.0.1:1: "},
		{[]string{"--endpoint", "http://x:1", root}, command.Usage, "", "--endpoint requires the URL of objects"},
		{[]string{"--output", "json", root}, command.Usage, "", "--output requires the URL of objects"},
		{[]string{url("whole"), "--key", "{topic}"}, command.Usage, "", "invalid --key: "},
		{[]string{url("whole"), "--key", "{name}/{topic}/{partition}/{first}"}, command.Usage, "", "replace {name} by the name"},
		{[]string{url("whole"), "--time-zone", "Mars"}, command.Usage, "", "invalid --time-zone: "},
		{[]string{"file://relative"}, command.Usage, "", "invalid URL: "},
		{nil, command.Usage, "", "no files"},
	} {
		code, out, stderr := kcagent(t, append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(stderr, tt.err) {
			t.Errorf("verify %v exits with %d, want %d\nstdout:\n%s\nstderr:\n%s", tt.args, code, tt.code, out, stderr)
		}
		if code == command.Success && !strings.Contains(strings.Join(tt.args, " "), "--allow-holes") && stderr != "" {
			t.Errorf("verify %v writes to stderr: %s", tt.args, stderr)
		}
	}
	_, out, _ := kcagent(t, "verify", "--output", "json", url("hole"))
	var result struct {
		Good       bool
		Partitions []struct {
			GapOffsets int64 `json:"gap_offsets"`
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Good || len(result.Partitions) != 1 || result.Partitions[0].GapOffsets != 2 {
		t.Errorf("%v: %s", err, out)
	}
}
