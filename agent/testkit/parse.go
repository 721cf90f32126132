package testkit

import (
	"testing"

	"kcagent/config"
)

// Parse parses a configuration file without variables, and fails on a problem.
func Parse(t testing.TB, text string) *config.Config {
	t.Helper()
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}
