package agent

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// labelFetcher is the label of goroutines that fetch for all consumers of a cluster.
const labelFetcher = "fetcher"

// Threads is everything /threads shows: which goroutine belongs to whom.
type Threads struct {
	Goroutines int            `json:"goroutines" doc:"All goroutines of the process."`
	OSThreads  int            `json:"os_threads" doc:"Threads of the operating system."`
	Threads    []ThreadGroup  `json:"threads" doc:"Groups of goroutines with the same owner, function and state."`
	Consumers  map[string]int `json:"consumers" doc:"Number of goroutines by consumer."`
	Zombies    []Zombie       `json:"zombies" doc:"Consumers that should have ended and still have goroutines."`
}

// A ThreadGroup is all goroutines of one owner that do the same.
type ThreadGroup struct {
	Consumer   *string `json:"consumer" doc:"Consumer that the goroutines belong to; null for the goroutines of the agent."`
	Cluster    string  `json:"cluster,omitempty" doc:"Cluster whose records the goroutines fetch, for all of its consumers; absent for other goroutines."`
	Recognized bool    `json:"recognized" doc:"Whether the goroutines belong to a listed consumer or to the agent; false for those of a zombie."`
	Count      int     `json:"count" doc:"Number of goroutines."`
	Function   string  `json:"function" doc:"Topmost function of the stack that is not part of the runtime."`
	State      string  `json:"state" doc:"What the goroutines wait for, or running."`
}

// A Zombie is a consumer whose goroutines are there although it should be gone.
type Zombie struct {
	Consumer   string    `json:"consumer" doc:"Name of the consumer."`
	Since      time.Time `json:"since" doc:"When the consumer should have ended."`
	Goroutines int       `json:"goroutines" doc:"Number of its goroutines."`
	Functions  []string  `json:"functions" doc:"Topmost functions of their stacks."`
}

// Threads takes a goroutine profile. It stops the world for an instant only,
// however many goroutines there are.
func (a *Agent) Threads() (Threads, error) {
	snap := a.snapshot.Load()
	var buf bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 0); err != nil {
		return Threads{}, fmt.Errorf("take goroutine profile: %w", err)
	}
	prof, err := profile.Parse(&buf)
	if err != nil {
		return Threads{}, fmt.Errorf("read goroutine profile: %w", err)
	}
	t := Threads{
		OSThreads: readResources().OSThreads,
		Threads:   []ThreadGroup{}, Consumers: make(map[string]int), Zombies: []Zombie{},
	}
	listed := make(map[string]bool, len(snap.rows)) // by id
	for _, r := range snap.rows {
		listed[r.runner.Snapshot().ID] = true
		t.Consumers[r.spec.Name] = 0
	}
	zombies := make(map[string]*Zombie)
	for _, z := range snap.zombies {
		zombies[z.id] = &Zombie{Consumer: z.name, Since: z.since, Functions: []string{}}
	}
	ended := make(map[string]time.Time, len(snap.terminated))
	for _, e := range snap.terminated {
		ended[e.ID] = e.At
	}
	for _, s := range prof.Sample {
		t.count(s, listed, zombies, ended)
	}
	for _, z := range zombies {
		slices.Sort(z.Functions)
		z.Functions = slices.Compact(z.Functions)
		t.Zombies = append(t.Zombies, *z)
	}
	slices.SortFunc(t.Zombies, func(a, b Zombie) int {
		return cmp.Or(cmp.Compare(a.Consumer, b.Consumer), a.Since.Compare(b.Since))
	})
	t.merge()
	return t, nil
}

// leakGrace is how long a consumer's last goroutines may take to fall asleep
// for good after its end: sarama does not wait for all of them.
const leakGrace = 2 * time.Second

// count adds one sample: goroutines with one stack and one set of labels.
// Goroutines of a consumer that is not listed are a zombie's, whether or not
// its end was clean: a leak is what this page is there to show.
func (t *Threads) count(s *profile.Sample, listed map[string]bool, zombies map[string]*Zombie, ended map[string]time.Time) {
	n := int(s.Value[0])
	function, state := describe(s)
	g := ThreadGroup{Count: n, Function: function, State: state, Recognized: true, Cluster: label(s, labelFetcher)}
	t.Goroutines += n
	if name, id := label(s, labelConsumer), label(s, labelID); name != "" {
		at, hasEnded := ended[id]
		leaving := zombies[id] == nil && hasEnded && time.Since(at) < leakGrace
		g.Consumer, g.Recognized = &name, listed[id] || leaving
		switch {
		case listed[id]:
			t.Consumers[name] += n
		case !leaving:
			z := zombies[id]
			if z == nil {
				z = &Zombie{Consumer: name, Since: at}
				zombies[id] = z
			}
			z.Goroutines += n
			z.Functions = append(z.Functions, function)
		}
	}
	t.Threads = append(t.Threads, g)
}

// merge joins groups that differ only in the rest of their stacks.
func (t *Threads) merge() {
	type key struct {
		consumer, cluster, function, state string
		recognized                         bool
	}
	groups := make(map[key]*ThreadGroup, len(t.Threads))
	for _, g := range t.Threads {
		k := key{cluster: g.Cluster, function: g.Function, state: g.State, recognized: g.Recognized}
		if g.Consumer != nil {
			k.consumer = *g.Consumer
		}
		if have := groups[k]; have != nil {
			have.Count += g.Count
			continue
		}
		groups[k] = &g
	}
	t.Threads = t.Threads[:0]
	for _, g := range groups {
		t.Threads = append(t.Threads, *g)
	}
	name := func(g ThreadGroup) string {
		if g.Consumer == nil {
			return ""
		}
		return *g.Consumer
	}
	slices.SortFunc(t.Threads, func(a, b ThreadGroup) int {
		return cmp.Or(cmp.Compare(name(a), name(b)), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(b.Count, a.Count),
			cmp.Compare(a.Function, b.Function), cmp.Compare(a.State, b.State))
	})
}

func label(s *profile.Sample, key string) string {
	if v := s.Label[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// waits maps what the runtime is doing at the top of a stack to the word that
// a goroutine dump uses for it.
var waits = []struct{ function, state string }{
	{"runtime.chanrecv", "chan receive"},
	{"runtime.chansend", "chan send"},
	{"runtime.selectgo", "select"},
	{"runtime.netpollblock", "IO wait"},
	{"runtime.semacquire", "semacquire"},
	{"runtime.notifyListWait", "sync.Cond.Wait"},
	{"sync.runtime_notifyListWait", "sync.Cond.Wait"},
	{"internal/runtime/syscall", "syscall"},
	{"syscall.", "syscall"},
	{"time.Sleep", "sleep"},
}

// describe names the work of a stack, and what it waits for.
func describe(s *profile.Sample) (function, state string) {
	state = "running"
	for _, loc := range s.Location {
		for _, line := range loc.Line {
			name := line.Function.Name
			for _, w := range waits {
				if state == "running" && strings.HasPrefix(name, w.function) {
					state = w.state
				}
			}
			if !plumbing(name) {
				return name, state
			}
			function = cmp.Or(function, name)
		}
	}
	// A goroutine that was between two instructions has a stack without frames.
	return cmp.Or(function, "(in motion)"), state
}

// plumbing tells functions that say how a goroutine waits from those that say
// what for.
func plumbing(name string) bool {
	for _, prefix := range []string{"runtime.", "internal/", "syscall.", "sync.", "time.Sleep", "net.(*", "os.(*File)", "io.", "bufio."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
