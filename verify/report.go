package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// shownRuns is how many holes and repeats of each partition are listed.
const shownRuns = 10

// Prove reads the files and writes the result to out: a table of the partitions, and where
// offsets are missing or repeated. It writes advice to notes. good is false if an offset is
// repeated or late, or missing without allowHoles, or if a line cannot be read. An error
// means that a file cannot be read, or that no file has a record, which proves nothing.
func Prove(ctx context.Context, t *Trail, files []string, allowHoles bool, out, notes io.Writer) (good bool, err error) {
	good = true
	if first, second := Same(files); first != "" {
		fmt.Fprintf(notes, "%s and %s are one file, so its records count as repeated; name each file once\n", first, second)
	}
	var failed []error
	for _, file := range files {
		n, err := t.File(ctx, file)
		switch {
		case ctx.Err() != nil:
			return false, err
		case errors.As(err, new(*LineError)):
			good = false
			if _, err := fmt.Fprintln(out, err); err != nil {
				return false, err
			}
		case err != nil:
			failed = append(failed, err)
		case n == 0:
			fmt.Fprintf(notes, "%s has no records\n", file)
		}
	}
	if len(t.files) == 0 {
		if good {
			failed = append(failed, errors.New("nothing is proven: no record was read; name files that a sink with format: json has written"))
		}
		return false, errors.Join(failed...)
	}
	allGood, err := t.report(allowHoles, len(files) > 1, out, notes)
	err = errors.Join(append(failed, err)...)
	return good && allGood && err == nil, err
}

// report writes the table, and below it what is missing or repeated.
func (t *Trail) report(allowHoles, several bool, out, notes io.Writer) (good bool, err error) {
	good = true
	var missing, repeated bool
	var below strings.Builder
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "topic\tpartition\tfirst\tlast\trecords\tmissing\trepeated\tlate\t")
	for _, p := range t.Partitions() {
		c := t.Count(p)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", printable(p.Topic), p.ID, c.First, c.Last, c.Records, c.Missing, c.Repeats, c.Late)
		name := fmt.Sprintf("%s/%d", printable(p.Topic), p.ID)
		list(&below, name, c.Holes, "missing before", c.Missing)
		list(&below, name, c.Repeated, "repeated at", c.Repeats)
		good = good && c.Good(allowHoles)
		missing, repeated = missing || c.Missing > 0, repeated || c.Repeats > 0
	}
	if err := w.Flush(); err != nil {
		return false, err
	}
	if _, err := io.WriteString(out, below.String()); err != nil {
		return false, err
	}
	if missing && !allowHoles {
		fmt.Fprintln(notes, "compaction and transactions leave holes: --allow-holes accepts missing offsets")
	}
	if repeated && several {
		fmt.Fprintln(notes, "files of several consumers of one topic repeat its offsets: verify the files of each consumer separately")
	}
	return good, nil
}

// list writes the first runs of offsets of a partition, and how many offsets are in the
// others.
func list(w io.Writer, name string, runs []Run, what string, offsets int64) {
	for i, r := range runs {
		if i == shownRuns {
			break
		}
		is := "are"
		if r.From == r.To {
			is = "is"
		}
		fmt.Fprintf(w, "%s: %s %s %s %s\n", name, r.offsets(), is, what, r.At)
		offsets -= r.To - r.From + 1
	}
	if offsets > 0 {
		verb, _, _ := strings.Cut(what, " ")
		fmt.Fprintf(w, "%s: %d more offsets are %s\n", name, offsets, verb)
	}
}

// offsets returns the offsets as text.
func (r *Run) offsets() string {
	if r.From == r.To {
		return fmt.Sprintf("offset %d", r.From)
	}
	return fmt.Sprintf("offsets %d to %d", r.From, r.To)
}

// printable returns a text from a file, quoted if it has characters that a terminal would
// interpret.
func printable(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return strconv.QuoteToGraphic(text)
		}
	}
	return text
}
