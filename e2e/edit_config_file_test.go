package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestRejectedEditChangesNothing: an invalid file is reported with its problems, and the
// consumers keep running. The valid file after it is in force at once.
func TestRejectedEditChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.waitCommitted(t, l.agent, l.subject, l.total())
	subject, good := identify(t, l.agent.Consumer("subject")), l.config(l.neighbour, l.subject)
	reload := func() float64 {
		v, ok := l.agent.Metrics().Value("kcagent_config_last_reload_successful")
		if !ok {
			t.Error("kcagent_config_last_reload_successful is missing")
		}
		return v
	}
	if reload() != 1 {
		t.Error("kcagent_config_last_reload_successful is not 1 at the start")
	}
	bad := map[string]string{
		"an unknown key":  strings.Replace(good, "group:", "gruop:", 1),
		"invalid YAML":    good + "\t{",
		"an empty file":   "",
		"a bad state":     l.config(l.neighbour, l.subject.withState("sleeping")),
		"one file of two": l.config(l.neighbour, l.subject.withPath(l.neighbour.path)),
	}
	for what, text := range bad {
		l.agent.Write(text)
		status := l.agent.WaitStatus(what+" to be rejected", func(s agenttest.Status) bool {
			return s.Config.State == "rejected" && s.Config.FileSHA256 == agenttest.Sum(text)
		})
		if status.Config.SHA256 != agenttest.Sum(good) {
			t.Errorf("%s: the file in force is not the valid one", what)
		}
		if len(status.Config.Problems) == 0 {
			t.Errorf("%s: no problem is reported", what)
		}
		for _, p := range status.Config.Problems {
			if p.Message == "" || !strings.HasSuffix(p.File, filepath.Base(l.agent.Path)) || text != "" && (p.Line < 1 || p.Column < 1) {
				t.Errorf("%s: problem %+v lacks its message or position", what, p)
			}
		}
		if reload() != 0 {
			t.Errorf("%s: kcagent_config_last_reload_successful is not 0", what)
		}
		wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
		wantSame(t, l.agent, "subject", subject)
	}
	l.produce(t)
	l.waitCommitted(t, l.agent, l.subject, l.total())

	rolledBack := l.agent.Apply(good)
	if len(rolledBack.Config.Problems) != 0 || reload() != 1 {
		t.Errorf("after the rollback, problems are %v and the gauge is %v", rolledBack.Config.Problems, reload())
	}
	wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
	wantSame(t, l.agent, "subject", subject)
	l.wantFile(t, l.produced)
}

// TestEquivalentEditChangesNothing: order, comments, explicit defaults and names of
// clusters are no change.
func TestEquivalentEditChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	l.agent.WaitState("subject", "RUNNING")
	subject := identify(t, l.agent.Consumer("subject"))
	for what, text := range map[string]string{
		"order":               l.config(l.subject, l.neighbour),
		"a comment":           "# by hand\n" + l.config(l.neighbour, l.subject),
		"an explicit default": strings.ReplaceAll(l.config(l.neighbour, l.subject), "    group:", "    start: earliest\n    group:"),
		"a renamed cluster": strings.ReplaceAll(strings.ReplaceAll(l.config(l.neighbour, l.subject),
			"  main:", "  renamed:"), "cluster: main", "cluster: renamed"),
	} {
		t.Log(what)
		l.agent.Apply(text)
		wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
		wantSame(t, l.agent, "subject", subject)
	}
}

// TestDeletedConfigFileKeepsConsumersRunning: a deleted file is reported and does not mean
// that no consumers are desired.
func TestDeletedConfigFileKeepsConsumersRunning(t *testing.T) {
	t.Parallel()
	l := newLifecycle(t, "running")
	if err := os.Remove(l.agent.Path); err != nil {
		t.Fatal(err)
	}
	l.agent.WaitStatus("the deletion to be reported", func(s agenttest.Status) bool {
		return s.Config.State == "rejected" && len(s.Config.Problems) > 0
	})
	l.produce(t)
	wantSame(t, l.agent, "neighbour", l.neighbourIdentity)
	l.edit(t, l.subject.withState("paused"))
	l.agent.WaitState("subject", "PAUSED")
}

// TestInvalidFirstConfigFileEndsTheAgent: without a valid file at the start, the agent
// ends with exit code 2 and the position of the problem.
func TestInvalidFirstConfigFileEndsTheAgent(t *testing.T) {
	t.Parallel()
	for what, o := range map[string]agenttest.Options{
		"bad":     {Config: "consumers:\n  - name: a\n    topisc: [x]\n"},
		"blank":   {Config: "\n\n"},
		"missing": {Path: filepath.Join(t.TempDir(), "nowhere.yaml")},
	} {
		t.Run(what, func(t *testing.T) {
			a := agenttest.Launch(t, o)
			if code := a.WaitExit(wait.Timeout); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			want := a.Path
			if what == "bad" {
				want += ":3:5: "
			}
			if log := a.Log(); !strings.Contains(log, want) {
				t.Errorf("standard error lacks %q:\n%s", want, log)
			}
		})
	}
}

// TestSIGHUPReloadsTheConfigFile: with --watch=false, only SIGHUP reloads the file.
func TestSIGHUPReloadsTheConfigFile(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "signal", 1)
	e := s.entry("signal", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e), Args: []string{"--watch=false"}})
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 10})
	s.waitCommitted(t, a, e, 10)
	paused := s.config(e.withState("paused"))
	a.Write(paused)
	a.Signal(syscall.SIGHUP)
	a.WaitSynced(paused)
	a.WaitState("signal", "PAUSED")
}
