package e2e

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A state is what a consumer is at the time of the edit, and a change is what the edit does
// to its entry.
var (
	states  = []string{"created", "starting", "running", "paused", "error", "stopping"}
	changes = []string{"run", "pause", "stop", "delete", "replace", "resubscribe"}
)

// outcomes lists the result of each change, whatever the state of the consumer was.
var outcomes = map[string]struct {
	status string // "" if it ended
	sameID bool
}{
	"run":         {"RUNNING", true},
	"pause":       {"PAUSED", true},
	"stop":        {"CREATED", true},
	"delete":      {"", false},
	"replace":     {"RUNNING", false},
	"resubscribe": {"RUNNING", true},
}

// A stateMatrix has one consumer for each pair of a state and a change.
type stateMatrix struct {
	*scene
	agent             *agenttest.Agent
	late              *badnet.Proxy // to the broker, for the consumers in state starting
	one, more, absent string        // topics
}

// each calls f for every pair.
func (s *stateMatrix) each(f func(state, change, name string)) {
	for _, state := range states {
		for _, change := range changes {
			f(state, change, state+"-"+change)
		}
	}
}

// before returns the entry that brings a consumer into its state.
func (s *stateMatrix) before(state, name string) entry {
	e := s.entry(name, s.one)
	switch state {
	case "created":
		return e.withState("stopped")
	case "paused":
		return e.withState("paused")
	case "starting":
		return e.withCluster("late")
	case "error":
		return e.withTopics(s.one, s.absent)
	}
	return e
}

// after returns the changed entry; ok is false if the change deletes it.
func (s *stateMatrix) after(state, change, name string) (e entry, ok bool) {
	e = s.before(state, name).withState("running")
	switch change {
	case "pause":
		e = e.withState("paused")
	case "stop":
		e = e.withState("stopped")
	case "replace":
		e = e.with("isolation: read_uncommitted")
	case "resubscribe":
		e = e.withTopics(s.one, s.more)
	}
	return e, change != "delete"
}

func (s *stateMatrix) config(entries []entry) string {
	return configText(map[string][]string{"main": s.Addrs(), "late": {s.late.Addr()}}, entries...)
}

// waitStatus waits until every consumer has the status that of returns for it.
func (s *stateMatrix) waitStatus(t *testing.T, of func(state, change string) string) {
	t.Helper()
	wait.For(t, wait.Timeout, "the status of every consumer", func() error {
		st := s.agent.Status()
		var wrong []string
		s.each(func(state, change, name string) {
			c, listed := st.Consumer(name)
			if want := of(state, change); listed != (want != "") || c.Status != want {
				wrong = append(wrong, fmt.Sprintf("%s is %q (%s), want %q", name, c.Status, c.Error(), want))
			}
		})
		if len(wrong) > 0 {
			return fmt.Errorf("%s", strings.Join(wrong, "\n"))
		}
		return nil
	})
}

// TestEveryEditInEveryState applies one edit that finds consumers in every state and makes
// every change to each, while the brokers are suspended.
func TestEveryEditInEveryState(t *testing.T) {
	t.Parallel()
	s := &stateMatrix{scene: newSceneOn(t, kafkatest.Start(t, kafkatest.Options{}))}
	s.late = badnet.Start(t, s.Addrs()[0])
	s.late.Set(badnet.Fault{LoseRequests: true})
	s.one, s.more, s.absent = s.newTopic(t, "one", 1), s.newTopic(t, "more", 1), "absent-"+s.suffix
	s.Produce(t, kafkatest.Load{Topic: s.one, Partitions: 1, Count: 100})

	var was, stopping, wanted []entry
	s.each(func(state, change, name string) {
		e := s.before(state, name)
		was = append(was, e)
		if state == "stopping" {
			e = e.withState("stopped")
		}
		stopping = append(stopping, e)
		if e, ok := s.after(state, change, name); ok {
			wanted = append(wanted, e)
		}
	})
	s.agent = agenttest.Start(t, agenttest.Options{Config: s.config(was)})
	statuses := map[string]string{"created": "CREATED", "starting": "STARTING", "paused": "PAUSED", "error": "ERROR", "running": "RUNNING", "stopping": "RUNNING"}
	s.waitStatus(t, func(state, _ string) string { return statuses[state] })
	s.each(func(state, _, name string) {
		if statuses[state] == "RUNNING" {
			s.waitCommitted(t, s.agent, s.entry(name, s.one), 100)
		}
	})
	s.Pause()
	s.agent.Write(s.config(stopping))
	statuses["stopping"] = "STOPPING"
	s.waitStatus(t, func(state, _ string) string { return statuses[state] })
	before := s.agent.Status()

	text := s.config(wanted)
	s.agent.Write(text)
	s.agent.WaitStatus("the edit to be accepted", func(st agenttest.Status) bool { return st.Config.SHA256 == agenttest.Sum(text) })
	s.Continue()
	s.late.Set(badnet.Fault{})
	s.CreateTopic(t, s.absent, 1)
	s.waitStatus(t, func(_, change string) string { return outcomes[change].status })
	s.agent.WaitSynced(text)

	for _, topic := range []string{s.one, s.more, s.absent} {
		first := len(s.Read(t, topic)[0])
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: first, Count: 200 - first})
	}
	after := s.agent.Status()
	s.each(func(state, change, name string) { s.check(t, before, after, state, change, name) })
	if th := s.agent.Threads(); len(th.Zombies) > 0 {
		t.Errorf("zombies are %+v", th.Zombies)
	}
}

// check requires of one consumer the outcome of its change.
func (s *stateMatrix) check(t *testing.T, before, after agenttest.Status, state, change, name string) {
	t.Helper()
	b, _ := before.Consumer(name)
	a, _ := after.Consumer(name)
	outcome := outcomes[change]
	if ended, ok := after.Ended(name); ok != !outcome.sameID || ok && !ended.Clean {
		t.Errorf("%s in terminated: %v, %+v", name, ok, ended)
	}
	if (a.ID == b.ID) != outcome.sameID {
		t.Errorf("%s has id %s, had %s", name, a.ID, b.ID)
	}
	member := map[string]bool{"running": true, "paused": true}[state]
	if member && outcome.sameID && outcome.status != "CREATED" && strings.Join(a.MemberIDs, " ") != strings.Join(b.MemberIDs, " ") {
		t.Errorf("%s is member %v, was %v", name, a.MemberIDs, b.MemberIDs)
	}
	e, _ := s.after(state, change, name)
	switch outcome.status {
	case "", "CREATED":
		if g := s.Group(t, e.group); len(g.Members) > 0 {
			t.Errorf("%s still has members: %+v", name, g)
		}
		if n := s.agent.Threads().Consumers[name]; n > 0 {
			t.Errorf("%s has %d goroutines", name, n)
		}
	case "RUNNING":
		s.waitCommitted(t, s.agent, e, int64(200*len(e.topics)))
		for _, topic := range e.topics {
			readTrail(t, e.path).wantExact(t, topic, 1, 200)
		}
	}
}
