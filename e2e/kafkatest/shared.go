package kafkatest

import (
	"sync"
	"testing"
)

// Shared is a cluster that the tests of one package share, started when the
// first of them asks for it. The package declares one and wraps its tests with
// it:
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

// Cluster is the running cluster. It skips the test where Kafka cannot run.
// Tests that need a broker to fail start one of their own.
func (s *Shared) Cluster(t testing.TB) *Cluster {
	t.Helper()
	Require(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil { // a start that failed would fail again, slowly
		s.cluster, s.err = start(s.Options)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

// Around returns tests as goleak.VerifyTestMain and os.Exit want them: its Run
// runs m and then ends the cluster.
func (s *Shared) Around(m interface{ Run() int }) Tests { return Tests{s, m} }

// Tests are a package's tests and what is to end after them.
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
