package login

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/config/filewatch"
)

// TestLoginBreakerTransitions: each row is a state of the breaker, an event, and the state
// after it.
func TestLoginBreakerTransitions(t *testing.T) {
	rejected := fmt.Errorf("connect to a:1: %w", sarama.ErrSASLAuthenticationFailed)
	fails := func(err error, opens bool) func(*testing.T, *Breaker) {
		return func(t *testing.T, b *Breaker) {
			if opened := b.recordError(err); opened != opens {
				t.Errorf("recordError(%v) returned %v", err, opened)
			}
		}
	}
	dial := func(allowed bool) func(*testing.T, *Breaker) {
		return func(t *testing.T, b *Breaker) {
			blocked, err := b.Blocked(), b.Allow()
			if (err == nil) != allowed || (blocked == nil) != allowed {
				t.Errorf("blocked returned %v, and allow returned %v", blocked, err)
			}
			if err != nil && (!InBackoff(err) || !errors.Is(err, sarama.ErrSASLAuthenticationFailed)) {
				t.Errorf("the error is %v", err)
			}
		}
	}
	answers := func(_ *testing.T, b *Breaker) { b.RecordSuccess() }
	const almost = loginBackoff - time.Millisecond
	for _, c := range []struct {
		name  string
		from  breakerState
		after time.Duration // since it is in that state
		event func(*testing.T, *Breaker)
		to    breakerState
		fresh bool // the time of the backoff or of the trial begins now
	}{
		{"closed allows", breakerClosed, 0, dial(true), breakerClosed, false},
		{"a rejection opens", breakerClosed, 0, fails(rejected, true), breakerOpen, true},
		{"a failed token opens", breakerClosed, 0, fails(&tokenError{errors.New("no token")}, true), breakerOpen, true},
		{"another error does not open", breakerClosed, 0, fails(errors.New("connection reset"), false), breakerClosed, false},
		{"a login that was not sent does not open", breakerClosed, 0, fails(&BackoffError{Rejection: rejected}, false), breakerClosed, false},
		{"open blocks", breakerOpen, almost, dial(false), breakerOpen, false},
		{"a login in flight does not extend the backoff", breakerOpen, almost, fails(rejected, false), breakerOpen, false},
		{"an answer on an older connection does not close", breakerOpen, almost, answers, breakerOpen, false},
		{"the first login after the backoff is the trial", breakerOpen, loginBackoff, dial(true), breakerHalfOpen, true},
		{"half-open blocks others", breakerHalfOpen, 0, dial(false), breakerHalfOpen, false},
		{"a trial that is rejected opens", breakerHalfOpen, 0, fails(rejected, true), breakerOpen, true},
		{"a login that waits for the trial changes nothing", breakerHalfOpen, 0, fails(&BackoffError{Rejection: rejected}, false), breakerHalfOpen, false},
		{"an answer closes", breakerHalfOpen, 0, answers, breakerClosed, false},
		{"a trial without an error closes", breakerHalfOpen, trialTime, dial(true), breakerClosed, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := new(Breaker)
			if c.from != breakerClosed {
				b.recordError(rejected)
			}
			if c.from == breakerHalfOpen {
				time.Sleep(loginBackoff)
				_ = b.Allow()
			}
			if b.state != c.from {
				t.Fatalf("%s: the state is %d, want %d", c.name, b.state, c.from)
			}
			time.Sleep(c.after)
			until := b.until
			c.event(t, b)
			if b.state != c.to || b.until.After(until) != c.fresh || (b.err != nil) != (c.to != breakerClosed) {
				t.Errorf("%s: the state is %d, want %d; until %v, was %v; error %v", c.name, b.state, c.to, b.until, until, b.err)
			}
		})
	}
}

// TestLoginBreakerStoresTheRejectionAlone: the text around it concerns one consumer.
func TestLoginBreakerStoresTheRejectionAlone(t *testing.T) {
	b := new(Breaker)
	b.recordError(fmt.Errorf("join group g: %w", fmt.Errorf("connect to a:1: %w", sarama.ErrSASLAuthenticationFailed)))
	if err := b.Allow(); err == nil || err.Error() != "login is not retried yet: "+sarama.ErrSASLAuthenticationFailed.Error() {
		t.Errorf("the error is %v", err)
	}
}

// TestReplacedCredentialsIgnoreErrorsOfFormerOnes: connections with the former credentials
// may fail just after they were replaced. An error of a connection with the new ones counts.
func TestReplacedCredentialsIgnoreErrorsOfFormerOnes(t *testing.T) {
	for _, own := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := &Credentials{Breaker: new(Breaker)}
			record := c.RecordClusterError
			if own {
				record = c.RecordError
			}
			c.Breaker.Replace()
			time.Sleep(loginBackoff - time.Millisecond)
			record(sarama.ErrSASLAuthenticationFailed)
			if counts := c.Breaker.Allow() != nil; counts != own {
				t.Errorf("own connection %v: the rejection counts: %v", own, counts)
			}
			time.Sleep(2 * loginBackoff)
			record(sarama.ErrSASLAuthenticationFailed)
			if c.Breaker.Allow() == nil {
				t.Errorf("own connection %v: a later rejection does not count", own)
			}
		})
	}
}

// TestUnusedLoginBreakersAreRememberedForAWhile: credentials that come back within a minute
// find the breaker that they left.
func TestUnusedLoginBreakersAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bs Breakers
		reach, other := rejectedLogin(), rejectedLogin()
		other.SASL.Username = "v"
		b := bs.Get(reach, nil)
		bs.Put(b)
		if bs.Get(reach, nil) == b {
			t.Error("a closed breaker is remembered")
		}
		b.recordError(sarama.ErrSASLAuthenticationFailed)
		bs.Put(b)
		bs.Put(b)
		if bs.Get(rejectedLogin(), nil) != b {
			t.Error("the breaker is not found")
		}
		if bs.Get(other, nil) == b || bs.Get(reach, filewatch.Fingerprints{"f": "1"}) == b {
			t.Error("another login has the breaker")
		}
		time.Sleep(loginBackoff + breakerKept + time.Second)
		if bs.Get(reach, nil) == b || len(bs.unused) > 0 {
			t.Error("the breaker is still remembered")
		}
	})
}

func rejectedLogin() config.Cluster {
	return config.Cluster{Brokers: []string{"127.0.0.1:1"}, SASL: &config.SASL{Mechanism: config.Plain, Username: "u"}}
}
