package web

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/agent/stats"
	"kcagent/config"
	"kcagent/e2e/loud"
	"kcagent/sink"
)

// scrape requests the metrics that an API shows for a snapshot, in a format.
func scrape(t testing.TB, s *Snapshot, version, accept string) string {
	t.Helper()
	reconcile := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "kcagent_reconcile_duration_seconds", Help: "Time.", Buckets: []float64{.0001, .001, .01, .1, 1},
	})
	h := New(Options{
		Log: slog.New(slog.DiscardHandler), Version: version, Snapshot: func() *Snapshot { return s },
		DiskSpace:  func(string) (free, size uint64, ok bool) { return 1, 2, true },
		Collectors: []prometheus.Collector{reconcile},
	}).Handler()
	r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Fatalf("code %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func parseMetrics(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// oddNames has consumers, topics and a version with names that a careless format would break.
// Kafka allows no such topics, but a faulty broker can report them.
func oddNames() *Snapshot {
	s := thousand(2)
	s.Rows = s.Rows[:4]
	for i, topic := range []string{strings.Repeat("t", 249), "a.b-c_d", "quote\" back\\slash\nline", "\xff\xfe"} {
		c := s.Rows[i].Consumer.(*shownConsumer)
		c.Partitions = slices.Clone(c.Partitions)
		c.Partitions[0].Topic = topic
	}
	s.Rows[0].Consumer.(*shownConsumer).Name = strings.Repeat("0", 100)
	s.Rows[1].Consumer.(*shownConsumer).Name = "0._-"
	return s
}

const oddVersion = "v1.2.3-\"x\"\n\xff"

// TestPromtoolAcceptsTheMetrics, also with odd names.
func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_PROMETHEUS", "promtool is not installed (Debian: apt-get install prometheus)")
	}
	for name, text := range map[string]string{
		"a thousand consumers": scrape(t, thousand(1), "1.2.3", ""),
		"odd names":            scrape(t, oddNames(), oddVersion, ""),
		"no configuration":     scrape(t, &Snapshot{}, "", ""),
	} {
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestMetricsAreConsistent checks what a registry would check: each family has a help text
// and series of one type with the same label names, and no series twice.
func TestMetricsAreConsistent(t *testing.T) {
	for _, s := range []*Snapshot{thousand(2), oddNames()} {
		seen := make(map[string]bool)
		for name, f := range parseMetrics(t, scrape(t, s, oddVersion, "")) {
			names := ""
			for _, m := range f.Metric {
				keys, id := "", name
				for _, l := range m.Label {
					keys += l.GetName() + " "
					id += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
				}
				if names == "" {
					names = keys
				}
				if keys != names || seen[id] {
					t.Errorf("%s: labels %s, others have %s, repeated: %v", id, keys, names, seen[id])
				}
				seen[id] = true
			}
			if strings.HasPrefix(name, "kcagent_") && f.GetHelp() == "" {
				t.Errorf("%s has no help text", name)
			}
		}
	}
}

// TestMetricsInOpenMetrics: the format ends with its marker, and counters keep their names.
func TestMetricsInOpenMetrics(t *testing.T) {
	text := scrape(t, thousand(1), "1.2.3", "application/openmetrics-text; version=1.0.0")
	for _, want := range []string{
		"\n# TYPE kcagent_consumer_records counter\n", "\nkcagent_consumer_records_total{consumer=\"c0\"} 0.0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if !strings.HasSuffix(text, "\n# EOF\n") {
		t.Error("the end is not marked")
	}
}

// TestSeriesAreAsManyAsDocumented: docs/metrics.md has a formula.
func TestSeriesAreAsManyAsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	formula := regexp.MustCompile("`(\\d+) \\+ (\\d+) × consumers \\+ (\\d+) × partitions`(?s:.*) objects sink has (\\d+) more").FindStringSubmatch(string(page))
	if formula == nil {
		t.Fatal("docs/metrics.md has no formula")
	}
	var factor [4]int
	for i, text := range formula[1:] {
		if factor[i], err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ consumers, each, objects int }{{0, 0, 0}, {1, 1, 0}, {3, 5, 2}, {1000, 10, 1000}} {
		s := thousand(c.each)
		s.Rows = s.Rows[:c.consumers]
		for i := range c.objects { // in addition to the file, so that there is the free space
			s.Rows[i].Spec.Sink.Objects = &sink.ObjectsSpec{}
		}
		own, others := 0, 0
		for line := range strings.Lines(scrape(t, s, "1.2.3", "")) {
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "kcagent_"):
				own++
			default:
				others++
			}
		}
		if want := factor[0] + factor[1]*c.consumers + factor[2]*c.consumers*c.each + factor[3]*c.objects; own != want {
			t.Errorf("%d consumers with %d partitions each have %d series, the formula says %d", c.consumers, c.each, own, want)
		}
		if others > 100 {
			t.Errorf("the Go and process collectors have %d series, the page says fewer than 100", others)
		}
	}
}

