package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/cli/command"
	"kcagent/cli/statustable"
	"kcagent/config"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// golden compares with a file, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func sample() web.Status {
	trouble := "write orders/3: write /data/a/very/long/path/to/orders.log: no space left on device (make room; the records wait in Kafka), and this goes on"
	at := noon.Add(-3 * time.Minute)
	one := func(name string, state consumer.State, desired config.State, since time.Duration, lag *int64, rate float64, records int64) web.ConsumerStatus {
		return web.ConsumerStatus{
			Name: name, Status: state, Desired: desired, StatusSince: noon.Add(-since), Lag: lag, RecordsPerSecond: rate, RecordsTotal: records,
			Group: "kcagent-" + name, Sink: "file:/data/" + name + ".log",
		}
	}
	s := web.Status{
		Config:  web.ConfigStatus{Path: "/etc/kcagent/consumers.yaml", State: "synced", SHA256: "abc", FileSHA256: "abc", AppliedAt: &at},
		Summary: map[consumer.State]int{consumer.Running: 2, consumer.Failing: 1, consumer.Paused: 1, consumer.Created: 1, consumer.Starting: 1},
		Consumers: []web.ConsumerStatus{
			one("audit", consumer.Paused, config.Paused, 26*time.Hour, new(int64(1_234)), 0, 99),
			one("clicks", consumer.Running, config.Running, 59*time.Second, new(int64(0)), 12.34, 1_000),
			one("new", consumer.Starting, config.Running, 0, nil, 0, 0),
			one("old", consumer.Created, config.Stopped, 72*time.Hour, nil, 0, 0),
			one("orders", consumer.Failing, config.Running, 90*time.Second, new(int64(123_456_789)), 0, 98_765_432_100),
			one("a-consumer-with-quite-a-long-name", consumer.Running, config.Running, 7*time.Minute, new(int64(12)), 99_900, 1_000_000),
		},
	}
	s.Consumers[4].LastError = &trouble
	refused := `topic "later": kafka server: Request was for a topic or partition that does not exist on this broker`
	s.Consumers[1].PendingChange = &web.PendingChange{Action: plan.Resubscribe, Fields: []string{"topics"}, Tries: 3, Error: &refused}
	return s
}

// TestStatusTableFitsIntoItsWidth, with the most urgent consumers first.
func TestStatusTableFitsIntoItsWidth(t *testing.T) {
	s := sample()
	table := statustable.Render(s, noon, 0, false)
	golden(t, "status.txt", table)
	for line := range strings.Lines(table) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > statustable.Width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	golden(t, "status-coloured.txt", statustable.Render(s, noon, 0, true))
	s.Config.State = "rejected"
	s.Config.Problems = config.Problems{{File: "c.yaml", Line: 3, Column: 5, Path: "consumers[0].topcs", Message: "unknown key", Hint: `did you mean "topics"?`}}
	s.Consumers, s.Summary = nil, nil
	golden(t, "status-rejected.txt", statustable.Render(s, noon, 0, false))
}

