package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/s3test"
)

// objectFormats are formats of both sinks, and how a configuration has them.
var objectFormats = []struct{ name, keys string }{
	{"raw", "format: raw, compression: none"}, {"json zstd", "format: json, compression: zstd"},
}

// BenchmarkObjects drains one load into the file sink and into the objects sink, in turns and
// with the same formats, and then loads with one and with a thousand partitions, for the memory of
// both. The objects go to a real S3 server on this machine, which uses the same cores, and to one
// that discards them, with TLS and without. A run ends when the agent has ended, and all records are
// synced or published. The CPU time is that of the agent alone; that of the real server is beside it.
func BenchmarkObjects(b *testing.B) {
	kafkatest.Require(b)
	o := objectsBench{b: b, cluster: kafkatest.Start(b, kafkatest.Options{}), server: s3test.Start(b, s3test.KeepAlive)}
	plain, secure := httptest.NewServer(http.HandlerFunc(discard)), httptest.NewTLSServer(http.HandlerFunc(discard))
	defer plain.Close()
	defer secure.Close()
	o.plain, o.secure = plain.URL, secure.URL
	agenttest.Binary(b) // do not measure the build
	o.rows = newRows(b, "objects.csv", "sink,format,partitions,round,mb_per_s,cpu_s_per_gb,peak_rss_mib,server_s_per_gb")
	fmt.Println("| sink | format | partitions | round | MB/s | CPU-s/GB | peak RSS MiB | CPU-s/GB of the server |\n|---|---|---|---|---|---|---|---|")
	main := load{200, "none", 4, number("KCAGENT_BENCH_MB", 1000)}
	fill(b, o.cluster, main)
	kinds := []string{"file", "objects", "discarded", "discarded tls"}
	for round := range number("KCAGENT_BENCH_ROUNDS", 3) {
		for _, i := range rand.Perm(len(kinds) * len(objectFormats)) {
			o.measure(kinds[i%len(kinds)], i/len(kinds), main, round)
		}
	}
	o.cluster.DeleteTopic(b, main.topic())
	for _, partitions := range []int32{1, 1000} {
		l := load{200, "none", partitions, main.mb}
		fill(b, o.cluster, l)
		o.measure("file", 1, l, 0)
		o.measure("objects", 1, l, 0)
		o.cluster.DeleteTopic(b, l.topic())
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// An objectsBench drains loads into both sinks.
type objectsBench struct {
	b             *testing.B
	cluster       *kafkatest.Cluster
	server        *s3test.Server
	plain, secure string // servers that discard
	rows          rows
	run           int
}

// measure drains a load into a sink, and prints a line.
func (o *objectsBench) measure(kind string, format int, l load, round int) {
	b := o.b
	o.run++
	dir := b.TempDir()
	defer os.RemoveAll(dir)
	f := objectFormats[format]
	endpoint := map[string]string{"objects": o.server.Endpoint, "discarded": o.plain, "discarded tls": o.secure}[kind]
	sink := fmt.Sprintf("file: {path: %q, %s}", filepath.Join(dir, "out"), f.keys)
	if kind != "file" {
		sink = fmt.Sprintf("objects: {url: %q, endpoint: %q, path_style: true, region: %s, spool: %q, credentials: {access_key_file: %q, secret_key_file: %q}, %s}",
			o.server.URL(fmt.Sprint("run", o.run)), endpoint, s3test.Region, dir, o.server.AccessKeyFile, o.server.SecretKeyFile, f.keys)
	}
	if kind == "discarded tls" {
		sink = strings.TrimSuffix(sink, "}") + ", tls: {insecure_skip_verify: true}}"
	}
	text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: run-%d, sink: {%s}}\n",
		o.cluster.Addrs()[0], l.topic(), o.run, sink)
	before := cpuSeconds(b, o.server.Pid)
	speed, cpu, rss := drainSink(b, o.cluster.Addrs()[0], text, l)
	server := (cpuSeconds(b, o.server.Pid) - before) / l.gigabytes()
	fmt.Printf("| %s | %s | %d | %d | %.0f | %.2f | %.0f | %.2f |\n", kind, f.name, l.partitions, round+1, speed, cpu, rss, server)
	o.rows.add("%s,%s,%d,%d,%.1f,%.3f,%.1f,%.3f", kind, f.name, l.partitions, round+1, speed, cpu, rss, server)
}

// discard is a store that reads objects, and has none.
func discard(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("ETag", `"1"`)
	w.Header().Set("X-Amz-Checksum-Crc32", r.Header.Get("X-Amz-Checksum-Crc32"))
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
	case r.URL.Query().Has("uploads"):
		_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodPost:
		_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><Bucket>lake</Bucket></CompleteMultipartUploadResult>")
	}
}

// drainSink runs an agent until it has all records, stops it, and returns the rate from the first fetch
// to its end, its CPU time, and its peak memory.
func drainSink(b *testing.B, broker, text string, l load) (mbPerSecond, cpuPerGB, rss float64) {
	b.Helper()
	before := receivedFrom(b, broker)
	a := agenttest.Start(b, agenttest.Options{Config: text, Args: []string{"--log-level", "warn"}})
	var began time.Time
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if began.IsZero() && receivedSince(b, broker, before) > fetched {
			began = time.Now()
		}
		_, body := a.Get("/status/bench?fields=records_total")
		if strings.Contains(string(body), fmt.Sprintf(`"records_total":%d`, l.records())) {
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("the agent has not read all records: %s", body)
		}
	}
	rss = memory(b, a.Pid(), "VmHWM")
	a.Signal(os.Interrupt)
	if code := a.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("exit code %d", code)
	}
	took := time.Since(began)
	return l.gigabytes() * 1e3 / took.Seconds(), a.CPUTime().Seconds() / l.gigabytes(), rss
}
