package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"kcagent/config"
)

// TestConfigDiffShowsWhatTheFileWouldChange: from the text in force to the text of the file, also if
// the file is rejected or is not YAML, and without secrets, old or new.
func TestConfigDiffShowsWhatTheFileWouldChange(t *testing.T) {
	const inForce = "clusters: {main: {brokers: ['a:1'], sasl: {mechanism: PLAIN, username: u, password: '${PW}'}}}\nconsumers: []\n"
	applied, problems := config.Parse("f", []byte(inForce), func(string) (string, bool) { return "old-secret", true })
	if problems != nil {
		t.Fatal(problems)
	}
	for name, tt := range map[string]struct {
		file  string
		want  ConfigDiff
		lines string // of the diff
	}{
		"equal": {inForce, ConfigDiff{State: "synced", FileSHA256: "new"}, ""},
		"changed": {
			inForce + "limits: {max_consumers: 5}\n",
			ConfigDiff{State: "synced", FileSHA256: "new"},
			"+limits: {max_consumers: 5}",
		},
		"changed secret": {
			strings.ReplaceAll(inForce, "${PW}", "new-secret"),
			ConfigDiff{State: "synced", FileSHA256: "new"},
			"-clusters: {main: {brokers: ['a:1'], sasl: {mechanism: PLAIN, username: u, password: <secret>|+clusters: {main: {brokers: ['a:1'], sasl: {mechanism: PLAIN, username: u, password: <secret>",
		},
		"not YAML": {
			inForce + "a: b: c # old-secret\npassword: new-secret\n",
			ConfigDiff{State: "rejected", FileSHA256: "new"},
			"+a: b: c # <secret>|+password: <secret>",
		},
		"unreadable": {"", ConfigDiff{State: "rejected"}, ""},
		"huge":       {inForce + strings.Repeat("# x\n", 1<<20), ConfigDiff{State: "synced", FileSHA256: "new", Truncated: true}, ""},
	} {
		a := newAPITest(t)
		a.published.Store(&Snapshot{Config: applied, Reloads: Reloads{SHA256: "old", FileSHA256: tt.want.FileSHA256, Text: inForce, FileText: tt.file}})
		if tt.want.State == "rejected" {
			a.published.Load().Reloads.Problems = config.Problems{{Line: 3}}
		}
		h := a.Handler()
		for range 2 { // the second one is from the cache
			resp, body := get(t, h, http.MethodGet, "/config/diff")
			var got ConfigDiff
			if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s %v %s", name, resp.Status, err, body)
			}
			if strings.Contains(body, "old-secret") || strings.Contains(body, "new-secret") {
				t.Errorf("%s: a secret is shown: %s", name, body)
			}
			var lines []string
			for line := range strings.Lines(got.Diff) {
				if strings.Trim(line[:1], "+-") == "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "+++") {
					lines = append(lines, strings.TrimSuffix(line, "\n"))
				}
			}
			if strings.Join(lines, "|") != tt.lines {
				t.Errorf("%s: the diff is\n%s", name, got.Diff)
			}
			got.Diff, tt.want.SHA256 = "", "old"
			if got != tt.want {
				t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
			}
		}
	}
	if resp, body := get(t, newAPITest(t).Handler(), http.MethodGet, "/config/diff"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a configuration: %s %s", resp.Status, body)
	}
}
