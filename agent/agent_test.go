package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/agent/consumer"
	"kcagent/config"
)

func TestFirstFileWithProblemsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := startLoop(t, Options{})
		s.badEdit()
		var problems config.Problems
		if err := <-s.done; !errors.As(err, &problems) || problems[0].Line != 3 {
			t.Errorf("Run returned %v, want the problems", err)
		}
	})
}

func TestRejectedEditChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}")
		before := s.agent.Status()
		s.badEdit()
		after := s.agent.Status()
		if c := after.Config; c.State != "rejected" || c.SHA256 != "  - {name: a}" || c.FileSHA256 != "bad" || len(c.Problems) != 1 {
			t.Errorf("config is shown as %+v", c)
		}
		if r := s.agent.snapshot.Load().Reloads; r.Text != "  - {name: a}" || r.FileText != "not YAML\n" {
			t.Errorf("the texts in force and of the file are %q and %q", r.Text, r.FileText)
		}
		if after.Consumers[0].ID != before.Consumers[0].ID || s.states() != "a=RUNNING" {
			t.Errorf("the bad edit touched the consumer: %s", s.states())
		}
		s.edit("  - {name: a}")
		if c := s.agent.Status(); c.Config.State != "synced" || len(c.Config.Problems) != 0 || c.Consumers[0].ID != before.Consumers[0].ID {
			t.Errorf("after the roll-back config is shown as %+v", c.Config)
		}
	})
}

// TestLogLevelOfAcceptedFilesOnly: an accepted file sets the log level and touches no
// consumer. A rejected one does not set it.
func TestLogLevelOfAcceptedFilesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var levels []config.LogLevel
		s, stop := startLoop(t, Options{SetLogLevel: func(l config.LogLevel) { levels = append(levels, l) }})
		defer stop()
		s.edit("  - {name: a}")
		id := s.consumer("a").ID
		debug := updateOf(t, "  - {name: a}")
		debug.Config.LogLevel = "debug"
		s.updates <- debug
		s.badEdit()
		settle()
		s.edit("  - {name: a}")
		if fmt.Sprint(levels) != "[ debug ]" {
			t.Errorf("the levels are %q", levels)
		}
		if f := s.runner(0); f.updates > 0 || s.consumer("a").ID != id || s.states() != "a=RUNNING" {
			t.Errorf("a change of the log level touched the consumer: %d updates", f.updates)
		}
	})
}

func TestEditKeepsOtherConsumersRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b}")
		id := s.agent.Status().Consumers[0].ID
		s.edit("  - {name: c}\n  - {name: a}\n  - {name: b, group: other}")
		s.wantStates("c=RUNNING a=RUNNING b=RUNNING")
		if got := s.agent.Status().Consumers[1].ID; got != id {
			t.Errorf("a has id %s, had %s", got, id)
		}
		if slices.Contains(s.log, "-1 a") {
			t.Errorf("a was stopped: %v", s.log)
		}
	})
}

func TestReplaceNeverOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["a"] = 5 * time.Second
		s.edit("  - {name: a}\n  - {name: b}")
		id := s.agent.Status().Consumers[0].ID
		s.edit("  - {name: a, group: other}\n  - {name: b}")
		s.wantStates("a=STOPPING b=RUNNING")
		if c := s.agent.Status().Config.State; c != "applying" {
			t.Errorf("config is %s while a stops, want applying", c)
		}
		time.Sleep(6 * time.Second)
		s.wantStates("a=RUNNING b=RUNNING")
		st := s.agent.Status()
		if st.Consumers[0].ID == id || st.Consumers[0].Group != "other" {
			t.Errorf("a was not replaced: %+v", st.Consumers[0])
		}
		if len(st.Terminated) != 1 || st.Terminated[0].Name != "a" || !st.Terminated[0].Clean {
			t.Errorf("terminated is %+v", st.Terminated)
		}
	})
}

func TestConsumerWaitsForTheFileOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["a"] = 5 * time.Second
		s.edit("  - {name: a, sink: {file: {path: /same.log}}}")
		s.edit("  - {name: b, sink: {file: {path: /same.log}}}")
		s.wantStates("b=STARTING a=STOPPING")
		if e := s.agent.Status().Consumers[0].LastError; e == nil || !strings.Contains(*e, "consumer a releases file:/same.log") {
			t.Errorf("b does not report what it waits for: %v", e)
		}
		time.Sleep(6 * time.Second)
		s.wantStates("b=RUNNING")
		if e := s.agent.Status().Consumers[0].LastError; e != nil {
			t.Errorf("b still reports %q", *e)
		}
	})
}

