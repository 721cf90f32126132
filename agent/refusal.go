package agent

import (
	"errors"
	"maps"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"kcagent/config"
)

const (
	// refusalHolds is how long credentials that a cluster has refused are not
	// shown to it again: accounts are locked for less than what a thousand
	// consumers would do that try for themselves.
	refusalHolds = 6 * time.Second
	// trialTakes is how long the first login after that is waited for. If it is
	// not refused, the others follow.
	trialTakes = time.Second
	// refusalKept is how long it is remembered although nobody tries.
	refusalKept = time.Minute
)

// A refusal is what all consumers of a cluster remember of the last time that it
// refused their credentials. It outlives the cluster: while all of them wait
// before a next try, nobody uses that.
type refusal struct {
	spec config.Cluster

	mu     sync.Mutex
	err    error         // nil: there was none
	prints config.Prints // of the files with the credentials; others are none of its business
	until  time.Time     // when they may be shown again
	trial  bool          // they are, once
}

// A heldError stands for a login that was not tried.
type heldError struct{ error }

func (e *heldError) Error() string {
	return "not tried again so soon: " + e.error.Error()
}

func (e *heldError) Unwrap() error { return e.error }

func held(err error) bool { return errors.As(err, new(*heldError)) }

// holds returns an error if keys are not to be shown now.
func (r *refusal) holds(keys *credentials) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case r.err == nil || !maps.Equal(r.prints, keys.prints):
		return nil
	case now.Before(r.until):
		return &heldError{r.err}
	case r.trial:
		r.err = nil
	default:
		r.trial, r.until = true, now.Add(trialTakes)
	}
	return nil
}

// passed takes in that the cluster answers: if a trial is on, it was a success.
func (r *refusal) passed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trial {
		r.err = nil
	}
}

// note takes in an error of a connection that was made with keys, and reports
// whether it is a refusal that was not known yet.
//
// New credentials have just passed a probe: what is heard right after is about
// those before.
func (r *refusal) note(keys *credentials, err error) bool {
	if !refused(err) || held(err) || time.Since(keys.since) < refusalHolds {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil && !r.trial && time.Now().Before(r.until) && maps.Equal(r.prints, keys.prints) {
		return false // it was under way already
	}
	for inner := errors.Unwrap(err); inner != nil && refused(inner); inner = errors.Unwrap(inner) {
		err = inner // what is around it is about one consumer and one broker
	}
	r.err, r.prints, r.until, r.trial = err, keys.prints, time.Now().Add(refusalHolds), false
	return true
}

// over reports that it need not be remembered.
func (r *refusal) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil || time.Since(r.until) > refusalKept
}

// recall returns the refusal of a cluster that is used again. cs.mu is held.
func (cs *clusters) recall(spec config.Cluster) *refusal {
	cs.refused = slices.DeleteFunc(cs.refused, (*refusal).over)
	for _, r := range cs.refused {
		if reflect.DeepEqual(r.spec, spec) {
			return r
		}
	}
	return &refusal{spec: spec}
}

// A loginDialer makes a consumer's connections, but none to show credentials that
// were refused a moment ago.
type loginDialer struct {
	proxy.Dialer
	refusal *refusal
	keys    *credentials
}

// Dial implements proxy.Dialer.
func (d *loginDialer) Dial(network, addr string) (net.Conn, error) {
	if err := d.refusal.holds(d.keys); err != nil {
		return nil, err
	}
	return d.Dialer.Dial(network, addr)
}
