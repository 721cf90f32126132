// Package e2e tests the built kcagent as a user runs it: a process, its configuration
// file, signals and HTTP, on real Apache Kafka. The tests know the program by its contract
// only.
//
// A test begins with newScene, which gives it topics, groups and files of its own on the
// cluster that all tests share. It declares consumers as entries (entry_test.go), starts an
// agent with agenttest.Start, and at the end compares the records in the files with those
// that it produced (trail_test.go). Tests that stop, pause or reconfigure brokers start a
// cluster of their own.
//
// The prefix of a file is its topic:
//
//	edit_     what an edit of the configuration file does and leaves alone
//	group_    membership: static members, rebalances, other clients, the pre-check of a group
//	offset_   where reading starts or resumes: start policy, resets, hand-over, moves, recreated topics, truncation
//	kafka_    outages, networks, limits and versions of brokers
//	record_   delivery: kills, compression, transactions, compaction, large records, timestamps, verify
//	file_     the file sink: names, rotation, moved and unusable files
//	objects_  the objects sink: faults of the object store, kills
//	login_    TLS, SASL, permissions, secrets, rotation of credentials
//	process_  the process: shutdown, leaks, memory, descriptors, standard streams
//	http_     the HTTP API and the metrics
//
// day_in_production_linux_test.go follows three replicas through everything that happens to
// them in production. It is a good test to read first.
//
// Helpers are in scene_test.go, entry_test.go, trail_test.go, lifecycle_test.go (a consumer
// that edits change, beside one that they must not touch), replicas_linux_test.go (agents as
// Kubernetes runs them) and the packages below this one.
//
// All tests are one package although it is large: they share one cluster, which takes
// seconds to start, and run in parallel, since most of them wait. A division into packages
// would start a cluster for each and would run them one after the other in CI.
package e2e

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// kafka is the cluster of all tests that do not stop, pause or configure a broker.
var kafka = kafkatest.Shared{Options: kafkatest.Options{Properties: kafkatest.Authorizer()}}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(kafka.Around(m), goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}
