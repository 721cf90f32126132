package docs

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/config"
	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/file/checkpoint"
)

// figure returns a number of docs/sizing.md, such as 1,000.
func figure(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSizingFormulasFitTheMeasurements: the formulas of docs/sizing.md lead to what it
// measured, memory within a tenth. The peak with records stays below the limit that the
// formulas recommend.
func TestSizingFormulasFitTheMeasurements(t *testing.T) {
	page := read(t, "docs/sizing.md")
	m := regexp.MustCompile(`\| memory without records \| (\d+) MiB \+ \*C\* × (\d+) KiB \+ \*P\* × (\d+) KiB \| (\d+) MiB \|`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the formula of the memory was not found")
	}
	base, perConsumer, perPartition := figure(t, m[1]), figure(t, m[2]), figure(t, m[3])
	idle := func(c, p float64) float64 { return base + (c*perConsumer+p*perPartition)/1024 }
	if got := math.Round(idle(200, 2000)); got != figure(t, m[4]) {
		t.Errorf("the example needs %v MiB, and the page says %s", got, m[4])
	}
	total := regexp.MustCompile(`\| (\d+) MiB \+ (\d+) MiB = (\d+) MiB, so a limit of (\d+) MiB \|`).FindStringSubmatch(page)
	if total == nil {
		t.Fatal("the sum of the memory was not found")
	}
	sum, half, both, limit := figure(t, total[1]), figure(t, total[2]), figure(t, total[3]), figure(t, total[4])
	if want := math.Round(idle(200, 2000)) + 96 + math.Floor(400*160.0/1024); sum != want || half != sum/2 || both != sum+half || limit < both || limit > both+64 {
		t.Errorf("the page has %q, and the sum is %v MiB", total[0], want)
	}
	rows := regexp.MustCompile(`(?m)^\| ([0-9,]+)(, (?:zstd|gzip|zstd, )?(?:with \d+ MB/s)?(?: and a limit of 384 MiB)?)? \| ([0-9,]+) \| (\d) \| ([0-9,]+) \| (\d+) \| (\d+) \| ([0-9,]+) \| ([0-9,]+) \| ([0-9,]+) \| ([0-9,]+) \|$`).FindAllStringSubmatch(page, -1)
	if len(rows) != 12 {
		t.Fatalf("%d rows of measurements were found", len(rows))
	}
	at := make(map[[2]float64]float64) // the memory by consumers and partitions
	for _, row := range rows {
		c, p, brokers, files := figure(t, row[1]), figure(t, row[3]), figure(t, row[4]), figure(t, row[5])
		rss, peak, descriptors, sockets, kib := figure(t, row[6]), figure(t, row[7]), figure(t, row[8]), figure(t, row[9]), figure(t, row[11])
		switch {
		case strings.Contains(row[2], "MB/s"):
			if peak > limit {
				t.Errorf("%s: the peak exceeds the limit of %v MiB", row[0], limit)
			}
		case files == p:
			if row[2] == "" {
				at[[2]float64{c, p}] = rss
			}
			if want := idle(c, p); math.Abs(rss-want) > want/10 {
				t.Errorf("%s: the formula leads to %.0f MiB", row[0], want)
			}
		}
		if c == 1000 && files == 1000 {
			quote := row[6] + " MiB"
			if !strings.Contains(read(t, "README.md"), "A thousand idle consumers with a file each need about "+quote) ||
				!strings.Contains(read(t, "docs/performance.md"), quote+" for 1,000 consumers") {
				t.Errorf("README.md or docs/performance.md does not have the %s of the page", quote)
			}
		}
		if descriptors != 2*files || files == p && kib != 8*p {
			t.Errorf("%s: two descriptors and 8 KiB for each file are %v and %v", row[0], 2*files, 8*files)
		}
		// The HTTP API has a socket that listens, and one of the benchmark's client.
		if want := c + 2*brokers + 1 + 2; sockets > want {
			t.Errorf("%s: the formula leads to %v sockets", row[0], want)
		}
	}
	if t.Failed() {
		partition := (at[[2]float64{1, 5000}] - at[[2]float64{1, 1}]) / 4999
		t.Logf("the measurements are about %.0f MiB + C × %.0f KiB + P × %.0f KiB", at[[2]float64{1, 1}],
			1024*((at[[2]float64{1000, 1000}]-at[[2]float64{1, 1}])/1000-partition), 1024*partition)
	}
}

// TestSizingTableAgreesWithTheFigures: the table of docs/sizing.md has the figures of
// docs/performance/sizing.csv. With -update, it writes the table, and the figure of the
// README, which [TestSizingFormulasFitTheMeasurements] compares.
func TestSizingTableAgreesWithTheFigures(t *testing.T) {
	page := read(t, "docs/sizing.md")
	begin := strings.Index(page, "| consumers | partitions |")
	if begin < 0 {
		t.Fatal("the table was not found")
	}
	have, _, _ := strings.Cut(page[begin:], "\n\n")
	want := sizingTable(t, readFigures(t, "sizing"))
	switch {
	case *update:
		readme := regexp.MustCompile(`(with a file each need about )\d+`).ReplaceAllString(read(t, "README.md"), "${1}"+sizingOfThousand(t))
		for file, text := range map[string]string{"sizing.md": strings.Replace(page, have, want, 1), "../README.md": readme} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	case have != want:
		t.Errorf("the table of docs/sizing.md differs from the figures; to generate it again, run: go generate ./docs\n%s", lineDiff(have, want))
	}
}

func sizingTable(t *testing.T, f figures) string {
	t.Helper()
	whole := func(text string) string {
		digits := strconv.Itoa(int(math.Round(figure(t, text))))
		if n := len(digits) - 3; n > 0 {
			return digits[:n] + "," + digits[n:]
		}
		return digits
	}
	var rows [][]string
	for _, row := range f.rows {
		label := whole(row["consumers"])
		for _, codec := range []string{"zstd", "gzip"} {
			if strings.Contains(row["kind"], codec) {
				label += ", " + codec
			}
		}
		if strings.HasPrefix(row["kind"], "with records") {
			label += ", with " + whole(row["mb_per_s"]) + " MB/s"
		}
		if _, limit, found := strings.Cut(row["kind"], "limit of "); found {
			label += " and a limit of " + limit
		}
		rows = append(rows, []string{
			label, whole(row["partitions"]), row["brokers"], whole(fmt.Sprint(figure(t, row["files"]) / 2)), whole(row["rss_mib"]), whole(row["peak_rss_mib"]),
			whole(row["files"]), whole(row["sockets"]), whole(row["goroutines"]), whole(row["checkpoints_kib"]),
		})
	}
	return table("| consumers | partitions | brokers | files | RSS MiB | peak RSS MiB | descriptors of files | sockets | goroutines | checkpoints KiB |", rows)
}

// TestSizingNamesTheDefaults: the constants that docs/sizing.md uses.
func TestSizingNamesTheDefaults(t *testing.T) {
	c, problems := config.Parse("", []byte("consumers: [{name: a, brokers: [k:9092], topics: [t], sink: {stdout: {}}}]"), nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if f := c.Consumers[0].Cluster.Fetch; f.Lanes != 2 || f.MaxBytes != 16<<20 {
		t.Errorf("the example has 2 lanes of 16 MiB, and the defaults are %+v", f)
	}
	if checkpoint.SlotSize != 4<<10 {
		t.Errorf("a checkpoint has two slots of %d bytes, and the page says 8 KiB", checkpoint.SlotSize)
	}
}

// TestSizesOfRecords: the bytes of a record in each format.
func TestSizesOfRecords(t *testing.T) {
	page := read(t, "docs/sizing.md")
	envelope := regexp.MustCompile("`format: json` \\| (\\d+), the name").FindStringSubmatch(page)
	header := regexp.MustCompile("`format: json` \\| (\\d+), the JSON texts").FindStringSubmatch(page)
	if envelope == nil || header == nil {
		t.Fatal("the sizes were not found")
	}
	encoder := func(f sink.Format) func([]byte, *sink.Record) []byte {
		encoders, _ := encode.For(f)
		return encoders(sink.TopicPartition{Topic: "orders", Partition: 12}).Append
	}
	raw, json := encoder(sink.Raw), encoder(sink.JSON)
	r := &sink.Record{Topic: "orders", Partition: 12, Offset: 345, Time: time.Now(), Value: []byte("abc")}
	if n := len(raw(nil, r)); n != len("abc")+1 {
		t.Errorf("the raw record has %d bytes", n)
	}
	want := int(figure(t, envelope[1])) + len("orders") + len("12") + len("345") + len("null") + len(`"abc"`)
	if n := len(json(nil, r)); n != want {
		t.Errorf("the envelope has %d bytes, want %d", n, want)
	}
	if n := len(json(nil, &sink.Record{Topic: "orders", Partition: 12, Offset: 345, Time: time.Now(), Value: []byte{0xff, 0xff, 0xff}})); n != want+len("_base64")+1 {
		t.Errorf("the envelope with three bytes in base64 has %d bytes, want %d", n, want+len("_base64")+1)
	}
	r.Headers = []sink.Header{{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("k")}}
	want += 2*int(figure(t, header[1])) + len(`"k""v","k"null`)
	if n := len(json(nil, r)); n != want {
		t.Errorf("the envelope with headers has %d bytes, want %d", n, want)
	}
}

// TestFlushesAreQuotedAsMeasured: docs/sizing.md says how many writes of the disk a flush
// causes.
func TestFlushesAreQuotedAsMeasured(t *testing.T) {
	m := regexp.MustCompile(`with about (\d+) writes of the disk each`).FindStringSubmatch(read(t, "docs/sizing.md"))
	if m == nil {
		t.Fatal("the number of writes was not found")
	}
	for _, row := range readFigures(t, "active").where("delivery", "exactly_once") {
		if got := figure(t, row["writes_per_flush"]); math.Abs(got-figure(t, m[1])) > 1 {
			t.Errorf("%s topics: a flush caused %v writes, and the page says %s", row["topics"], got, m[1])
		}
	}
}
