package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// BenchmarkFailingClusters drains one topic by an agent with one consumer, and by one with
// a hundred more on clusters that are unreachable, unresponsive, close connections or are
// slow. It prints medians, and reports start and throughput of the second as multiples of
// the first.
func BenchmarkFailingClusters(b *testing.B) {
	kafkatest.Require(b)
	var slow *badnet.Proxy
	cluster := kafkatest.Start(b, kafkatest.Options{Advertise: func(addr string) string {
		slow = badnet.Start(b, addr)
		return slow.Addr()
	}})
	slow.Set(badnet.Fault{Latency: 300 * time.Millisecond})
	dir := b.TempDir()
	goBuild(b, filepath.Join(dir, "kcagent"), "kcagent")
	l := load{200, "none", 4}
	fill(b, cluster, l)
	cluster.CreateTopic(b, "elsewhere", 1)
	others := map[string]string{
		"unreachable": "127.0.0.1:1", "slow": cluster.AdvertisedAddrs()[0],
		"unresponsive": badnet.Listen(b, func(net.Conn) {}),
		"closing":      badnet.Listen(b, func(c net.Conn) { _ = c.Close() }),
	}
	results := map[string][]result{}
	for round := range number("KCAGENT_BENCH_ROUNDS", 5) {
		for _, i := range rand.Perm(2) {
			kind := []string{"alone", "with failing clusters"}[i]
			var crowd strings.Builder
			for name, addr := range others {
				for k := range 25 * i {
					fmt.Fprintf(&crowd, "- {name: %s-%d, brokers: [%q], topics: [elsewhere], sink: {file: {path: %q}}}\n",
						name, k, addr, filepath.Join(dir, fmt.Sprintf("%s-%d-%d", name, k, round)))
				}
			}
			conf := filepath.Join(dir, "consumers.yaml")
			text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: %s-%d-%d, sink: {file: {path: %q}}}\n%s",
				cluster.Addrs()[0], l.topic(), strings.ReplaceAll(kind, " ", "-"), round, b.N, filepath.Join(dir, "out"), crowd.String())
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			cmd := exec.Command(filepath.Join(dir, "kcagent"), "run", "--config", conf, "--listen", "127.0.0.1:0", "--log-level", "error")
			cmd.Stderr = io.Discard // errors of the other consumers
			results[kind] = append(results[kind], drain(b, cmd, filepath.Join(dir, "out"), l))
		}
	}
	alone, beside := median(results["alone"]), median(results["with failing clusters"])
	fmt.Println("| | first record after | MB/s | CPU-s/GB | peak RSS MiB |\n|---|---|---|---|---|")
	for kind, r := range map[string]result{"alone": alone, "with failing clusters": beside} {
		fmt.Printf("| %s | %.2f s | %.0f | %.2f | %.0f |\n", kind, r.start, r.mbPerSecond, r.cpuPerGB, r.rss)
	}
	b.ReportMetric(beside.mbPerSecond/alone.mbPerSecond, "x-throughput")
	b.ReportMetric(beside.start/alone.start, "x-start")
}
