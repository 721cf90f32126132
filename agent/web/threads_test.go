package web

import (
	"context"
	"runtime/pprof"
	"testing"
	"time"

	"kcagent/agent/consumer"
)

// TestLeakAfterACleanEndIsAZombie: a goroutine that outlives its consumer is reported as a
// zombie's, although the end looked clean: nothing else would report the leak.
func TestLeakAfterACleanEndIsAZombie(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: leaky}", nil)
	id := a.published.Load().Rows[0].ID
	leak, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pprof.Do(t.Context(), pprof.Labels(consumer.LabelConsumer, "leaky", consumer.LabelID, id), func(context.Context) {
			go func() { <-leak }()
			<-end
		})
	}()
	var n int
	var z *Zombie
	for deadline := time.Now().Add(10 * time.Second); n != 2 && time.Now().Before(deadline); <-time.After(time.Millisecond) {
		n, z, _ = a.threadsOf("leaky")
	}
	if n != 2 || z != nil {
		t.Errorf("while it runs: %d goroutines, zombie %+v", n, z)
	}
	close(end)
	<-ended
	a.publish("  []", func(s *Snapshot) {
		s.Terminated = []Ended{{Name: "leaky", ID: id, At: time.Now(), Clean: true}}
	})
	unrecognized := 0
	for deadline := time.Now().Add(10 * time.Second); z == nil && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		_, z, unrecognized = a.threadsOf("leaky")
	}
	if z == nil || z.Goroutines != 1 || z.Since.IsZero() || len(z.Functions) != 1 {
		t.Errorf("after its end: zombie %+v", z)
	}
	if unrecognized != 1 {
		t.Errorf("%d goroutines are not recognized, want the leaked one", unrecognized)
	}
	close(leak)
}

// threadsOf returns what /threads reports of one consumer; others of the same test process
// may still be ending.
func (a *apiTest) threadsOf(name string) (count int, zombie *Zombie, unrecognized int) {
	a.Helper()
	th, err := a.Threads()
	if err != nil {
		a.Fatal(err)
	}
	for _, z := range th.Zombies {
		if z.Consumer == name {
			zombie = &z
		}
	}
	for _, g := range th.Threads {
		if g.Consumer != nil && *g.Consumer == name && !g.Recognized {
			unrecognized += g.Count
		}
	}
	return th.Consumers[name], zombie, unrecognized
}