// TestConsumerThatWaitsForAFileCanBeStopped: it is stopped at once, although it has not
// started, and starts again when the file asks for that.
func TestConsumerThatWaitsForAFileCanBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.agent.newRunner = func(spec *config.Consumer) runner {
			if spec.Name == "b" {
				return consumer.New(spec, s.agent.log, nil, nil, nil) // it never runs
			}
			return s.newRunner(spec)
		}
		s.slow["a"] = 5 * time.Second
		s.edit("  - {name: a, sink: {file: {path: /same.log}}}")
		for range 2 {
			s.edit("  - {name: b, sink: {file: {path: /same.log}}}")
			s.wantStates("b=STARTING a=STOPPING")
			s.edit("  - {name: b, state: stopped, sink: {file: {path: /same.log}}}")
			s.wantStates("b=CREATED a=STOPPING")
			if c := s.agent.Status().Consumers[0]; c.LastError != nil {
				t.Errorf("the stopped consumer reports %q", *c.LastError)
			}
		}
		time.Sleep(6 * time.Second)
		s.wantStates("b=CREATED")
		if st := s.agent.Status().Config.State; st != "synced" {
			t.Errorf("the configuration is %s", st)
		}
	})
}

func TestLastEditDuringASlowStopCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["a"] = 10 * time.Second
		s.edit("  - {name: a}")
		s.edit("  - {name: a, state: stopped}")
		s.edit("  - {name: a}")
		s.edit("  - {name: a, state: stopped}")
		s.edit("  - {name: a, state: paused}")
		s.wantStates("a=STOPPING")
		id := s.agent.Status().Consumers[0].ID
		time.Sleep(11 * time.Second)
		s.wantStates("a=RUNNING")
		if st := s.agent.Status(); st.Consumers[0].ID != id || st.Consumers[0].Desired != config.Paused {
			t.Errorf("after the stop a is %+v", st.Consumers[0])
		}
		s.edit("  - {name: a, state: stopped}")
		s.edit("  []")
		time.Sleep(11 * time.Second)
		s.wantStates("")
		if st := s.agent.Status(); len(st.Terminated) != 1 {
			t.Errorf("terminated is %+v", st.Terminated)
		}
	})
}

func TestRevertDuringAReplaceCreatesTheConsumerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["a"] = 5 * time.Second
		s.edit("  - {name: a}")
		was := s.agent.Status().Consumers[0]
		s.edit("  - {name: a, group: other}")
		s.wantStates("a=STOPPING")
		s.edit("  - {name: a}")
		s.wantStates("a=STOPPING")
		time.Sleep(6 * time.Second)
		s.wantStates("a=RUNNING")
		if now := s.agent.Status().Consumers[0]; now.ID == was.ID || now.Group != was.Group {
			t.Errorf("after the edit back it is %+v, was %+v", now, was)
		}
	})
}

func TestStoppedConsumerHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a, state: stopped}")
		s.wantStates("a=CREATED")
		if len(s.log) != 0 {
			t.Errorf("a stopped consumer did something: %v", s.log)
		}
		s.edit("  []")
		if st := s.agent.Status(); len(st.Consumers) != 0 || len(st.Terminated) != 1 || !st.Terminated[0].Clean {
			t.Errorf("status is %+v", st)
		}
	})
}

func TestGuardRejectsTooManyRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b}\n  - {name: c}\n  - {name: d}")
		s.updates <- config.Update{Path: "consumers.yaml", SHA256: "x", Config: &config.Config{
			Limits: config.Limits{MaxRemovedPercent: 50}, Consumers: specsOf(t, "  - {name: b}"),
		}}
		s.wantStates("a=RUNNING b=RUNNING c=RUNNING d=RUNNING")
		p := s.agent.Status().Config.Problems
		if len(p) != 1 || !strings.Contains(p[0].Message, "3 of 4") || !strings.Contains(p[0].Message, "a, c, d") {
			t.Errorf("problems are %v", p)
		}
	})
}

func TestAliveNeedsTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{})
		began := time.Now()
		if a.Alive(2 * time.Second) {
			t.Error("alive without a loop")
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("it waited %s", d)
		}
	})
}

func TestReadyAfterTheFirstEditOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		if s.agent.api.Ready() {
			t.Error("ready before a file was applied")
		}
		s.slow["a"] = 5 * time.Second
		s.edit("  - {name: a, sink: {file: {path: /same.log}}}")
		if !s.agent.api.Ready() {
			t.Error("not ready although every consumer runs")
		}
		s.edit("  - {name: b, sink: {file: {path: /same.log}}}")
		if !s.agent.api.Ready() {
			t.Error("a later consumer made the agent unready")
		}
	})
}

func TestLastFiftyTerminatedAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		for i := range 55 {
			s.edit(fmt.Sprintf("  - {name: c%d}", i))
		}
		ended := s.agent.Status().Terminated
		if len(ended) != 50 || ended[49].Name != "c53" {
			t.Errorf("%d ended consumers are kept, the last %v", len(ended), ended[len(ended)-1])
		}
	})
}
