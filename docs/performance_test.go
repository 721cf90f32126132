package docs

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
)

// figures are what one benchmark measured: a file in docs/performance.
type figures struct {
	facts map[string]string // what was measured where, from the comments above the header
	rows  []map[string]string
}

func readFigures(t *testing.T, name string) figures {
	t.Helper()
	return parseFigures(t, name, read(t, path.Join("docs/performance", name+".csv")))
}

func parseFigures(t *testing.T, name, text string) figures {
	t.Helper()
	f := figures{facts: make(map[string]string)}
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(strings.TrimPrefix(line, "# "), ": "); found && strings.HasPrefix(line, "#") {
			f.facts[key] = strings.TrimSpace(value)
		}
	}
	r := csv.NewReader(strings.NewReader(text))
	r.Comment = '#'
	all, err := r.ReadAll()
	if err != nil || len(all) < 2 {
		t.Fatalf("docs/performance/%s.csv has %d lines: %v", name, len(all), err)
	}
	for _, line := range all[1:] {
		row := make(map[string]string)
		for i, key := range all[0] {
			row[key] = line[i]
		}
		f.rows = append(f.rows, row)
	}
	return f
}

// where returns the rows with these values; keys and values alternate.
func (f figures) where(conditions ...string) []map[string]string {
	var found []map[string]string
	for _, row := range f.rows {
		matches := true
		for i := 0; i < len(conditions); i += 2 {
			matches = matches && row[conditions[i]] == conditions[i+1]
		}
		if matches {
			found = append(found, row)
		}
	}
	return found
}

// values returns the sums of some columns, one for each row, sorted.
func values(t *testing.T, rows []map[string]string, columns ...string) []float64 {
	t.Helper()
	sums := make([]float64, len(rows))
	for i, row := range rows {
		for _, column := range columns {
			sums[i] += figure(t, row[column])
		}
	}
	slices.Sort(sums)
	return sums
}

