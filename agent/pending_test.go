package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/retry"
)

func (s *loopTest) consumer(name string) web.ConsumerStatus {
	s.t.Helper()
	for _, c := range s.agent.Status().Consumers {
		if c.Name == name {
			return c
		}
	}
	s.t.Fatalf("no consumer is named %s", name)
	return web.ConsumerStatus{}
}

// wantPending fails unless a change is pending because of why.
func (s *loopTest) wantPending(name string, action plan.Op, why string) web.PendingChange {
	s.t.Helper()
	settle()
	p := s.consumer(name).PendingChange
	if p == nil || p.Action != action || p.Error == nil || !strings.Contains(*p.Error, why) {
		s.t.Fatalf("pending is %+v, want %s because of %s", p, action, why)
	}
	return *p
}

func TestFailedPreCheckKeepsTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b}")
		was := s.consumer("a")
		s.fail("a", errors.New("no such topic"))
		s.edit("  - {name: a, group: g, topics: [x]}\n  - {name: b, topics: [y]}")
		p := s.wantPending("a", plan.Replace, "no such topic")
		if p.Tries != 1 || p.NextTryAt == nil || strings.Join(p.Fields, " ") != "group topics" {
			t.Errorf("pending is %+v", p)
		}
		if c := s.agent.Status().Config.State; c != "applying" {
			t.Errorf("the configuration is %s", c)
		}
		if b := s.consumer("b"); b.PendingChange != nil || strings.Join(b.Topics, " ") != "y" {
			t.Errorf("b is %+v", b)
		}
		time.Sleep(time.Until(*p.NextTryAt) + time.Millisecond)
		if p = s.wantPending("a", plan.Replace, "no such topic"); p.Tries != 2 {
			t.Errorf("pending is %+v", p)
		}
		time.Sleep(3 * time.Minute)
		if p = s.wantPending("a", plan.Replace, "no such topic"); p.Tries < 12 || p.Tries > 30 {
			t.Errorf("%d pre-checks in three minutes", p.Tries)
		}
		if now := s.consumer("a"); now.ID != was.ID || now.Group != was.Group || now.Status != consumer.Running {
			t.Errorf("with the current spec it is %+v, was %+v", now, was)
		}
		s.fail("a", nil)
		time.Sleep(retry.DefaultLast)
		settle()
		if now := s.consumer("a"); now.ID == was.ID || now.Group != "g" || now.PendingChange != nil || now.Status != consumer.Running {
			t.Errorf("with the new spec it is %+v", now)
		}
		if c := s.agent.Status().Config.State; c != "synced" {
			t.Errorf("the configuration is %s", c)
		}
	})
}

func TestNewerEditReplacesThePendingChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}")
		was := s.consumer("a")
		s.fail("a", errors.New("unreachable"))
		s.edit("  - {name: a, group: g}")
		s.wantPending("a", plan.Replace, "unreachable")
		s.edit("  - {name: a, topics: [x]}")
		if p := s.wantPending("a", plan.Resubscribe, "unreachable"); p.Tries != 1 || strings.Join(p.Fields, " ") != "topics" {
			t.Errorf("pending is %+v", p)
		}
		// The result of the older pre-check is ignored.
		s.fail("a", nil)
		s.updates <- updateOf(t, "  - {name: a, group: h}")
		synctest.Wait()
		s.fail("a", errors.New("too late"))
		s.updates <- updateOf(t, "  - {name: a, group: i}")
		s.wantPending("a", plan.Replace, "too late")
		s.edit("  - {name: a}")
		if now := s.consumer("a"); now.PendingChange != nil || now.ID != was.ID || now.Group != was.Group {
			t.Errorf("after the edit back a is %+v", now)
		}
		time.Sleep(time.Minute)
		if now := s.consumer("a"); now.ID != was.ID || s.agent.Status().Config.State != "synced" {
			t.Errorf("after a minute a is %+v", now)
		}
	})
}

func TestStateDoesNotWaitForAPreCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b}\n  - {name: c}")
		was := s.consumer("a")
		for _, name := range []string{"a", "b", "c"} {
			s.fail(name, errors.New("unreachable"))
		}
		s.edit("  - {name: a, group: g, state: paused}\n  - {name: b, group: g2}\n  - {name: c, group: g3}")
		s.wantPending("a", plan.Replace, "unreachable")
		if got := s.runner(0).asked(); got.State != config.Paused || got.Group != was.Group {
			t.Errorf("a is asked to be %s in group %s, want the current spec, paused", got.State, got.Group)
		}
		s.edit("  - {name: a, group: g, flush: {interval: 9s}}\n  - {name: b, group: g2, state: stopped}")
		s.wantStates("a=RUNNING b=CREATED")
		if got := s.runner(0).asked(); got.State != config.Running || got.Flush.Interval == 9*time.Second {
			t.Errorf("a is asked to be %+v, want the current spec, running, without the pending fields", got)
		}
		if b := s.consumer("b"); b.PendingChange != nil || b.Group != "g2" {
			t.Errorf("a stopped one is %+v: it does not run, so no pre-check could protect it", b)
		}
		s.fail("a", nil)
		time.Sleep(retry.DefaultLast)
		settle()
		if got := s.runner(0).asked(); got.Group != "g" || got.Flush.Interval != 9*time.Second {
			t.Errorf("a is %+v", got)
		}
	})
}

