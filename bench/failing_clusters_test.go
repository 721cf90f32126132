package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// BenchmarkFailingClusters drains one topic by an agent with one consumer, and by one with
// a hundred more on clusters that are unreachable, unresponsive, close connections or are
// slow.
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
	l := load{200, "none", 4, number("KCAGENT_BENCH_MB", 1000)}
	fill(b, cluster, l)
	cluster.CreateTopic(b, "elsewhere", 1)
	others := map[string]string{
		"unreachable": "127.0.0.1:1", "slow": cluster.AdvertisedAddrs()[0],
		"unresponsive": badnet.Listen(b, func(net.Conn) {}),
		"closing":      badnet.Listen(b, func(c net.Conn) { _ = c.Close() }),
	}
	rows := newRows(b, "failing.csv", "consumers,round,mb_per_s,user_s_per_gb,system_s_per_gb,peak_rss_mib,fetch_s,file_s")
	fmt.Println("| | round | first record after | MB/s | CPU-s/GB | peak RSS MiB |\n|---|---|---|---|---|---|")
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
			p := agent(b, filepath.Join(dir, "kcagent"), dir, cluster.Addrs()[0], fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(kind, " ", "-"), round, b.N), "", l)
			conf, err := os.OpenFile(p.config, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := conf.WriteString(crowd.String()); err != nil {
				b.Fatal(err)
			}
			_ = conf.Close()
			p.cmd.Stderr = io.Discard // errors of the other consumers
			r := drain(b, p, l)
			fmt.Printf("| %s | %d | %.2f s | %.0f | %.2f | %.0f |\n", kind, round+1, r.file, r.mbPerSecond, r.cpu(), r.rss)
			rows.add("%s,%d,%.1f,%.3f,%.3f,%.1f,%.3f,%.3f", kind, round+1, r.mbPerSecond, r.user, r.system, r.rss, r.fetch, r.file)
		}
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}
