package consumer

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/agent/generation"
	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/agent/testkit"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/sink"
)

// TestReminderOfConsumersInError: a thousand consumers whose disk is full log that once each, and one
// line for all of them in each interval. A further cause of one of them is one line. The
// change of state at the end says how long it lasted, and nothing is logged afterwards.
func TestReminderOfConsumersInError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const consumers = 1000
		var out testkit.LogBuffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		outages := outage.NewLog(log)
		machines := make([]*stateMachine, consumers)
		for i := range machines {
			spec := config.Consumer{Name: fmt.Sprint("c", i), Group: fmt.Sprint("g", i), State: config.Running}
			spec.Sink = sink.Spec{File: &sink.FileSpec{Path: "/data/" + spec.Name}}
			c := New(&spec, log, nil, &kafka.Clusters{}, outages)
			c.setState(Starting, "state: running")
			machines[i] = newStateMachine(c)
		}
		// lines returns what was logged since the last call, without the transitions to STARTING.
		seen := 0
		lines := func() (new []string) {
			all := strings.Split(strings.TrimSpace(out.String()), "\n")
			new, seen = all[seen:], len(all)
			return new
		}
		lines()
		full := func(m *stateMachine) error {
			return generation.SinkError{Err: &fs.PathError{Op: "write", Path: "/data/" + m.consumer.name, Err: syscall.ENOSPC}}
		}
		for range 2*condition.RemindEvery/time.Minute + 1 { // it is retried
			for _, m := range machines {
				m.recordFault(generation.OriginSink, full(m))
				m.deriveState()
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		got := lines()
		if len(got) != consumers+2 {
			t.Fatalf("%d lines, want one for each of %d consumers and two reminders; the last: %s", len(got), consumers, got[len(got)-1])
		}
		for i, lasts := range []string{"lasts=5m0s", "lasts=10m0s"} {
			if l := got[consumers+i]; !strings.Contains(l, "consumer still fails") || !strings.Contains(l, "no space left on device") ||
				!strings.Contains(l, "consumers=1000") || !strings.Contains(l, lasts) {
				t.Errorf("reminder %d: %s", i, l)
			}
		}

		one := machines[7]
		one.recordFault(generation.OriginSink, generation.SinkError{Err: &fs.PathError{Op: "write", Path: "/data/c7", Err: syscall.EIO}})
		one.deriveState()
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "consumer=c7") || !strings.Contains(got[0], "input/output error") {
			t.Errorf("another cause: %q", got)
		}
		for _, m := range machines {
			m.faults = make(map[string]error)
			m.markRecovered()
			m.consumer.setState(Running, runningReason(Failing))
		}
		got = lines()
		if len(got) != consumers || !strings.Contains(got[0], "from=ERROR to=RUNNING") || !strings.Contains(got[0], "lasted=11m0s") {
			t.Errorf("%d lines at the end, the first: %s", len(got), got[0])
		}
		time.Sleep(2 * condition.RemindEvery)
		if after := lines(); len(after) > 0 {
			t.Errorf("after the end: %q", after)
		}
	})
}
