package agent

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"kcagent/agent/precheck"
	"kcagent/agent/testkit"
	"kcagent/e2e/badnet"
)

// TestProbeReportsAnUnresponsiveCoordinator: only the groups of the coordinator that does
// not respond have a finding.
func TestProbeReportsAnUnresponsiveCoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	deaf := badnet.Listen(t, func(net.Conn) {})
	r.coordinatorAt(deaf, "kcagent-b", "kcagent-d")
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], sink: {stdout: {}}}\nconsumers: [{name: a}, {name: b}, {name: c}, {name: d}]\n", r.cluster.ListenAddrs()[0])
	found := precheck.Probe(t.Context(), testkit.Parse(t, text).Consumers)
	var who string
	for _, f := range found {
		who += f.Consumer
		want := fmt.Sprintf("reach the coordinator of group kcagent-%s: %s connect to %s: it accepts connections and has not answered within 10s", f.Consumer, ofListener(7, deaf), deaf)
		if f.Field != "group" || f.Err.Error() != want {
			t.Errorf("%s: %s: %v", f.Consumer, f.Field, f.Err)
		}
	}
	if who != "bd" {
		t.Errorf("consumers %q have findings", who)
	}
}

// TestProbeReportsItsTimeout: the error says how long the probe waited, and for what.
func TestProbeReportsItsTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	deaf := badnet.Listen(t, func(net.Conn) {})
	r.coordinatorAt(deaf, "kcagent-a")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	text := "consumers:\n- {name: a, brokers: [%q], topics: [t], sink: {stdout: {}}}\n- {name: b, brokers: [%q], topics: [t], sink: {stdout: {}}}\n"
	found := precheck.Probe(ctx, testkit.Parse(t, fmt.Sprintf(text, r.cluster.ListenAddrs()[0], deaf)).Consumers)
	if len(found) != 2 {
		t.Fatalf("found %v", found)
	}
	for i, want := range []string{
		"reach the coordinator of group kcagent-a: " + ofListener(7, deaf) + " connect to " + deaf + ": no response within 20s",
		"reach brokers " + deaf + ": no response within 20s",
	} {
		if err := found[i].Err; err.Error() != want {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}