// median returns the median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// spread shows the median of sorted values, and the lowest and highest of several.
func spread(sorted []float64, digits int) string {
	show := func(v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	if len(sorted) < 2 {
		return show(median(sorted))
	}
	return fmt.Sprintf("%s (%s to %s)", show(median(sorted)), show(sorted[0]), show(sorted[len(sorted)-1]))
}

func table(header string, rows [][]string) string {
	var b strings.Builder
	columns := strings.Count(header, "|") - 1
	b.WriteString(header + "\n" + strings.Repeat("|---", columns) + "|")
	for _, row := range rows {
		b.WriteString("\n| " + strings.Join(row, " | ") + " |")
	}
	return b.String()
}

var cpuColumns = []string{"user_s_per_gb", "system_s_per_gb"}

// A performance renders docs/performance.md.
type performance struct {
	t                                                         *testing.T
	throughput, profile, idle, active, failing, long, objects figures
}

// performancePage renders docs/performance/page.md with the figures beside it.
func performancePage(t *testing.T) string {
	p := performance{
		t: t, throughput: readFigures(t, "throughput"), profile: readFigures(t, "profile"),
		idle: readFigures(t, "idle"), active: readFigures(t, "active"), failing: readFigures(t, "failing"),
	}
	if _, err := os.Stat("performance/objects.csv"); err == nil { // it is measured by itself
		p.objects = readFigures(t, "objects")
	}
	p.long = figures{facts: p.throughput.facts}
	// The main load was measured with two amounts; the larger one has a table of its own.
	main := p.throughput.rows[0]["mb"]
	var rest []map[string]string
	for _, row := range p.throughput.rows {
		if row["mb"] == main {
			rest = append(rest, row)
		} else {
			p.long.rows = append(p.long.rows, row)
		}
	}
	p.throughput.rows = rest
	page, err := template.New("page").Funcs(template.FuncMap{
		"fact":       func(key string) string { return p.throughput.facts[key] },
		"note":       p.note,
		"cpuOf":      p.cpuOf,
		"megabytes":  func() string { return main },
		"more":       func() string { return p.long.rows[0]["mb"] },
		"rounds":     func() int { return len(p.throughput.where(slices.Concat(mainLoad, []string{"tool", "kcagent"})...)) },
		"tools":      func() string { return p.tools(p.throughput) },
		"toolsLong":  func() string { return p.tools(p.long) },
		"speed":      func(a, b string) string { return p.ratio(p.throughput, a, b, "mb_per_s") },
		"cpu":        func(a, b string) string { return p.ratio(p.throughput, a, b, cpuColumns...) },
		"speedLong":  func(a, b string) string { return p.ratio(p.long, a, b, "mb_per_s") },
		"kinds":      p.kinds,
		"profile":    p.parts,
		"idle":       p.idleTable,
		"each":       p.each,
		"active":     p.activeTable,
		"failing":    p.failingTable,
		"failingOf":  p.failingRatio,
		"sizing":     func() string { return sizingOfThousand(t) },
		"objects":    p.objectsTable,
		"objectFact": func(key string) string { return p.objects.facts[key] },
		"allCommits": p.commits,
	}).Parse(read(t, "docs/performance/page.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, nil); err != nil {
		t.Fatal(err)
	}
	return "<!-- Generated from docs/performance/page.md and the figures beside it by `go generate ./docs`; edit that page instead. -->\n\n" + b.String()
}

// mainLoad is the kind of records that the most programs are measured with.
var mainLoad = []string{"bytes", "200", "codec", "none", "partitions", "4"}

// toolNames are all programs, in the order of the tables.
var toolNames = []string{"kcagent", "kcagent json", "kcagent loose", "plain", "franz-go", "kcat", "floor", "floor synced"}

func (p performance) tools(f figures) string {
	var rows [][]string
	for _, tool := range toolNames {
		runs := f.where(slices.Concat(mainLoad, []string{"tool", tool})...)
		if len(runs) == 0 {
			continue
		}
		rows = append(rows, []string{
			tool, spread(values(p.t, runs, "mb_per_s"), 0), spread(values(p.t, runs, cpuColumns...), 2),
			spread(values(p.t, runs, "user_s_per_gb"), 2), spread(values(p.t, runs, "peak_rss_mib"), 0),
			spread(headStart(p.t, runs), 0),
		})
	}
	return table("| tool | MB/s | CPU-s/GB | user CPU-s/GB | peak RSS MiB | ms from fetch to file |", rows)
}

// headStart returns the milliseconds between the first fetch and the first byte in the
// file.
func headStart(t *testing.T, runs []map[string]string) []float64 {
	t.Helper()
	var all []float64
	for _, run := range runs {
		all = append(all, 1e3*(figure(t, run["file_s"])-figure(t, run["fetch_s"])))
	}
	slices.Sort(all)
	return all
}

// ratio is that of the medians of two tools.
func (p performance) ratio(f figures, a, b string, columns ...string) string {
	p.t.Helper()
	of := func(tool string) float64 {
		v := median(values(p.t, f.where(slices.Concat(mainLoad, []string{"tool", tool})...), columns...))
		if v == 0 {
			p.t.Fatalf("there are no figures of %s", tool)
		}
		return v
	}
	return strconv.FormatFloat(of(a)/of(b), 'f', 2, 64)
}

func (p performance) kinds() string {
	names := []string{"kcagent", "kcagent json", "plain", "franz-go", "kcat", "floor"}
	var rows [][]string
	seen := make(map[string]bool)
	for _, row := range p.throughput.rows {
		kind := []string{"bytes", row["bytes"], "codec", row["codec"], "partitions", row["partitions"]}
		if seen[fmt.Sprint(kind)] {
			continue
		}
		seen[fmt.Sprint(kind)] = true
		line := []string{row["bytes"] + " B", row["codec"], row["partitions"]}
		for _, tool := range names {
			runs := p.throughput.where(slices.Concat(kind, []string{"tool", tool})...)
			if len(runs) == 0 {
				line = append(line, "")
				continue
			}
			line = append(line, fmt.Sprintf("%.0f / %.2f / %.0f", median(values(p.t, runs, "mb_per_s")),
				median(values(p.t, runs, cpuColumns...)), median(values(p.t, runs, "peak_rss_mib"))))
		}
		rows = append(rows, line)
	}
	order := func(row []string) string {
		size, _ := strconv.Atoi(strings.TrimSuffix(row[0], " B"))
		codec := slices.Index([]string{"none", "lz4", "zstd"}, row[1])
		partitions, _ := strconv.Atoi(row[2])
		return fmt.Sprintf("%6d %d %6d", size, codec, partitions)
	}
	slices.SortFunc(rows, func(a, b []string) int { return cmp.Compare(order(a), order(b)) })
	return table("| record | codec | partitions | "+strings.Join(names, " | ")+" |", rows)
}

// parts shows what CPU time is spent on.
func (p performance) parts() string {
	names := []string{"read from the socket", "write to the file", "reserve space", "sync", "checksum", "decompress", "parse", "encode and copy", "Go's scheduler and collector", "other"}
	for _, row := range p.profile.rows {
		if !slices.Contains(names, row["part"]) {
			p.t.Errorf("the part %q is not in the table", row["part"])
		}
	}
	kinds := [][]string{{"codec", "none", "format", "raw"}, {"codec", "none", "format", "json"}, {"codec", "zstd", "format", "raw"}, {"codec", "zstd", "format", "json"}}
	sums := make([]float64, len(kinds))
	var rows [][]string
	for _, name := range names {
		line := []string{name}
		for i, kind := range kinds {
			rounds := float64(len(p.profile.where(slices.Concat(kind, []string{"part", "parse"})...)))
			mean := 0.0
			for _, v := range values(p.t, p.profile.where(slices.Concat(kind, []string{"part", name})...), "cpu_s_per_gb") {
				mean += v / rounds
			}
			sums[i] += mean
			line = append(line, fmt.Sprintf("%.2f", mean))
		}
		rows = append(rows, line)
	}
	line := []string{"sum"}
	for _, sum := range sums {
		line = append(line, fmt.Sprintf("%.2f", sum))
	}
	return table("| CPU-s/GB | raw | json | zstd, raw | zstd, json |", append(rows, line))
}

func (p performance) idleTable() string {
	var rows [][]string
	for _, row := range p.idle.rows {
		show := func(column string, digits int) string {
			return spread(values(p.t, []map[string]string{row}, column), digits)
		}
		rows = append(rows, []string{
			idleName(row["n"], row["kind"]), show("start_s", 1) + " s", show("rss_mib", 0), row["goroutines"], row["sockets"],
			show("cores", 3), show("edit_ms", 0), show("edit_cpu_ms", 0),
		})
	}
	return table("| idle | all running after | RSS MiB | goroutines | sockets | cores | ms per edit | CPU-ms per edit |", rows)
}

func idleName(n, kind string) string {
	switch {
	case kind == "topics" || kind == "partitions":
		return "1 consumer of " + n + " " + kind
	case n == "1":
		return "1 consumer"
	}
	return n + " " + kind
}

// each returns how much of a column another consumer costs, from one consumer to the most,
// times a factor.
func (p performance) each(column string, factor float64) string {
	rows := p.idle.where("kind", "consumers")
	first, last := rows[0], rows[len(rows)-1]
	more := figure(p.t, last["n"]) - figure(p.t, first["n"])
	return strconv.FormatFloat(factor*(figure(p.t, last[column])-figure(p.t, first[column]))/more, 'f', 0, 64)
}

func (p performance) activeTable() string {
	var rows [][]string
	for _, row := range p.active.rows {
		name := map[string]string{"one": " on one topic", "own": " on topics of their own"}[row["topics"]]
		line := []string{row["consumers"] + name, row["delivery"]}
		for _, column := range []struct {
			name   string
			digits int
		}{{"flushes_per_s", 0}, {"writes_per_flush", 2}, {"device_flushes_per_flush", 2}, {"write_calls_per_flush", 2}, {"flush_ms", 1}, {"cores", 2}, {"rss_mib", 0}, {"goroutines", 0}} {
			line = append(line, spread(values(p.t, []map[string]string{row}, column.name), column.digits))
		}
		rows = append(rows, line)
	}
	return table("| consumers | delivery | flushes/s | writes per flush | of them cache flushes | write calls per flush | mean flush ms | cores | RSS MiB | goroutines |", rows)
}

func (p performance) failingTable() string {
	var rows [][]string
	for _, kind := range []string{"alone", "with failing clusters"} {
		runs := p.failing.where("consumers", kind)
		rows = append(rows, []string{
			kind, spread(values(p.t, runs, "file_s"), 2) + " s", spread(values(p.t, runs, "mb_per_s"), 0),
			spread(values(p.t, runs, cpuColumns...), 2), spread(values(p.t, runs, "peak_rss_mib"), 0),
		})
	}
	return table("| | first record after | MB/s | CPU-s/GB | peak RSS MiB |", rows)
}

func (p performance) failingRatio() string {
	of := func(kind string) float64 {
		return median(values(p.t, p.failing.where("consumers", kind), "mb_per_s"))
	}
	return strconv.FormatFloat(of("with failing clusters")/of("alone"), 'f', 2, 64)
}

// note returns what a reader should know about the figures of any file.
func (p performance) note() string {
	for _, f := range []figures{p.throughput, p.profile, p.idle, p.active, p.failing, readFigures(p.t, "sizing")} {
		if note := f.facts["note"]; note != "" {
			return note
		}
	}
	return ""
}

// cpuOf returns the CPU-s/GB of a tool.
func (p performance) cpuOf(tool string) string {
	runs := p.throughput.where(slices.Concat(mainLoad, []string{"tool", tool})...)
	return strconv.FormatFloat(median(values(p.t, runs, cpuColumns...)), 'f', 2, 64)
}

// commits returns the commits that the files were measured at.
func (p performance) commits() string {
	var all []string
	for _, f := range []figures{p.throughput, p.profile, p.idle, p.active, p.failing} {
		all = append(all, "`"+f.facts["commit"]+"`")
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " and ")
}

// sizingOfThousand returns the memory of a thousand consumers with a file each.
func sizingOfThousand(t *testing.T) string {
	t.Helper()
	rows := readFigures(t, "sizing").where("consumers", "1000", "partitions", "1000")
	if len(rows) != 1 {
		t.Fatal("docs/performance/sizing.csv has no row of a thousand consumers")
	}
	return strconv.Itoa(int(math.Round(figure(t, rows[0]["rss_mib"]))))
}