// TestDiskSpaceIsShown of files and spool folders, as far as it is known.
func TestDiskSpaceIsShown(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}\n  - {name: unknown}\n  - {name: out, sink: {stdout: {}}}\n"+
		"  - {name: letters, on_error: {dead_letter: {file: {path: /full/dead}}}}\n"+
		"  - {name: lake, sink: {objects: {url: 's3://lake', spool: /spool}}}", nil)
	a.o.DiskSpace = func(path string) (free, size uint64, ok bool) {
		switch path {
		case "/data/a.log", "/data/letters.log":
			return 5, 7, true
		case "/full/dead":
			return 2, 100, true
		case "/spool/":
			return 3, 9, true
		}
		return 0, 0, false
	}
	_, text := get(t, a.Handler(), http.MethodGet, "/metrics")
	for _, want := range []string{
		`kcagent_consumer_sink_free_bytes{consumer="a"} 5`, `kcagent_consumer_sink_size_bytes{consumer="a"} 7`,
		`kcagent_consumer_sink_free_bytes{consumer="letters"} 2`, `kcagent_consumer_sink_size_bytes{consumer="letters"} 100`,
		`kcagent_consumer_sink_free_bytes{consumer="lake"} 3`, `kcagent_consumer_sink_size_bytes{consumer="lake"} 9`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if lines := regexp.MustCompile(`(?m)^kcagent_consumer_sink_(free|size)_.*$`).FindAllString(text, -1); len(lines) != 6 {
		t.Errorf("the space is shown as %q", lines)
	}
}

// TestCountingZombiesDelaysNoScrape: a scrape that finds an old count waits for a new one for a
// moment only. There is one count at a time, and a slow one is used for longer.
func TestCountingZombiesDelaysNoScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var z zombieCounter
		counts, takes := 0.0, time.Millisecond
		take := func() (float64, error) {
			time.Sleep(takes)
			counts++
			return counts, nil
		}
		count := func(want float64, limit time.Duration) {
			t.Helper()
			began := time.Now()
			if got := z.count(take, slog.New(slog.DiscardHandler)); got != want || time.Since(began) > limit {
				t.Errorf("the count is %v after %s, want %v within %s", got, time.Since(began), want, limit)
			}
		}
		count(1, takes)
		count(1, 0)
		time.Sleep(zombieAge)
		count(2, takes)
		takes = time.Second
		time.Sleep(zombieAge)
		count(2, zombieWait)
		count(2, zombieWait)
		time.Sleep(takes)
		count(3, 0)
		time.Sleep(zombieRest*takes - time.Second)
		count(3, 0)
		time.Sleep(time.Second)
		count(3, zombieWait)
		time.Sleep(takes)
		count(4, 0)
	})
}

// BenchmarkScrape is a scrape of a thousand consumers, by their number of partitions. A
// Prometheus server requests compressed metrics.
func BenchmarkScrape(b *testing.B) {
	for _, partitions := range []int{1, 10} {
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(fmt.Sprintf("partitions=%d/%s", partitions, encoding), func(b *testing.B) {
				benchmarkPage(b, "/metrics", partitions, encoding)
			})
		}
	}
}

// benchmarkPage requests a page that shows a thousand consumers.
func benchmarkPage(b *testing.B, path string, partitions int, encoding string) {
	s := thousand(partitions)
	h := New(Options{
		Log: slog.New(slog.DiscardHandler), Snapshot: func() *Snapshot { return s },
		DiskSpace: func(string) (free, size uint64, ok bool) { return 1, 2, true },
	}).Handler()
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
		b.ReportMetric(float64(w.Body.Len()), "bytes")
	}
}

// thousand has a thousand consumers with some partitions each.
func thousand(partitions int) *Snapshot {
	c := &shownConsumer{State: consumer.Running, Partitions: make([]consumer.PartitionSnapshot, partitions)}
	c.Lag = lag.Lag{Records: new(int64(1)), Seconds: new(2.5), CatchUp: new(3.5)}
	for i := range c.Partitions {
		c.Partitions[i].Topic, c.Partitions[i].Partition, c.Partitions[i].Lag = "t", int32(i), c.Lag
	}
	s := &Snapshot{Config: &config.Config{}}
	for i := range 1000 {
		one := *c
		one.Name = "c" + strconv.Itoa(i)
		spec := config.Consumer{Name: one.Name, State: config.Running}
		spec.Sink.File = &sink.FileSpec{Path: "/data/" + one.Name}
		counted := stats.New()
		one.Counters = counted.Counters()
		one.LastRecord = time.Now()
		s.Rows = append(s.Rows, Row{ID: one.Name, Spec: &spec, Consumer: &one})
	}
	return s
}
