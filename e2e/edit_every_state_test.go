package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// What a consumer is when the edit comes, and what the edit makes of its entry.
var (
	actuals = []string{"created", "starting", "running", "paused", "error", "stopping"}
	wishes  = []string{"run", "pause", "stop", "delete", "replace", "resubscribe"}
)

// outcomes is what each wish leads to, wherever it finds the consumer.
var outcomes = map[string]struct {
	status string // "" for gone
	sameID bool
}{
	"run":         {"RUNNING", true},
	"pause":       {"PAUSED", true},
	"stop":        {"CREATED", true},
	"delete":      {"", false},
	"replace":     {"RUNNING", false},
	"resubscribe": {"RUNNING", true},
}

// A states test has one consumer for each pair of what is and what is wanted.
type stateMatrix struct {
	*scene
	agent             *agenttest.Agent
	late              *gate  // on the way to the brokers for those that are to be starting
	one, more, absent string // topics
}

// each calls f for every pair.
func (s *stateMatrix) each(f func(actual, wish, name string)) {
	for _, actual := range actuals {
		for _, wish := range wishes {
			f(actual, wish, actual+"-"+wish)
		}
	}
}

// before is the entry that makes a consumer what it is to be when the edit comes.
func (s *stateMatrix) before(actual, name string) entry {
	e := s.entry(name, s.one)
	switch actual {
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

// after is what the edit makes of it; ok is false if nothing.
func (s *stateMatrix) after(actual, wish, name string) (e entry, ok bool) {
	e = s.before(actual, name).withState("running")
	switch wish {
	case "pause":
		e = e.withState("paused")
	case "stop":
		e = e.withState("stopped")
	case "replace":
		e = e.with("isolation: read_uncommitted")
	case "resubscribe":
		e = e.withTopics(s.one, s.more)
	}
	return e, wish != "delete"
}

func (s *stateMatrix) config(entries []entry) string {
	return configText(map[string][]string{"main": s.Addrs(), "late": {s.late.addr}}, entries...)
}

// waitStatus waits until every consumer has the status that of says.
func (s *stateMatrix) waitStatus(t *testing.T, of func(actual, wish string) string) {
	t.Helper()
	wait.For(t, wait.Timeout, "every consumer to be where it should", func() error {
		st := s.agent.Status()
		var wrong []string
		s.each(func(actual, wish, name string) {
			c, listed := st.Consumer(name)
			if want := of(actual, wish); listed != (want != "") || c.Status != want {
				wrong = append(wrong, fmt.Sprintf("%s is %q (%s), want %q", name, c.Status, c.Error(), want))
			}
		})
		if len(wrong) > 0 {
			return fmt.Errorf("%s", strings.Join(wrong, "\n"))
		}
		return nil
	})
}

// TestEveryEditInEveryState makes one edit that finds consumers in every state with
// every wish, while the brokers hang, and sees what becomes of each.
func TestEveryEditInEveryState(t *testing.T) {
	t.Parallel()
	s := &stateMatrix{scene: newScene(t), late: newGate(t)}
	s.Cluster = kafkatest.Start(t, kafkatest.Options{})
	s.late.to = s.Addrs()[0]
	s.one, s.more, s.absent = s.newTopic(t, "one", 1), s.newTopic(t, "more", 1), "absent-"+s.suffix
	s.Produce(t, kafkatest.Load{Topic: s.one, Partitions: 1, Count: 100})

	var was, stopping, wanted []entry
	s.each(func(actual, wish, name string) {
		e := s.before(actual, name)
		was = append(was, e)
		if actual == "stopping" {
			e = e.withState("stopped")
		}
		stopping = append(stopping, e)
		if e, ok := s.after(actual, wish, name); ok {
			wanted = append(wanted, e)
		}
	})
	s.agent = agenttest.Start(t, agenttest.Options{Config: s.config(was)})
	statuses := map[string]string{"created": "CREATED", "starting": "STARTING", "paused": "PAUSED", "error": "ERROR", "running": "RUNNING", "stopping": "RUNNING"}
	s.waitStatus(t, func(actual, _ string) string { return statuses[actual] })
	s.each(func(actual, _, name string) {
		if statuses[actual] == "RUNNING" {
			s.waitCommitted(t, s.agent, s.entry(name, s.one), 100)
		}
	})
	s.Pause()
	s.agent.Write(s.config(stopping))
	statuses["stopping"] = "STOPPING"
	s.waitStatus(t, func(actual, _ string) string { return statuses[actual] })
	before := s.agent.Status()

	text := s.config(wanted)
	s.agent.Write(text)
	s.agent.WaitStatus("the edit to be taken", func(st agenttest.Status) bool { return st.Config.SHA256 == agenttest.Sum(text) })
	s.Continue()
	s.late.open()
	s.CreateTopic(t, s.absent, 1)
	s.waitStatus(t, func(_, wish string) string { return outcomes[wish].status })
	s.agent.WaitSynced(text)

	for _, topic := range []string{s.one, s.more, s.absent} {
		first := len(s.Read(t, topic)[0])
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: first, Count: 200 - first})
	}
	after := s.agent.Status()
	s.each(func(actual, wish, name string) { s.check(t, before, after, actual, wish, name) })
	if th := s.agent.Threads(); len(th.Zombies) > 0 {
		t.Errorf("zombies are %+v", th.Zombies)
	}
}

// check demands of one consumer what its wish leads to.
func (s *stateMatrix) check(t *testing.T, before, after agenttest.Status, actual, wish, name string) {
	t.Helper()
	b, _ := before.Consumer(name)
	a, _ := after.Consumer(name)
	outcome := outcomes[wish]
	if ended, ok := after.Ended(name); ok != !outcome.sameID || ok && !ended.Clean {
		t.Errorf("%s is among the ended: %v, %+v", name, ok, ended)
	}
	if (a.ID == b.ID) != outcome.sameID {
		t.Errorf("%s has id %s, had %s", name, a.ID, b.ID)
	}
	member := map[string]bool{"running": true, "paused": true}[actual]
	if member && outcome.sameID && outcome.status != "CREATED" && strings.Join(a.MemberIDs, " ") != strings.Join(b.MemberIDs, " ") {
		t.Errorf("%s is member %v, was %v", name, a.MemberIDs, b.MemberIDs)
	}
	e, _ := s.after(actual, wish, name)
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

// A gate is a way to a broker that is shut at first: connections are accepted,
// and nothing comes through. What the broker says of its own address leads past
// it afterwards.
type gate struct {
	addr, to string
	opened   chan struct{}
	open     func()
}

func newGate(t *testing.T) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	var running sync.WaitGroup
	t.Cleanup(func() { g.open(); _ = l.Close(); running.Wait() })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(conn)
		}
	})
	return g
}

func (g *gate) pass(conn net.Conn) {
	defer conn.Close()
	<-g.opened
	broker, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	defer broker.Close()
	go func() { _, _ = io.Copy(broker, conn); _ = broker.Close() }()
	_, _ = io.Copy(conn, broker)
}
