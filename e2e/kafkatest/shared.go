package kafkatest

import (
	"sync"
	"testing"
)

// Shared is a cluster that the tests of one package share. The first test that needs it
// starts it. The package declares one and wraps its tests with it:
//
//	var kafka kafkatest.Shared
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(kafka.Around(m)) }
type Shared struct {
	Options Options // set before the first Cluster

	mu      sync.Mutex
	cluster *Cluster
	err     error
}

// Cluster returns the running cluster, or skips the test as [Require] does. A test that
// stops or pauses a broker must [Start] a cluster of its own.
func (s *Shared) Cluster(t testing.TB) *Cluster {
	t.Helper()
	Require(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil { // a second start would fail again, after another timeout
		s.cluster, s.err = start(s.Options)
		if s.err == nil {
			s.cluster.Coordinator(t, "any") // creates the topic of committed offsets, so that no first join fails for it
		}
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

// Around returns tests whose Run runs m and then ends the cluster, for
// goleak.VerifyTestMain.
func (s *Shared) Around(m interface{ Run() int }) Tests { return Tests{s, m} }

// Tests are the tests of a package with the cluster that ends after them.
type Tests struct {
	shared *Shared
	tests  interface{ Run() int }
}

// Run runs the tests, ends the cluster and returns the exit code.
func (t Tests) Run() int {
	defer func() {
		t.shared.mu.Lock()
		defer t.shared.mu.Unlock()
		if t.shared.cluster != nil {
			t.shared.cluster.close()
		}
	}()
	return t.tests.Run()
}
