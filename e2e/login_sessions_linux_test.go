package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// connections returns the established TCP connections of a process to a local port, by
// their local addresses.
func connections(t *testing.T, pid int, port string) map[string]bool {
	t.Helper()
	var to uint16
	if _, err := fmt.Sscan(port, &to); err != nil {
		t.Fatal(err)
	}
	mine := make(map[string]bool)
	for _, file := range process.OpenFiles(pid) {
		if strings.HasPrefix(file, "socket:[") {
			mine[strings.Trim(file, "socket:[]")] = true
		}
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	const local, remote, state, inode = 1, 2, 3, 9
	found := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > inode && mine[f[inode]] && f[state] == "01" && strings.HasSuffix(f[remote], fmt.Sprintf(":%04X", to)) {
			found[f[local]] = true
		}
	}
	return found
}

// TestReauthenticationKeepsConnections: before a session ends, the client authenticates
// again on the same connection (KIP-368), that of the fetcher as well as that of the
// coordinator. Brokers close the connections of clients that do not.
func TestReauthenticationKeepsConnections(t *testing.T) {
	t.Parallel()
	l := newLoginScene(t, shortSessions())
	topic := l.newTopic(t, "sessions", 2)
	replaceFile(t, l.dir, "plain", []byte(kafkatest.PlainPassword))
	replaceFile(t, l.dir, "served", []byte("client-secret"))
	var clusters string
	for name, login := range map[string]struct{ mechanism, user string }{"plain": {"PLAIN", kafkatest.PlainUser}, "served": {"OAUTHBEARER", byServer}} {
		clusters += strings.Replace(l.cluster(name, login.mechanism, login.user), "tls:", "fetch: {max_wait: 50ms}, tls:", 1)
		l.entries = append(l.entries, l.entry(name, topic).withCluster(name))
	}
	a := agenttest.Start(t, agenttest.Options{
		Config: strings.Replace(configText(nil, l.entries...), "clusters:\n", "clusters:\n"+clusters, 1),
	})
	stopProducing, produced := l.keepProducingEvery(t, 20*time.Millisecond, topic, 2)
	for _, e := range l.entries {
		a.WaitConsumer(e.name, "read", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })
	}
	_, port, _ := strings.Cut(l.SecureAddrs()[0], ":")
	const lasting = 2 * (2 + 1) // clusters, each with two lanes and the connection of a coordinator
	// On a busy machine a connection may miss the end of its session now and then. Without
	// reauthentication, none lasts longer than one session.
	wait.For(t, wait.Timeout, "connections that outlast their sessions", func() error {
		first := connections(t, a.Pid(), port)
		time.Sleep(4 * sessionLasts)
		last := connections(t, a.Pid(), port)
		stayed := slices.DeleteFunc(slices.Collect(maps.Keys(last)), func(c string) bool { return !first[c] })
		if len(stayed) < lasting { // connections for metadata are short
			return fmt.Errorf("%d of %d connections are left, want %d", len(stayed), len(first), lasting)
		}
		return nil
	})
	stopProducing()
	for _, e := range l.entries {
		l.waitCommitted(t, a, e, int64(2*produced()))
		readTrail(t, e.path).wantExact(t, topic, 2, produced())
	}
}
