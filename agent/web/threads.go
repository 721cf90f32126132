package web

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"kcagent/agent/consumer"
)

// labelFetcher is the label of goroutines that fetch for all consumers of a cluster.
const labelFetcher = "fetcher"

// Threads is everything /threads shows: which goroutines belong to which consumer.
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

// A Zombie is a terminated consumer that still has goroutines.
type Zombie struct {
	Consumer   string    `json:"consumer" doc:"Name of the consumer."`
	Since      time.Time `json:"since" doc:"When the consumer should have ended."`
	Goroutines int       `json:"goroutines" doc:"Number of its goroutines."`
	Functions  []string  `json:"functions" doc:"Topmost functions of their stacks."`
}

// Threads takes a goroutine profile. The profile stops the world for an instant only,
// however many goroutines there are.
func (a *API) Threads() (Threads, error) {
	snap := a.o.Snapshot()
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
	listed := make(map[string]bool, len(snap.Rows)) // by id
	for i := range snap.Rows {
		listed[snap.Rows[i].ID] = true
		t.Consumers[snap.Rows[i].Spec.Name] = 0
	}
	zombies := make(map[string]*Zombie)
	for _, z := range snap.Zombies {
		zombies[z.ID] = &Zombie{Consumer: z.Name, Since: z.Since, Functions: []string{}}
	}
	ended := make(map[string]time.Time, len(snap.Terminated))
	for _, e := range snap.Terminated {
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

// leakGrace is how long the goroutines of a terminated consumer may take to end, because
// sarama does not wait for all of its own.
const leakGrace = 2 * time.Second

// count adds one sample: goroutines with one stack and one set of labels. Goroutines of a
// consumer that is not listed belong to a zombie, even if the consumer ended cleanly:
// nothing else would report such a leak.
func (t *Threads) count(s *profile.Sample, listed map[string]bool, zombies map[string]*Zombie, ended map[string]time.Time) {
	n := int(s.Value[0])
	function, state := describe(s)
	g := ThreadGroup{Count: n, Function: function, State: state, Recognized: true, Cluster: label(s, labelFetcher)}
	t.Goroutines += n
	if name, id := label(s, consumer.LabelConsumer), label(s, consumer.LabelID); name != "" {
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

// merge adds up groups that differ only in the rest of their stacks.
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

// waits maps the runtime's function at the top of a stack to the state that a goroutine
// dump shows for it.
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

// describe returns the function that a stack works for, and its state.
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
	// The stack of a goroutine can have no frames.
	return cmp.Or(function, "(in motion)"), state
}

// plumbing reports whether a function only says how a goroutine waits, and not for what.
func plumbing(name string) bool {
	for _, prefix := range []string{"runtime.", "internal/", "syscall.", "sync.", "time.Sleep", "net.(*", "os.(*File)", "io.", "bufio."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