// serve answers /status with one status after the other; the last one stays.
func serve(t *testing.T, answers ...web.Status) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/status" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answers[0])
		if len(answers) > 1 {
			answers = answers[1:]
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestStatusReportsAnAgentThatDoesNotRespond(t *testing.T) {
	url := serve(t, sample())
	code, out, _ := kcagent(t, "status", "--url", url+"/")
	if code != command.Success || !strings.HasPrefix(out, "/etc/kcagent/consumers.yaml: synced") || strings.Contains(out, "\x1b") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	code, out, _ = kcagent(t, "status", "--url", url, "--output", "json")
	var s web.Status
	if err := json.Unmarshal([]byte(out), &s); code != command.Success || err != nil || len(s.Consumers) != 6 {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	for _, args := range [][]string{{"--url", "localhost"}, {"--url", "ftp://x"}, {"--output", "xml"}, {"--watch", "--wait", "x"}, {"--wait", "/no/such/file"}, {"--for", "accepted"}, {"--for", "done", "--wait", "x"}} {
		if code, _, stderr := kcagent(t, append([]string{"status"}, args...)...); code != command.Usage {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
	}
	if code, _, stderr := kcagent(t, "status", "--url", "http://127.0.0.1:1"); code != command.Failure || !strings.Contains(stderr, "check that it runs") {
		t.Errorf("no agent: exit %d: %s", code, stderr)
	}
	if code, _, stderr := kcagent(t, "status", "--url", url+"/wrong"); code != command.Failure || !strings.Contains(stderr, "404") {
		t.Errorf("not an agent: exit %d: %s", code, stderr)
	}
}

func TestStatusWaitsUntilTheFileIsApplied(t *testing.T) {
	file := writeFile(t, good)
	const sha = "cee28cfaa0ed7a2307c42a2328acd8c41c57f2f1ef9fa15398a20a2dc72250fc" // as sha256sum prints it
	applied := sample()
	applied.Config.SHA256, applied.Config.FileSHA256 = sha, sha
	done := applied
	done.Consumers = slices.Clone(applied.Consumers[:4:4])
	done.Consumers = slices.Delete(done.Consumers, 2, 3)
	done.Consumers[1].PendingChange = nil
	applying := done
	applying.Config.State = "applying"
	wait := func(timeout string, answers ...web.Status) (int, string) {
		code, out, stderr := kcagent(t, "status", "--url", serve(t, answers...), "--wait", file, "--timeout", timeout)
		return code, out + stderr
	}
	if code, text := wait("10s", sample(), applied, applying, done); code != command.Success || !strings.Contains(text, "is applied") {
		t.Errorf("exit %d: %s", code, text)
	}
	for _, c := range []struct {
		name    string
		status  web.Status
		missing []string
	}{
		{"another file", sample(), []string{"runs another file: /etc/kcagent/consumers.yaml"}},
		{"not converged", applied, []string{"orders is ERROR, want RUNNING: write orders/3", "new is STARTING, want RUNNING", "clicks: resubscribe of topics is pending: topic \"later\""}},
		{"applying", applying, []string{"being applied"}},
	} {
		code, text := wait("1ms", c.status)
		if code != command.Failure {
			t.Errorf("%s: exit %d", c.name, code)
		}
		for _, m := range c.missing {
			if !strings.Contains(text, m) {
				t.Errorf("%s: %q is missing in\n%s", c.name, m, text)
			}
		}
	}
	bad := applied
	bad.Config.State, bad.Config.SHA256 = "rejected", "old"
	bad.Config.Problems = config.Problems{{File: "c.yaml", Message: "wrong"}}
	start := time.Now()
	if code, text := wait("10m", bad); code != command.Failure || !strings.Contains(text, "c.yaml: wrong") || time.Since(start) > time.Minute {
		t.Errorf("rejected: exit %d: %s", code, text)
	}
	if code, _, stderr := kcagent(t, "status", "--url", "http://127.0.0.1:1", "--wait", file, "--timeout", "1ms"); code != command.Failure || !strings.Contains(stderr, "check that it runs") {
		t.Errorf("no agent: exit %d: %s", code, stderr)
	}
}

// TestStatusWaitsForTheVerdictOnly: with --for accepted, consumers that fail or wait do not
// count, and the verdict is the one on the content that is on disk at that moment.
func TestStatusWaitsForTheVerdictOnly(t *testing.T) {
	file := writeFile(t, good)
	sum := func(text string) string {
		s := sha256.Sum256([]byte(text))
		return hex.EncodeToString(s[:])
	}
	status := func(state, inForce, onDisk string) web.Status {
		s := sample() // a consumer fails, and a change is pending
		s.Config.State, s.Config.SHA256, s.Config.FileSHA256 = state, sum(inForce), sum(onDisk)
		if state == "rejected" {
			s.Config.Problems = config.Problems{{File: "c.yaml", Line: 3, Column: 5, Message: "wrong"}}
		}
		return s
	}
	unreadable := status("rejected", good, good)
	unreadable.Config.FileSHA256 = ""
	unreadable.Config.Problems = config.Problems{{File: "c.yaml", Message: "permission denied"}}
	for _, c := range []struct {
		name, timeout string
		answers       []web.Status
		code          int
		text          string
	}{
		{"synced", "10m", []web.Status{status("synced", good, good)}, command.Success, file + " is accepted\n"},
		{"changes are pending", "10m", []web.Status{status("applying", good, good)}, command.Success, "is accepted"},
		{"not read yet", "10m", []web.Status{status("synced", "old", "old"), status("applying", good, good)}, command.Success, "is accepted"},
		{"another content is rejected, then this one accepted", "10m", []web.Status{status("rejected", "old", "bad"), status("synced", good, good)}, command.Success, "is accepted"},
		{"the revert of a rejected edit", "10m", []web.Status{status("rejected", good, "bad"), status("synced", good, good)}, command.Success, "is accepted"},
		{"rejected", "10m", []web.Status{status("rejected", "old", good)}, command.Failure, "c.yaml:3:5: wrong"},
		{"rejected, although in force", "10m", []web.Status{status("rejected", good, good)}, command.Failure, "c.yaml:3:5: wrong"},
		{"never read", "1ms", []web.Status{status("synced", "old", "old")}, command.Failure, "timeout after 1ms; missing:\n  the agent runs another file"},
		{"unreadable while it is replaced", "10m", []web.Status{unreadable, status("synced", good, good)}, command.Success, "is accepted"},
		{"unreadable", "10m", []web.Status{unreadable}, command.Failure, "the agent cannot read its file:\n  c.yaml: permission denied"},
		{"a revert that is never read", "1ms", []web.Status{status("rejected", good, "bad")}, command.Failure, "timeout after 1ms; missing:\n  the agent has not read the file again"},
	} {
		code, out, stderr := kcagent(t, "status", "--url", serve(t, c.answers...), "--wait", file, "--for", "accepted", "--timeout", c.timeout)
		if code != c.code || !strings.Contains(out+stderr, c.text) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s%s", c.name, code, c.code, c.text, out, stderr)
		}
	}
}

// TestStatusGivesUpOnAnAgentThatDoesNotRespond, also if it waits for the verdict only.
func TestStatusGivesUpOnAnAgentThatDoesNotRespond(t *testing.T) {
	for _, goal := range []string{"accepted", "applied"} {
		code, _, stderr := kcagent(t, "status", "--url", "http://127.0.0.1:1", "--wait", writeFile(t, good), "--for", goal, "--timeout", "1ms")
		if code != command.Failure || !strings.Contains(stderr, "timeout after 1ms") || !strings.Contains(stderr, "check that it runs") {
			t.Errorf("%s: exit %d: %s", goal, code, stderr)
		}
	}
}

// TestStatusDoesNotWaitAfterARejectedLogin: another try would be rejected, too.
func TestStatusDoesNotWaitAfterARejectedLogin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer server.Close()
	for _, url := range []string{server.URL, strings.Replace(server.URL, "//", "//user:wrong@", 1)} {
		code, _, stderr := kcagent(t, "status", "--url", url, "--wait", writeFile(t, good), "--timeout", "10m")
		if code != command.Failure || !strings.Contains(stderr, "401 Unauthorized") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
}

// TestStatusWaitsForTheFileAsItIs: an edit during the wait replaces what the command waits for,
// also if the file is missing for a moment.
func TestStatusWaitsForTheFileAsItIs(t *testing.T) {
	for _, goal := range []string{"accepted", "applied"} {
		file := writeFile(t, good)
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests++
			s := web.Status{Config: web.ConfigStatus{State: "synced"}}
			var err error
			switch requests {
			case 1:
				err = os.WriteFile(file, []byte("edited"), 0o600)
			case 2:
				s.Config.SHA256 = "cee28cfaa0ed7a2307c42a2328acd8c41c57f2f1ef9fa15398a20a2dc72250fc" // of good
				err = os.Rename(file, file+".saved")
				time.AfterFunc(waitInterval*3/2, func() { _ = os.Rename(file+".saved", file) })
			default:
				s.Config.SHA256 = "1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618"
			}
			s.Config.FileSHA256 = s.Config.SHA256
			if err != nil {
				t.Error(err)
			}
			_ = json.NewEncoder(w).Encode(s)
		}))
		code, out, stderr := kcagent(t, "status", "--url", server.URL, "--wait", file, "--for", goal, "--timeout", "1m")
		server.Close()
		if code != command.Success || requests != 3 || !strings.Contains(out, "is "+goal) {
			t.Errorf("%s: exit %d after %d requests: %s%s", goal, code, requests, out, stderr)
		}
	}
}
