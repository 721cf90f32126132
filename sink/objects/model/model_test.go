package model

import (
	"flag"
	"testing"
)

var schedules = flag.Uint64("schedules", 20_000, "number of random schedules of each scenario of TestProtocolHolds and TestRedundantRules")

// enough returns how many schedules a test runs.
func enough() uint64 {
	if testing.Short() {
		return *schedules / 10
	}
	return *schedules
}

// TestProtocolHolds: with all rules, no random schedule violates an invariant. Without conditional
// writes, retention and compaction are excluded (limit 4).
func TestProtocolHolds(t *testing.T) {
	unconditional := allFaults()
	unconditional[retention], unconditional[compaction] = 0, 0
	for name, s := range map[string]scenario{
		"conditional writes":    {weights: allFaults()},
		"no conditional writes": {weights: unconditional, unconditional: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found, n := search(&s, 0, enough()); found != nil {
				t.Fatalf("schedule %d: %v", n-1, found.shrink())
			}
		})
	}
}

// TestEachRuleIsNeeded: without a rule, and with the faults that concern it, a schedule violates an
// invariant. With the rule, none of the same schedules does.
func TestEachRuleIsNeeded(t *testing.T) {
	for _, test := range []struct {
		name     string
		rules    dropped
		scenario scenario
		control  dropped // what the scenario drops in addition to the rule
		from     uint64  // the first schedule, if a violation is rare
	}{
		{name: "plan first", rules: without(planFirst), scenario: scenario{weights: faults(crash, drop)}},
		{name: "put after plan", rules: without(putAfterPlan), scenario: scenario{weights: faults(drop)}},
		{name: "late fetch", rules: without(lateFetch), scenario: scenario{weights: faults(earlyFetch)}},
		{name: "adopt", rules: without(adopt), scenario: scenario{weights: faults(crash)}},
		{name: "own token", rules: without(ownToken), scenario: scenario{weights: faults()}},
		{name: "unknown result, resent", rules: without(unknownResult, noResend), scenario: scenario{weights: faults(timeOut, crash)}},
		{name: "unknown result, new plan", rules: without(unknownResult), scenario: scenario{weights: faults(timeOut)}},
		{name: "nonce of a resent commit", rules: without(resentProvesNothing), scenario: scenario{weights: more(faults(), timeOut, 15)}, from: 38_000},
		{name: "all objects", rules: without(allObjects), scenario: scenario{weights: faults(crash, edit)}},
		{name: "same topic, recreated", rules: without(sameTopic), scenario: scenario{weights: faults(recreate)}},
		{name: "same topic, mirror", rules: without(sameTopic), scenario: scenario{weights: faults(mirror, crash)}},
		{name: "same topic, reset that keeps metadata", rules: without(sameTopic), scenario: scenario{weights: more(more(faults(reset), reset, 20), rebalance, 12)}},
		{name: "settings of the plan", rules: without(planSettings), scenario: scenario{weights: faults(edit, crash)}},
		{name: "range of the plan", rules: without(planRange), scenario: scenario{weights: faults(retention, crash)}},
		{name: "topic id, 412 adopted", rules: without(topicInKey), scenario: scenario{weights: faults(recreate)}, control: without(checkIdentity, probe)},
		{name: "topic id, overwritten", rules: without(topicInKey), scenario: scenario{weights: faults(recreate), unconditional: true}, control: without(checkIdentity, probe, headFirst)},
		{name: "topic id, blocked", rules: without(topicInKey), scenario: scenario{weights: faults(recreate)}, control: without(probe)},
		{name: "identity", rules: without(checkIdentity, lastInKey), scenario: scenario{weights: faults(otherGroup)}, control: without(probe)},
		{name: "HEAD first", rules: without(headFirst), scenario: scenario{weights: faults(retention, crash), unconditional: true, prompt: true}},
		{name: "stable only", rules: without(stableOnly), scenario: scenario{weights: faults(endTransaction)}},
		{name: "end by position", rules: without(endByPosition), scenario: scenario{weights: faults(crash, compaction, endTransaction)}},
		{name: "start committed", rules: without(startCommitted), scenario: scenario{weights: faults(crash), latest: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const limit = 20_000
			s := test.scenario
			s.rules = test.rules | test.control
			found, n := search(&s, test.from, test.from+limit)
			if found == nil {
				t.Fatalf("%v: no violation in %d schedules", s.rules, n)
			}
			t.Logf("found after %d schedules: %v", n, found.shrink())
			s.rules = test.control
			if found, n := search(&s, test.from, test.from+n); found != nil {
				t.Errorf("schedule %d: %v", test.from+n-1, found.shrink())
			}
		})
	}
}

// TestRedundantRules: what the protocol has only to turn silent loss into an error, or to avoid a
// rebalance, is not needed otherwise.
func TestRedundantRules(t *testing.T) {
	for name, s := range map[string]scenario{
		"identity and probe, with topic id and {last}": {rules: without(checkIdentity, probe), weights: allFaults()},
		"leaving after a lost response, in order":      {rules: without(unknownResult, noResend), inOrder: true, weights: allFaults()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found, n := search(&s, 0, enough()); found != nil {
				t.Fatalf("%v: schedule %d: %v", name, n-1, found.shrink())
			}
		})
	}
}
