package fetch

import (
	"testing"

	"kcagent/retry"
)

// TestReconnectReplacesOnlyConnectionsToLeader: a subscription's Reconnect replaces the connections to its leader,
// and not those to other brokers.
func TestReconnectReplacesOnlyConnectionsToLeader(t *testing.T) {
	f := New(Options{})
	mine := f.Subscribe(Spec{Topic: "t"})
	for id := range int32(2) {
		b := f.brokerAt(id, "")
		for range 2 {
			b.lanes = append(b.lanes, &lane{f: f, b: b, wake: retry.NewSignal()})
		}
	}
	mine.Reconnect() // its leader is not known yet
	if f.brokers[0].lanes[0].reconnect || f.brokers[1].lanes[0].reconnect {
		t.Error("a reconnect without a leader reconnects to a broker")
	}
	mine.route.broker = f.brokers[0]
	mine.Reconnect()
	for i := range 2 {
		if a, b := f.brokers[0].lanes[i], f.brokers[1].lanes[i]; !a.reconnect || b.reconnect {
			t.Errorf("lane %d: reconnects to the leader: %v, to another broker: %v", i, a.reconnect, b.reconnect)
		}
	}
}

// TestReconnectReplacesMetadataConnection: the leader is looked up over a new connection.
func TestReconnectReplacesMetadataConnection(t *testing.T) {
	r := newRig(t, 1, 1, longPollSettings)
	n := r.countRequests()
	refresh := func(want int32) {
		t.Helper()
		if err := r.fetcher.Refresh(t.Context(), []string{"t"}); err != nil {
			t.Fatal(err)
		}
		if got := n.versions.Load(); got != want {
			t.Errorf("there were %d connections, want %d", got, want)
		}
	}
	refresh(1)
	refresh(1)
	s := r.fetcher.Subscribe(Spec{Topic: "no-such-topic"})
	defer s.Close()
	s.Reconnect()
	refresh(2)
}
