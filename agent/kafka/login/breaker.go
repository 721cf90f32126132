package login

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/config/filewatch"
)

const (
	// loginBackoff is how long rejected credentials are not used again. Brokers and
	// directories lock an account after fewer logins than a thousand consumers with
	// retries of their own would send.
	loginBackoff = 6 * time.Second
	// trialTime is how long the single login after that is given to be rejected.
	trialTime = time.Second
	// breakerKept is how long a breaker is remembered that no cluster in use has.
	breakerKept = time.Minute
)

// A Breaker is the circuit breaker of one cluster and one set of credentials. It is
// asked before each connection is opened, for all consumers of the cluster:
//
//   - closed: connections are opened.
//   - open: the credentials were rejected less than loginBackoff ago. No connection is opened.
//   - half-open: one connection is being opened, and the others wait. If it is not rejected
//     within trialTime, or the cluster answers, the breaker closes.
//
// It outlives the cluster, because consumers that wait before a retry do not use the
// cluster. A nil breaker is always closed. Its methods are safe for concurrent use.
type Breaker struct {
	reach        config.Cluster
	fingerprints filewatch.Fingerprints // of the files with the credentials

	mu         sync.Mutex
	state      breakerState
	err        error     // the rejection; nil if closed
	until      time.Time // open: when a trial may start; half-open: when the trial counts as accepted
	replacedAt time.Time // when these credentials replaced others; zero if they did not
}

type breakerState int

const (
	breakerClosed breakerState = iota
	breakerOpen
	breakerHalfOpen
)

// A BackoffError reports that no login was sent, because the same credentials were
// rejected a moment ago. It wraps the rejection.
type BackoffError struct{ Rejection error }

func (e *BackoffError) Error() string { return "login is not retried yet: " + e.Rejection.Error() }

func (e *BackoffError) Unwrap() error { return e.Rejection }

// InBackoff reports whether err says that no login was sent.
func InBackoff(err error) bool { return errors.As(err, new(*BackoffError)) }

// Allow returns nil if a connection may be opened now. The caller must open it, because it
// may be the trial.
func (b *Breaker) Allow() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	switch {
	case b.state == breakerClosed:
		return nil
	case now.Before(b.until):
		return &BackoffError{Rejection: b.err}
	case b.state == breakerHalfOpen:
		b.close()
	default:
		b.state, b.until = breakerHalfOpen, now.Add(trialTime)
	}
	return nil
}

// Blocked returns what Allow would return, and starts no trial.
func (b *Breaker) Blocked() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != breakerClosed && time.Now().Before(b.until) {
		return &BackoffError{Rejection: b.err}
	}
	return nil
}

// RecordSuccess records that the cluster has answered: a trial was accepted.
func (b *Breaker) RecordSuccess() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == breakerHalfOpen {
		b.close()
	}
}

// recordError records an error of a connection that was opened with these credentials. It
// reports whether that opened the breaker. Logins that were in flight when it opened, and
// logins that were not sent, do not extend the backoff.
func (b *Breaker) recordError(err error) (opened bool) {
	if b == nil || !Rejected(err) || InBackoff(err) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.state == breakerOpen && now.Before(b.until) {
		return false
	}
	for inner := errors.Unwrap(err); inner != nil && Rejected(inner); inner = errors.Unwrap(inner) {
		err = inner // the text around it concerns one consumer and one broker
	}
	b.state, b.err, b.until = breakerOpen, err, now.Add(loginBackoff)
	return true
}

// Replace records that the credentials have just replaced others, after a pre-check with
// which they were accepted. Connections with the former ones may still report errors.
func (b *Breaker) Replace() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replacedAt = time.Now()
}

// replacedLately reports whether an error may still be one of the former credentials.
func (b *Breaker) replacedLately() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.replacedAt) < loginBackoff
}

// close closes the breaker. b.mu is held.
func (b *Breaker) close() { b.state, b.err = breakerClosed, nil }

// idle reports whether the breaker need not be remembered.
func (b *Breaker) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == breakerClosed || time.Since(b.until) > breakerKept
}

// Breakers remembers the breakers of clusters and credentials that are not in use.
type Breakers struct {
	mu     sync.Mutex
	unused []*Breaker
}

// Get returns the breaker of a cluster and the fingerprints of its credentials.
func (bs *Breakers) Get(reach config.Cluster, fingerprints filewatch.Fingerprints) *Breaker {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.unused = slices.DeleteFunc(bs.unused, (*Breaker).idle)
	for _, b := range bs.unused {
		if maps.Equal(b.fingerprints, fingerprints) && reflect.DeepEqual(b.reach, reach) {
			return b
		}
	}
	return &Breaker{reach: reach, fingerprints: fingerprints}
}

// Put remembers a breaker that is not in use any more.
func (bs *Breakers) Put(b *Breaker) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if !b.idle() && !slices.Contains(bs.unused, b) {
		bs.unused = append(bs.unused, b)
	}
}

// Rejected reports whether the cluster rejected the credentials, or no token could be
// obtained.
func Rejected(err error) bool {
	return errors.Is(err, sarama.ErrSASLAuthenticationFailed) || errors.As(err, new(*tokenError))
}
