package outage

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/testkit"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/limits"
)

// TestOutageIsLoggedPerCause: the first line counts the consumers that fail by then, a new
// cause is one line, and a reminder follows every few minutes. If only one consumer fails,
// it logs its own transition, so the cluster is logged only when the cause changes.
func TestOutageIsLoggedPerCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testkit.LogBuffer
		outages := NewLog(slog.New(slog.NewJSONHandler(&log, nil)))
		spec := &config.Consumer{ClusterName: "main", Cluster: config.Cluster{Brokers: []string{"k:9092"}}}
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		count := func(want int, what string) {
			t.Helper()
			if n := strings.Count(log.String(), "\n"); n != want {
				t.Fatalf("%s: %d lines, want %d:\n%s", what, n, want, log.String())
			}
		}
		reset := clusterFault{cause: "read tcp k:9092: connection reset by peer", key: "k:9092 connection reset by peer"}
		eof := clusterFault{cause: "EOF", key: "connection closed"}
		fails := func(name string, f clusterFault) {
			spec := *spec
			spec.Name = name
			outages.Report("id of "+name, &spec, f.cause, f.key)
		}
		resolve := func(name string, recovered bool) { outages.Resolve("id of "+name, recovered) }

		fails("a", reset)
		wait(condition.RemindEvery - time.Second)
		count(0, "one consumer")
		fails("b", reset)
		fails("c", reset)
		wait(outageDelay)
		count(1, "three consumers")
		if l := log.Logged(t, "connections to the cluster fail"); l[0].Cluster != "main" || l[0].Cause != reset.cause || !strings.Contains(log.String(), `"consumers":3`) {
			t.Errorf("%s", log.String())
		}
		for range 100 { // the cause changes with each retry
			fails("a", eof)
			wait(outageDelay / 5)
			fails("a", reset)
			wait(outageDelay / 5)
		}
		count(2, "a second cause")
		wait(condition.RemindEvery)
		count(3, "a reminder")
		resolve("a", true)
		resolve("b", false)
		count(3, "one still fails")
		resolve("c", true)
		count(4, "none fails")
		wait(2 * condition.RemindEvery)
		count(4, "it is over")

		fails("b", reset)
		wait(outageDelay)
		fails("b", eof)
		wait(outageDelay)
		count(5, "one consumer, another cause")
		if l := log.Logged(t, "connections to the cluster fail"); l[len(l)-1].Consumer != "b" || l[len(l)-1].Cause != eof.cause {
			t.Errorf("the line of one consumer is %+v", l[len(l)-1])
		}
		edited := *spec
		edited.Cluster.Rack, edited.Cluster.Fetch.Lanes = "a", 5
		spec = &edited
		fails("b", reset)
		resolve("b", true)
		before := strings.Count(log.String(), "\n")
		wait(2 * condition.RemindEvery)
		count(before, "it is over although settings have changed meanwhile")
	})
}

// TestAlternatingCausesAreOneOutage: an outage whose causes alternate with other faults of
// the consumers is one outage. Its end is logged once consumers recover, although another
// consumer has another fault by then.
func TestAlternatingCausesAreOneOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testkit.LogBuffer
		outages := NewLog(slog.New(slog.NewJSONHandler(&log, nil)))
		spec := &config.Consumer{ClusterName: "main"}
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		for range 10 { // brokers restart
			for _, id := range []string{"a", "b"} {
				outages.Report(id, spec, "EOF", "connection closed")
			}
			wait(2 * outageDelay)
			for _, id := range []string{"a", "b"} {
				outages.ReportOther(id)
			}
			wait(2 * outageDelay)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for one outage:\n%s", n, log.String())
		}
		outages.Resolve("a", true)
		if n := len(log.Logged(t, "connections to the cluster work again")); n != 1 {
			t.Errorf("%d lines say that it works again:\n%s", n, log.String())
		}
		outages.Resolve("b", true)
		wait(2 * condition.RemindEvery)
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in all:\n%s", n, log.String())
		}
	})
}

// TestCauseIsLoggedOnceAndAgainAsAReminder: each cause of a condition is logged once, and
// the current one again every few minutes, however often they alternate. A text that keeps
// varying is limited.
func TestCauseIsLoggedOnceAndAgainAsAReminder(t *testing.T) {
	var l CauseLog
	now := time.Now()
	count := func(minutes int, key func(i int) string) (n int) {
		for i := range minutes * 60 {
			now = now.Add(time.Second)
			if l.News(key(i), condition.RemindEvery, now) {
				n++
			}
		}
		return n
	}
	if n := count(10, func(i int) string { return []string{"reset", "EOF", "refused"}[i%3] }); n != 3+1 {
		t.Errorf("%d lines for three causes in ten minutes", n)
	}
	if n := count(30, func(i int) string { return fmt.Sprint(i) }); n > causesLogged+6 {
		t.Errorf("%d lines for a text that varies", n)
	}
}

// TestCauseKeyIgnoresVaryingText: parts that differ between the responses of a server are
// not part of the cause.
func TestCauseKeyIgnoresVaryingText(t *testing.T) {
	for _, form := range []string{
		"https response error StatusCode: 403, RequestID: %[1]s, AccessDenied",
		"flush: upload s3://lake/t/%[2]s-%[1]s.zst: bucket lake does not exist",
		"AADSTS7000215: Invalid client secret. Trace ID: %[1]s Correlation ID: %[1]s Timestamp: 2026-11-26 17:00:%[2]sZ",
	} {
		a, b := fmt.Sprintf(form, "1f0c-aa", "01"), fmt.Sprintf(form, "9bd2-07", "59")
		if CauseKey(a) != CauseKey(b) {
			t.Errorf("%q and %q are two causes", CauseKey(a), CauseKey(b))
		}
	}
	if CauseKey("read t/3 at offset 10") == CauseKey("read t/3 at offset 11") {
		t.Error("two offsets are one cause")
	}
	if a, b := FaultKey(fmt.Errorf("look up leader of t/1: %w", sarama.ErrLeaderNotAvailable)), FaultKey(fmt.Errorf("look up leader of t/3: %w", sarama.ErrLeaderNotAvailable)); a != b {
		t.Errorf("two partitions without a leader are two causes, %q and %q", a, b)
	}
	if FaultKey(fmt.Errorf("read t/1: %w", sarama.ErrOffsetOutOfRange)) == FaultKey(fmt.Errorf("read t/3: %w", sarama.ErrOffsetOutOfRange)) {
		t.Error("two partitions out of range are one cause")
	}
	if err := limits.WithoutPorts(fmt.Errorf("get token: %w", errors.New("read tcp 10.0.0.7:43210->10.0.0.2:443: EOF"))); err.Error() != "get token: read tcp 10.0.0.2:443: EOF" {
		t.Errorf("%v", err)
	}
}
