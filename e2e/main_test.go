// Package e2e tests the built kcagent against real Apache Kafka.
package e2e

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// kafka is the cluster of all tests that need no broker to fail.
var kafka = kafkatest.Shared{Options: kafkatest.Options{Properties: kafkatest.Authorizer()}}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(kafka.Around(m), goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}
