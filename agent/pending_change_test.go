package agent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/plan"
	"kcagent/retry"
)

// TestPhasesOfAPendingChange: each row is a sequence of events and what the change waits
// for afterwards.
func TestPhasesOfAPendingChange(t *testing.T) {
	now := time.Unix(1000, 0)
	by := &holder{entry: &entry{name: "b"}}
	refusedLogin := fmt.Errorf("log in: %w", sarama.ErrSASLAuthenticationFailed)
	var p *pendingChange
	start, pass := func() { p.start() }, func() { p.pass() }
	fail := func() { p.fail(errors.New("unreachable"), now) }
	refuse := func() { p.fail(refusedLogin, now) }
	block := func() { p.block(by) }
	for name, tt := range map[string]struct {
		events []func()
		phase  changePhase
		checks int
		due    bool // at once
		passed bool
		err    string
		within time.Duration // of the next pre-check; 0 if none is planned
	}{
		"new":                   {phase: inBackoff, due: true},
		"started":               {events: []func(){start}, phase: preChecking, checks: 1},
		"failed":                {events: []func(){start, fail}, phase: inBackoff, checks: 1, err: "unreachable", within: time.Second},
		"retried":               {events: []func(){start, fail, start}, phase: preChecking, checks: 2, err: "unreachable"},
		"failed four times":     {events: []func(){start, fail, start, fail, start, fail, start, fail}, phase: inBackoff, checks: 4, err: "unreachable", within: 4 * time.Second},
		"login rejected":        {events: []func(){start, refuse}, phase: inBackoff, checks: 1, err: refusedLogin.Error(), within: retry.DefaultLast},
		"passed":                {events: []func(){start, pass}, phase: ready, checks: 1, passed: true},
		"passed after failures": {events: []func(){start, fail, start, pass}, phase: ready, checks: 2, passed: true},
		"blocked":               {events: []func(){start, pass, block}, phase: blocked, checks: 1, passed: true, err: "waits until consumer b releases "},
		"blocked twice":         {events: []func(){start, pass, block, block}, phase: blocked, checks: 1, passed: true, err: "waits until consumer b releases "},
	} {
		t.Run(name, func(t *testing.T) {
			p = newPendingChange(plan.Change{Op: plan.Replace, Name: "a"}, now)
			for _, event := range tt.events {
				event()
			}
			if p.phase != tt.phase || p.checks != tt.checks || p.due(now) != tt.due || p.passed() != tt.passed {
				t.Errorf("phase %d, %d checks, due %v, passed %v", p.phase, p.checks, p.due(now), p.passed())
			}
			s := p.status()
			if (s.Error == nil) != (tt.err == "") || s.Error != nil && *s.Error != tt.err {
				t.Errorf("the error is %v, want %q", s.Error, tt.err)
			}
			switch {
			case (s.NextTryAt == nil) != (tt.within == 0):
				t.Errorf("the next pre-check is at %v", s.NextTryAt)
			case s.NextTryAt == nil:
			case p.due(*s.NextTryAt) != true || s.NextTryAt.Before(now) || s.NextTryAt.Sub(now) > tt.within:
				t.Errorf("the next pre-check is at %s, want it within %s", s.NextTryAt.Sub(now), tt.within)
			}
		})
	}
}
