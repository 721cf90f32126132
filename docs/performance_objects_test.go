package docs

import (
	"slices"
	"strconv"
)

// objectKinds are the sinks of the table of objects, and how the page names them.
var objectKinds = [][2]string{
	{"file", "file"}, {"objects", "objects"}, {"discarded", "objects, discarded"}, {"discarded tls", "objects, discarded, TLS"},
}

// objectsTable shows what the objects sink costs beside the file sink, with the same records; nothing if it was
// not measured.
func (p performance) objectsTable() string {
	if len(p.objects.rows) == 0 {
		return ""
	}
	var rows [][]string
	for _, load := range p.objectLoads() {
		of := func(kind, column string) []float64 {
			return values(p.t, p.objects.where(slices.Concat(load, []string{"sink", kind})...), column)
		}
		for _, kind := range objectKinds {
			speed, cpu, server := of(kind[0], "mb_per_s"), of(kind[0], "cpu_s_per_gb"), ""
			if len(speed) == 0 {
				continue
			}
			if kind[0] == "objects" {
				server = spread(of(kind[0], "server_s_per_gb"), 2)
			}
			rows = append(rows, []string{
				load[1], load[3], kind[1], spread(speed, 0), ratioOf(speed, of("file", "mb_per_s")),
				spread(cpu, 2), ratioOf(cpu, of("file", "cpu_s_per_gb")), server,
			})
		}
	}
	return table("| format | partitions | sink | MB/s | of file | CPU-s/GB | of file | CPU-s/GB of the server |", rows)
}

// objectLoads returns the formats and numbers of partitions that were measured, as conditions.
func (p performance) objectLoads() (loads [][]string) {
	for _, format := range []string{"raw", "json zstd"} {
		for _, partitions := range []string{"1", "4", "1000"} {
			load := []string{"format", format, "partitions", partitions}
			if len(p.objects.where(load...)) > 0 {
				loads = append(loads, load)
			}
		}
	}
	return loads
}

// ratioOf is that of two medians.
func ratioOf(a, b []float64) string {
	return strconv.FormatFloat(median(a)/median(b), 'f', 2, 64)
}
