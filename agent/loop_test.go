package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/agent/consumer"
	"kcagent/config"
	"kcagent/sink"
)

// A loopTest runs an agent with fake consumers, and records when they start and end.
// Everything runs inside a synctest bubble, so times are exact.
type loopTest struct {
	t       *testing.T
	agent   *Agent
	updates chan config.Update
	done    chan error

	mu    sync.Mutex
	fails map[string]error         // what pre-checks find, by consumer
	slow  map[string]time.Duration // how long a consumer takes to stop
	alive map[string]int           // by name and by sink
	log   []string
}

func startLoop(t *testing.T, o Options) (s *loopTest, stop func() error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s = &loopTest{
		t: t, agent: New(o), updates: make(chan config.Update), done: make(chan error, 1),
		fails: make(map[string]error), slow: make(map[string]time.Duration), alive: make(map[string]int),
	}
	s.agent.newRunner, s.agent.preCheck = s.newRunner, s.preCheck
	ctx, cancel := context.WithCancel(t.Context())
	go func() { s.done <- s.agent.Run(ctx, s.updates) }()
	return s, func() error {
		cancel()
		return <-s.done
	}
}

func (s *loopTest) newRunner(spec *config.Consumer) runner {
	f := newFakeRunner(spec)
	f.run = func(ctx context.Context) { s.run(ctx, f) }
	return f
}

// runner is the fake of a consumer, in the order of /status.
func (s *loopTest) runner(i int) *fakeRunner {
	return s.agent.snapshot.Load().Rows[i].Consumer.(*fakeRunner)
}

func (s *loopTest) run(ctx context.Context, f *fakeRunner) {
	spec := f.asked()
	s.enter(spec.Name, +1)
	s.enter(spec.Sink.String(), +1)
	<-ctx.Done()
	f.to(consumer.Stopping, "")
	s.mu.Lock()
	slow := s.slow[spec.Name]
	s.mu.Unlock()
	time.Sleep(slow)
	s.enter(spec.Name, -1)
	s.enter(spec.Sink.String(), -1)
}

// preCheckTakes is how long each pre-check takes.
const preCheckTakes = time.Millisecond

func (s *loopTest) preCheck(_ context.Context, specs []config.Consumer, _ []sink.Spec, report func(int, error)) {
	time.Sleep(preCheckTakes)
	for i, w := range specs {
		s.mu.Lock()
		err := s.fails[w.Name]
		s.mu.Unlock()
		report(i, err)
	}
}

// fail has the pre-checks of a consumer find err from now on.
func (s *loopTest) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[name] = err
}

func (s *loopTest) enter(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive[what] += n
	if s.alive[what] > 1 {
		s.t.Errorf("%s is held twice at once", what)
	}
	s.log = append(s.log, fmt.Sprintf("%+d %s", n, what))
}

func (s *loopTest) isAlive(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive[what] > 0
}

// settle waits until everything has happened that takes no longer than a pre-check and a
// stop.
func settle() {
	synctest.Wait()
	time.Sleep(preCheckTakes + 3*gatherTime)
	synctest.Wait()
}

func (s *loopTest) edit(consumers string) {
	s.t.Helper()
	s.updates <- updateOf(s.t, consumers)
	settle()
}

// specsOf parses consumers as in a file.
func specsOf(t *testing.T, consumers string) []config.Consumer {
	t.Helper()
	file := "clusters: {main: {brokers: ['localhost:9092']}}\n" +
		"defaults: {cluster: main, topics: [t], sink: {file: {path: '/data/{name}.log'}}}\nconsumers:\n" + consumers
	c, problems := config.Parse("consumers.yaml", []byte(file), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c.Consumers
}

func updateOf(t *testing.T, consumers string) config.Update {
	t.Helper()
	return config.Update{
		Path: "consumers.yaml", SHA256: consumers, Text: consumers, At: time.Now(),
		Config: &config.Config{
			Limits:    config.Limits{MaxConsumers: 2000, MaxRemovedPercent: 100},
			Consumers: specsOf(t, consumers),
		},
	}
}

func (s *loopTest) badEdit() {
	s.updates <- config.Update{Path: "consumers.yaml", SHA256: "bad", Text: "not YAML\n", Problems: config.Problems{{Line: 3, Message: "bad"}}}
	settle()
}

// states is "a=RUNNING b=PAUSED" in the order of /status.
func (s *loopTest) states() string {
	var all []string
	for _, c := range s.agent.Status().Consumers {
		all = append(all, c.Name+"="+string(c.Status))
	}
	return strings.Join(all, " ")
}

func (s *loopTest) wantStates(want string) {
	s.t.Helper()
	settle()
	if got := s.states(); got != want {
		s.t.Errorf("states are %q, want %q", got, want)
	}
}
