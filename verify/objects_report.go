package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// ObjectsReport says how the result about objects is written.
type ObjectsReport struct {
	AllowHoles bool
	JSON       bool      // one document instead of a table
	Out, Notes io.Writer // the result, and advice about it
}

// Prove lists the objects and writes the result: a table of the partitions, where offsets are missing
// or repeated, and which objects cannot be part of a proof. good is false if there are any, except
// for missing offsets with AllowHoles. An error means that the store does not respond, or that
// there is no object of a consumer, which proves nothing.
func (o *Objects) Prove(ctx context.Context, r ObjectsReport) (good bool, err error) {
	p, err := o.prove(ctx)
	if err != nil {
		return false, err
	}
	p.advise(r)
	if len(p.partitions) == 0 && len(p.problems) == 0 {
		return false, fmt.Errorf("nothing is proven: no key matches the template; name the URL and the template of a consumer, as with --config FILE NAME")
	}
	good = len(p.problems) == 0
	for _, one := range p.partitions {
		good = good && one.good(r.AllowHoles)
	}
	if r.JSON {
		return good, p.writeJSON(r.Out, good)
	}
	return good, p.writeText(r.Out)
}

// advise writes what was left out, and what the user can do.
func (p *proof) advise(r ObjectsReport) {
	for _, key := range p.ignored {
		fmt.Fprintf(r.Notes, "%s is ignored: the key does not match the template\n", printable(key))
	}
	if more := p.unknown - len(p.ignored); more > 0 {
		fmt.Fprintf(r.Notes, "%d more keys are ignored: they do not match the template\n", more)
	}
	if p.later > 0 {
		fmt.Fprintf(r.Notes, "%d objects were stored since the start and are left out\n", p.later)
	}
	var missing, repeated bool
	for _, one := range p.partitions {
		missing, repeated = missing || one.Missing > 0, repeated || one.Repeats > 0
	}
	if missing && !r.AllowHoles {
		fmt.Fprintln(r.Notes, "the keys do not say whether an object is missing, or whether the consumer read no record at these offsets, such as after a pause of a transactional topic, or after a reset of offsets: --allow-holes accepts missing offsets")
	}
	if repeated {
		fmt.Fprintln(r.Notes, "offsets are repeated after a reset to earlier offsets, by delivery at_least_once, and by several consumers of one topic below the URL: verify the URL of each consumer separately")
	}
}

// writeText writes a table of the partitions, and below it what is missing or repeated.
func (p *proof) writeText(out io.Writer) error {
	var below strings.Builder
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(p.partitions) > 0 {
		fmt.Fprint(w, "topic\ttopic id\tpartition\tfirst\tlast\tranges\tobjects\tmissing\trepeated\t")
		if p.of.Deep {
			fmt.Fprint(w, "records\tunused\t")
		}
		fmt.Fprintln(w)
	}
	for _, tp := range slices.SortedFunc(maps.Keys(p.partitions), compare) {
		r := p.partitions[tp]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t", printable(tp.topic.Name), tp.topic.ID, tp.partition, r.First, r.Last, r.Ranges, r.Objects, r.Missing, r.Repeats)
		if p.of.Deep {
			fmt.Fprintf(w, "%d\t%d\t", r.Records, r.Unused)
		}
		fmt.Fprintln(w)
		list(&below, tp.String(), r.Holes, "missing before", r.Missing)
		list(&below, tp.String(), r.Repeated, "repeated at", r.Repeats)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, one := range p.problems {
		fmt.Fprintf(&below, "%s: %s\n", printable(one.Key), one.Reason)
	}
	if p.more > 0 {
		fmt.Fprintf(&below, "%d more problems\n", p.more)
	}
	_, err := io.WriteString(out, below.String())
	return err
}

// provenPartition is one partition in the JSON output.
type provenPartition struct {
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first_offset"`
	Last      int64  `json:"last_offset"`
	Ranges    int64  `json:"ranges"`
	Objects   int64  `json:"objects"`
	Missing   int64  `json:"missing"`
	Repeats   int64  `json:"repeated"`
	Holes     []Run  `json:"holes"`
	Repeated  []Run  `json:"repeats"`
	Records   *int64 `json:"records"` // null without --deep
	Unused    *int64 `json:"unused"`  // null without --deep
}

func (p *proof) writeJSON(out io.Writer, good bool) error {
	result := struct {
		Good       bool              `json:"good"`
		Partitions []provenPartition `json:"partitions"`
		Problems   []Problem         `json:"problems"`
		Ignored    int               `json:"ignored_keys"`
		Later      int               `json:"later_objects"`
	}{good, []provenPartition{}, append([]Problem{}, p.problems...), p.unknown, p.later}
	for _, tp := range slices.SortedFunc(maps.Keys(p.partitions), compare) {
		r := p.partitions[tp]
		one := provenPartition{
			tp.topic.Name, tp.topic.ID, tp.partition, r.First, r.Last, r.Ranges, r.Objects, r.Missing, r.Repeats,
			append([]Run{}, r.Holes...), append([]Run{}, r.Repeated...), nil, nil,
		}
		if p.of.Deep {
			one.Records, one.Unused = &r.Records, &r.Unused
		}
		result.Partitions = append(result.Partitions, one)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(result)
}
