package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"kcagent/verify"
)

var verifyCommand = command{
	name:    "verify",
	args:    "FILE…",
	summary: "prove from JSON-format files that no offset is missing or repeated",
	details: `
Name the files, compressed or not, in the order in which they were written. Stdout is a
table with one line per partition: the first and last offset, the number of records, and
how many offsets are missing, repeated, or late (after a higher one). The first ten holes
of each partition are listed below it.`,
	exits: []exit{
		{exitSuccess, "no offset is missing, repeated or late"},
		{exitFailure, "an offset is missing, repeated or late, or a line cannot be read"},
		{exitUsage, "invalid usage"},
	},
	example: "kcagent verify /data/orders*.jsonl",
	run:     runVerify,
}

// runVerify reads the files of one trail, in the order in which they were written.
func runVerify(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	allowHoles := flags.Bool("allow-holes", false, "accept missing offsets, which compaction and transactions leave")
	files, err := parseFiles(io, flags, args)
	if err != nil {
		return err
	}
	trail := verify.New(progressOf(io, files))
	var bad error
	for _, file := range files {
		err := trail.File(file)
		if errors.As(err, new(*verify.LineError)) {
			fmt.Fprintln(io.out, err)
			bad = reportedError{exitFailure}
		} else if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := report(io, trail); err != nil {
		return err
	}
	if bad == nil && !trail.Good(*allowHoles) {
		bad = reportedError{exitFailure}
	}
	return bad
}

// parseFiles is parse for a command with files as arguments.
func parseFiles(io streams, flags *flag.FlagSet, args []string) ([]string, error) {
	err := parse(io, flags, args)
	if errors.As(err, new(usageError)) { // the remaining arguments are the files
		err = nil
	}
	if err == nil && flags.NArg() == 0 {
		err = usageError{errors.New("no files: list them in the order in which they were written")}
	}
	return flags.Args(), err
}

// progressOf returns a function that shows the progress on a terminal; nil elsewhere.
func progressOf(io streams, files []string) func(int64) {
	if !isTerminal(io.err) {
		return nil
	}
	var total int64
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			total += info.Size()
		}
	}
	var last time.Time
	return func(read int64) {
		if now := time.Now(); now.Sub(last) > 200*time.Millisecond && total > 0 {
			last = now
			fmt.Fprintf(io.err, "\r%3d %% of %d MB\r", 100*read/total, total/1e6)
		}
	}
}

// shownHoles is how many holes of each partition are listed.
const shownHoles = 10

func report(io streams, t *verify.Trail) error {
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "topic\tpartition\tfirst\tlast\trecords\tmissing\trepeated\tlate\t")
	for _, p := range t.Sorted() {
		c := t.Partitions[p]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", p.Topic, p.ID, c.First, c.Last, c.Records, c.Missing, c.Repeats, c.Late)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range t.Sorted() {
		holes := t.Partitions[p].Holes
		for i, h := range holes {
			if i == shownHoles {
				fmt.Fprintf(io.out, "%s/%d: and %d more holes\n", p.Topic, p.ID, len(holes)-i)
				break
			}
			fmt.Fprintf(io.out, "%s/%d: offsets %d to %d are missing before %s\n", p.Topic, p.ID, h.From, h.To, h.At)
		}
	}
	return nil
}
