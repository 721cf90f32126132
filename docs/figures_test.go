package docs

import "testing"

// TestFiguresBecomeTables: the medians, spreads and ratios of docs/performance.md are those
// of the lines of a file.
func TestFiguresBecomeTables(t *testing.T) {
	f := parseFigures(t, "example", `# commit: 1234
# cores: 2
bytes,codec,partitions,mb,tool,round,mb_per_s,user_s_per_gb,system_s_per_gb,peak_rss_mib,fetch_s,file_s
200,none,4,1000,kcagent,1,600.4,0.5,1,40,0.5,0.52
200,none,4,1000,plain,1,300,1,2,30,0.1,0.2
200,none,4,1000,kcagent,2,900,0.7,1.2,44,0.5,0.54
200,none,4,1000,kcagent,3,800,0.6,1.1,42,0.5,0.51
200,none,1,1000,kcagent,1,1,1,1,1,1,1
`)
	if f.facts["commit"] != "1234" || f.facts["cores"] != "2" || len(f.rows) != 5 {
		t.Errorf("the facts are %v, the rows %v", f.facts, f.rows)
	}
	p := performance{t: t, throughput: f}
	const want = `| tool | MB/s | CPU-s/GB | user CPU-s/GB | peak RSS MiB | ms from fetch to file |
|---|---|---|---|---|---|
| kcagent | 800 (600 to 900) | 1.70 (1.50 to 1.90) | 0.60 (0.50 to 0.70) | 42 (40 to 44) | 20 (10 to 40) |
| plain | 300 | 3.00 | 1.00 | 30 | 100 |`
	if got := p.tools(f); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
	if speed, cpu := p.ratio(f, "kcagent", "plain", "mb_per_s"), p.ratio(f, "kcagent", "plain", cpuColumns...); speed != "2.67" || cpu != "0.57" {
		t.Errorf("the ratios are %s and %s", speed, cpu)
	}
	const kinds = `| record | codec | partitions | kcagent | kcagent json | plain | franz-go | kcat | floor |
|---|---|---|---|---|---|---|---|---|
| 200 B | none | 1 | 1 / 2.00 / 1 |  |  |  |  |  |
| 200 B | none | 4 | 800 / 1.70 / 42 |  | 300 / 3.00 / 30 |  |  |  |`
	if got := p.kinds(); got != kinds {
		t.Errorf("the kinds are\n%s\nwant\n%s", got, kinds)
	}
	if got := median([]float64{1, 2, 4, 8}); got != 3 {
		t.Errorf("the median of four values is %v", got)
	}
}

// TestObjectsAreComparedWithFiles: each ratio is that of the medians of the same records.
func TestObjectsAreComparedWithFiles(t *testing.T) {
	p := performance{t: t, objects: parseFigures(t, "example", `sink,format,partitions,round,mb_per_s,cpu_s_per_gb,peak_rss_mib,server_s_per_gb
file,raw,4,1,800,1,40,0
objects,raw,4,1,200,2,50,3
objects,raw,4,2,400,3,50,4
discarded tls,raw,4,1,600,2,50,0
file,json zstd,1000,1,100,2,50,0
objects,json zstd,1000,1,50,3,50,1
`)}
	const want = `| format | partitions | sink | MB/s | of file | CPU-s/GB | of file | CPU-s/GB of the server |
|---|---|---|---|---|---|---|---|
| raw | 4 | file | 800 | 1.00 | 1.00 | 1.00 |  |
| raw | 4 | objects | 300 (200 to 400) | 0.38 | 2.50 (2.00 to 3.00) | 2.50 | 3.50 (3.00 to 4.00) |
| raw | 4 | objects, discarded, TLS | 600 | 0.75 | 2.00 | 2.00 |  |
| json zstd | 1000 | file | 100 | 1.00 | 2.00 | 1.00 |  |
| json zstd | 1000 | objects | 50 | 0.50 | 3.00 | 1.50 | 1.00 |`
	if got := p.objectsTable(); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}
