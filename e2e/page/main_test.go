// Package page tests the page at / in a real headless Chromium: the built kcagent reads from
// an embedded broker, and the test sees what an operator sees. The screenshots in dist/page
// are a by-product.
package page

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/agenttest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}