func TestConsumersExchangeTheirFiles(t *testing.T) {
	const entry = "  - {name: NAME, sink: {file: {path: /PATH.log}}}\n"
	file := func(paths ...string) (text string) {
		for i, p := range paths {
			text += strings.NewReplacer("NAME", string(rune('a'+i)), "PATH", p).Replace(entry)
		}
		return text
	}
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["a"] = 2 * time.Second
		s.edit(file("1", "2", "3"))
		s.edit(file("2", "3", "1")) // together
		time.Sleep(3 * time.Second)
		s.wantStates("a=RUNNING b=RUNNING c=RUNNING")
		if a := s.consumer("a"); a.Sink != "file:/2.log" {
			t.Errorf("a writes %s", a.Sink)
		}
		s.fail("b", errors.New("unreachable"))
		s.edit(file("3", "4", "1")) // a waits for the file that b keeps
		s.wantPending("b", plan.Replace, "unreachable")
		if p := s.wantPending("a", plan.Replace, "waits until consumer b releases file:/3.log"); p.NextTryAt != nil {
			t.Errorf("a has another pre-check at %s, although it passed", p.NextTryAt)
		}
		s.wantStates("a=RUNNING b=RUNNING c=RUNNING")
		s.fail("b", nil)
		time.Sleep(time.Second)
		s.wantStates("a=STOPPING b=RUNNING c=RUNNING")
		time.Sleep(3 * time.Second)
		s.wantStates("a=RUNNING b=RUNNING c=RUNNING")
		if a, b := s.consumer("a"), s.consumer("b"); a.Sink != "file:/3.log" || b.Sink != "file:/4.log" {
			t.Errorf("a writes %s, b writes %s", a.Sink, b.Sink)
		}
	})
}

// TestZombieKeepsItsFile: a consumer that needs the file keeps its current one.
func TestZombieKeepsItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{StopTimeout: 5 * time.Second})
		defer stop()
		s.slow["a"] = time.Minute
		s.edit("  - {name: a, sink: {file: {path: /1.log}}}\n  - {name: b, sink: {file: {path: /2.log}}}")
		s.edit("  - {name: b, sink: {file: {path: /1.log}}}")
		s.wantPending("b", plan.Replace, "waits until consumer a releases")
		time.Sleep(6 * time.Second)
		s.wantPending("b", plan.Replace, "waits until zombie a releases")
		s.wantStates("b=RUNNING")
		time.Sleep(time.Minute)
		if b := s.consumer("b"); b.Sink != "file:/1.log" || b.Status != consumer.Running {
			t.Errorf("b is %+v", b)
		}
	})
}

func TestTerminationDuringAPreCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		s.edit("  - {name: a}\n  - {name: b}")
		s.fail("b", errors.New("unreachable"))
		s.updates <- updateOf(t, "  - {name: a, group: g}\n  - {name: b, group: h}")
		synctest.Wait()
		s.updates <- updateOf(t, "  - {name: b, group: h}")
		settle()
		if st := s.agent.Status(); len(st.Terminated) != 1 {
			t.Errorf("the terminated consumer is %+v", st.Consumers)
		}
		s.updates <- updateOf(t, "  - {name: b, group: i}")
		synctest.Wait()
		if err := stop(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
}

// TestRejectedLoginDelaysTheNextPreCheck: an account may be locked after a few logins with
// the wrong password.
func TestRejectedLoginDelaysTheNextPreCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}")
		s.fail("a", fmt.Errorf("authenticate to cluster main: %w", sarama.ErrSASLAuthenticationFailed))
		s.edit("  - {name: a, group: g}")
		p := s.wantPending("a", plan.Replace, "authenticate to cluster main")
		if wait := time.Until(*p.NextTryAt); p.Tries != 1 || wait < 3*time.Second {
			t.Errorf("after %d pre-checks it waits for %v", p.Tries, wait)
		}
	})
}

// TestMissingTopicsOfAPreCheckAreAwaited: the consumer learns which topics its next spec
// waits for, so that it reads them from their beginning once they are created.
func TestMissingTopicsOfAPreCheckAreAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}")
		s.fail("a", errors.Join(&fetch.TopicError{Topic: "x", Err: sarama.ErrUnknownTopicOrPartition}, errors.New("unreachable")))
		s.edit("  - {name: a, topics: [x]}")
		s.wantPending("a", plan.Resubscribe, "x")
		if got := s.runner(0).awaited; !slices.Equal(got, []string{"x"}) {
			t.Errorf("awaited are %v", got)
		}
	})
}

func TestReopenReachesEveryConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b, state: paused}")
		s.agent.Reopen()
		settle()
		for i := range 2 {
			if n := s.runner(i).reopens; n != 1 {
				t.Errorf("consumer %d was asked %d times", i, n)
			}
		}
	})
}
