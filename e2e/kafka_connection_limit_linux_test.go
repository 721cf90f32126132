package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestConnectionLimitKeepsRunningConsumers: with more consumers than the broker accepts
// connections from one address, the running consumers read and keep their membership. The
// others name the limit and wait, and the agent makes few attempts to connect.
func TestConnectionLimitKeepsRunningConsumers(t *testing.T) {
	t.Parallel()
	const limit, consumers, each = 20, 60, 100
	n := newNetworkScene(t, kafkatest.Options{Properties: map[string]string{"max.connections.per.ip": fmt.Sprint(limit)}})
	proxy := n.proxies[0]
	proxy.From("127.0.0.2") // the test's own connections do not count
	topic := n.newTopic(t, "limited", 1)
	n.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: each})
	entries := make(map[string]entry)
	var all []entry
	for i := range consumers {
		e := n.entry(fmt.Sprintf("limited-%d", i), topic)
		entries[e.name] = e
		all = append(all, e)
	}
	file := func(entries ...entry) string {
		return configText(map[string][]string{"main": n.AdvertisedAddrs()}, entries...)
	}
	a := agenttest.Start(t, agenttest.Options{Config: file(all...)})
	const lanes, router = 2, 1
	// While the fetcher needs one connection less, one more consumer may run. It fails once
	// the fetcher needs the connection, so no check below may rely on the last one.
	const least = limit - lanes - router
	was := readersOf(a.WaitStatus("as many consumers to run as there are connections", func(st agenttest.Status) bool {
		n := len(readersOf(st, each))
		return len(st.Consumers) == n+namingConnectionLimit(st) && n >= least && n <= least+1
	}), each)
	for name := range was {
		n.waitGroupCommitted(t, entries[name], each)
	}
	began := proxy.Connections()
	for second := range 60 { // longer than a session
		time.Sleep(time.Second)
		if second%10 == 0 {
			n.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: (1 + second/10) * each, Count: each})
		}
	}
	if tries := proxy.Connections() - began; tries > 15 {
		t.Errorf("%d attempts to connect within a minute", tries)
	}
	now := readersOf(a.Status(), 0)
	same := 0
	for name, c := range was {
		if got := now[name]; got.ID == c.ID && got.Generation == c.Generation && got.RebalancesTotal == c.RebalancesTotal && got.StatusSince == c.StatusSince {
			n.waitGroupCommitted(t, entries[name], 7*each)
			same++
		}
	}
	if same < least {
		t.Errorf("%d of %d consumers kept their membership", same, len(was))
	}
	// Consumers that leave free their connections.
	var left []entry
	for _, e := range all {
		if _, runs := was[e.name]; !runs || len(left) >= consumers-5 {
			left = append(left, e)
		}
	}
	a.Apply(file(left...))
	status := a.WaitStatus("other consumers to read", func(st agenttest.Status) bool { return len(readersOf(st, 7*each)) >= least })
	for name := range readersOf(status, 7*each) {
		n.waitGroupCommitted(t, entries[name], 7*each)
		readTrail(t, entries[name].path).wantExact(t, topic, 1, 7*each)
	}
	stopAgent(t, a)
}

// readersOf returns the consumers that run and have committed at least n records, by name.
func readersOf(st agenttest.Status, n int64) map[string]agenttest.Consumer {
	found := make(map[string]agenttest.Consumer)
	for _, c := range st.Consumers {
		if c.Status == "RUNNING" && c.Committed() >= n {
			found[c.Name] = c
		}
	}
	return found
}

// namingConnectionLimit counts the consumers whose error names the setting of the limit.
func namingConnectionLimit(st agenttest.Status) (n int) {
	for _, c := range st.Consumers {
		if c.Status == "ERROR" && strings.Contains(c.Error(), "max.connections.per.ip") {
			n++
		}
	}
	return n
}
