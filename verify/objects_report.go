package verify

import (
	"context"
	"encoding/json"
	"errors"
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

// Prove lists the objects and writes the result: a table of the partitions, the gaps between ranges,
// where offsets are missing or repeated, and which objects cannot be part of a proof. good is false
// if there are any, except for gaps that the log explains, or, with AllowHoles, does not explain. An
// error means that the store or the log cannot be read, or that there is no object of a consumer.
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
	good = good && p.logErr == nil
	if r.JSON {
		err = p.writeJSON(r.Out, good)
	} else {
		err = p.writeText(r.Out)
	}
	return good, errors.Join(err, p.logErr)
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
	var unknown, missing, repeated bool
	for _, one := range p.partitions {
		unknown, missing, repeated = unknown || one.Unknown > 0, missing || one.Missing > 0, repeated || one.Repeats > 0
	}
	switch {
	case !unknown || r.AllowHoles || p.logErr != nil:
	case p.of.Log == nil:
		fmt.Fprintln(r.Notes, "a range without any record has no object: only the log tells it from a missing object. --deep reads the log, with the cluster of --config or --brokers. --allow-holes accepts gaps that are not explained")
	default:
		fmt.Fprintln(r.Notes, "--allow-holes accepts gaps that are not explained")
	}
	if missing {
		fmt.Fprintln(r.Notes, "missing offsets have a record in the log, and in no object. A reset to later offsets leaves them, too, and so does on_error if --config has other settings now")
	}
	if repeated {
		fmt.Fprintln(r.Notes, "offsets are repeated after a reset to earlier offsets, by delivery at_least_once, and by several consumers of one topic below the URL: verify the URL of each consumer separately")
	}
}

// writeText writes a table of the partitions, and below it the gaps, and what is missing or repeated.
func (p *proof) writeText(out io.Writer) error {
	var below strings.Builder
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(p.partitions) > 0 {
		fmt.Fprint(w, "topic\ttopic id\tpartition\tfirst\tlast\tranges\tobjects\tgaps\trepeated\t")
		if p.of.Deep {
			fmt.Fprint(w, "records\tunused\t")
		}
		if p.of.Log != nil {
			fmt.Fprint(w, "missing\tunknown\t")
		}
		fmt.Fprintln(w)
	}
	for _, tp := range slices.SortedFunc(maps.Keys(p.partitions), compare) {
		r := p.partitions[tp]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t", printable(tp.topic.Name), tp.topic.ID, tp.partition, r.First, r.Last, r.Ranges, r.Objects, r.GapOffsets, r.Repeats)
		if p.of.Deep {
			fmt.Fprintf(w, "%d\t%d\t", r.Records, r.Unused)
		}
		if p.of.Log != nil {
			fmt.Fprintf(w, "%d\t%d\t", r.Missing, r.Unknown)
		}
		fmt.Fprintln(w)
		r.list(&below, tp.String())
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

// list writes the first gaps, and the first offsets that are missing or repeated.
func (r *Ranges) list(w io.Writer, name string) {
	more := r.GapOffsets
	for i := range r.Gaps {
		g := &r.Gaps[i]
		fmt.Fprintf(w, "%s: gap of %s before %s: %s\n", name, g.offsets(), g.At, g)
		more -= g.To - g.From + 1
	}
	if more > 0 {
		fmt.Fprintf(w, "%s: %d more offsets are in gaps\n", name, more)
	}
	list(w, name, r.MissingRuns, "missing at", r.Missing)
	if r.UnusedUnknown > 0 {
		fmt.Fprintf(w, "%s: %d unused %s unknown: %s\n", name, r.UnusedUnknown, plural(r.UnusedUnknown, "offset"), r.unusedReason)
	}
	list(w, name, r.Repeated, "repeated at", r.Repeats)
}

// provenPartition is one partition in the JSON output.
type provenPartition struct {
	Topic      string `json:"topic"`
	TopicID    string `json:"topic_id"`
	Partition  int32  `json:"partition"`
	First      int64  `json:"first_offset"`
	Last       int64  `json:"last_offset"`
	Ranges     int64  `json:"ranges"`
	Objects    int64  `json:"objects"`
	GapOffsets int64  `json:"gap_offsets"`
	Gaps       []Gap  `json:"gaps"`
	Repeats    int64  `json:"repeated"`
	Repeated   []Run  `json:"repeats"`
	Records    *int64 `json:"records"` // null without --deep
	Unused     *int64 `json:"unused"`  // null without --deep
	Unknown    int64  `json:"unknown"`
	// Null without a log:
	Missing       *int64 `json:"missing"`
	MissingRuns   []Run  `json:"missing_offsets"`
	UnusedUnknown *int64 `json:"unused_unknown"`
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
			Topic: tp.topic.Name, TopicID: tp.topic.ID, Partition: tp.partition, First: r.First, Last: r.Last, Ranges: r.Ranges, Objects: r.Objects,
			GapOffsets: r.GapOffsets, Gaps: append([]Gap{}, r.Gaps...), Repeats: r.Repeats, Repeated: append([]Run{}, r.Repeated...), Unknown: r.Unknown,
		}
		if p.of.Deep {
			one.Records, one.Unused = &r.Records, &r.Unused
		}
		if p.of.Log != nil {
			one.Missing, one.MissingRuns, one.UnusedUnknown = &r.Missing, append([]Run{}, r.MissingRuns...), &r.UnusedUnknown
		}
		result.Partitions = append(result.Partitions, one)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(result)
}
