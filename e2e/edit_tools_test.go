package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/loud"
)

// requireTools, set to 1, makes tests fail that would be skipped without vim or git. CI
// sets it.
const requireTools = "KCAGENT_REQUIRE_TOOLS"

// A toolScene has one consumer, which edits with the tools of users pause and resume.
type toolScene struct {
	*scene
	e     entry
	agent *agenttest.Agent
	edits int
}

func (s *toolScene) text(state string) string { return s.config(s.e.withState(state)) }

// newToolScene starts an agent with the existing configuration file, in which the consumer
// is running.
func newToolScene(t *testing.T, s *scene, e entry, path string) *toolScene {
	t.Helper()
	a := agenttest.Start(t, agenttest.Options{Path: path})
	a.WaitState(e.name, "RUNNING")
	return &toolScene{scene: s, e: e, agent: a}
}

// edit runs a tool that changes the state of the consumer in the file.
func (s *toolScene) edit(t *testing.T, state, tool string, args ...string) {
	t.Helper()
	text := s.text(state)
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	s.edits++
	s.agent.WaitSynced(text)
	s.agent.WaitState(s.e.name, map[string]string{"running": "RUNNING", "paused": "PAUSED"}[state])
}

// wantClean requires that the agent accepted each edit once and rejected none.
func (s *toolScene) wantClean(t *testing.T) {
	t.Helper()
	log := s.agent.Log()
	if n := strings.Count(log, `msg="configuration accepted"`); n != s.edits+1 || strings.Contains(log, "rejected") {
		t.Errorf("%d files were accepted, want %d, and none rejected", n, s.edits+1)
	}
}

// requireTool skips the test with a notice where a tool is missing.
func requireTool(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		loud.Skip(t, requireTools, "a test needs "+tool+": "+err.Error())
	}
}

// TestEveryEditorSaveIsOneEdit edits the file as editors do: in place, by renaming, with
// and without a backup.
func TestEveryEditorSaveIsOneEdit(t *testing.T) {
	for name, toggle := range map[string]func(from, to, path string) []string{
		"sed -i": func(from, to, path string) []string {
			return []string{"sed", "-i", "s/state: " + from + "/state: " + to + "/", path}
		},
		"sed -i with a backup": func(from, to, path string) []string {
			return []string{"sed", "-i.bak", "s/state: " + from + "/state: " + to + "/", path}
		},
		"vim":           vim("nobackup writebackup backupcopy=auto"),
		"vim, in place": vim("backup backupcopy=yes"),
		"vim, renaming": vim("writebackup backupcopy=no"),
		"a copy":        func(_, _, path string) []string { return []string{"cp", "/dev/stdin", path} },
		"tee":           func(_, _, path string) []string { return []string{"tee", path} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireTool(t, toggle("", "", "")[0])
			s := newScene(t)
			e := s.entry("edited", s.newTopic(t, "edited", 1))
			path := filepath.Join(t.TempDir(), "consumers.yaml")
			if err := os.WriteFile(path, []byte(s.config(e.withState("running"))), 0o600); err != nil {
				t.Fatal(err)
			}
			x := newToolScene(t, s, e, path)
			for _, states := range [][2]string{{"running", "paused"}, {"paused", "running"}, {"running", "paused"}} {
				args := toggle(states[0], states[1], path)
				x.edit(t, states[1], args[0], args[1:]...)
			}
			x.wantClean(t)
		})
	}
}

// vim returns the command of a substitution by vim with these options.
func vim(options string) func(from, to, path string) []string {
	return func(from, to, path string) []string {
		return []string{
			"vim", "-N", "-u", "NONE", "-i", "NONE", "-es", "-c", "set " + options,
			"-c", "%s/state: " + from + "/state: " + to + "/", "-c", "wq", path,
		}
	}
}

// TestEveryRollOutIsOneEdit replaces the file as kubelet and git-sync do.
func TestEveryRollOutIsOneEdit(t *testing.T) {
	for script, file := range map[string]string{"atomic-writer.sh": "consumers.yaml", "git-sync.sh": "current/consumers.yaml"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			requireTool(t, "bash")
			requireTool(t, "git")
			s := newScene(t)
			e := s.entry("rolled", s.newTopic(t, "rolled", 1))
			dir := t.TempDir()
			tool := filepath.Join("testdata", script)
			cmd := exec.Command("bash", tool, dir)
			cmd.Stdin = strings.NewReader(s.config(e.withState("running")))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", script, err, out)
			}
			x := newToolScene(t, s, e, filepath.Join(dir, file))
			for _, state := range []string{"paused", "running", "paused", "running"} {
				x.edit(t, state, "bash", tool, dir)
			}
			x.wantClean(t)
		})
	}
}
