package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"kcagent/verify"
)

var verifyCommand = command{
	name:    "verify",
	args:    "FILE…",
	summary: "prove from JSON-format files that no offset is missing or repeated",
	details: `
Name the files of one consumer, compressed or not, in any order. A folder stands for the
files below it, without checkpoints. Stdout is a table with one line per partition: the
first and last offset, the number of records, and how many offsets are missing, repeated,
or late (after a higher one). The first ten holes and repeats of each partition are listed
below it.`,
	exits: []exit{
		{exitSuccess, "no offset is missing, repeated or late"},
		{exitFailure, "an offset is missing, repeated or late, a line cannot be read, or there is no record"},
		{exitUsage, "invalid usage"},
	},
	example: "kcagent verify /data/orders*.jsonl",
	run:     runVerify,
}

// runVerify reads the files of one consumer.
func runVerify(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	allowHoles := flags.Bool("allow-holes", false, "accept missing offsets, which compaction and transactions leave")
	files, err := parseFiles(io, flags, args)
	if err != nil {
		return err
	}
	if files, err = verify.Files(files); err != nil {
		return err
	}
	good, err := verify.Prove(ctx, verify.New(progressOf(io, files)), files, *allowHoles, io.out, io.err)
	if err == nil && !good {
		err = reportedError{exitFailure}
	}
	return err
}

// parseFiles is parse for a command with files as arguments.
func parseFiles(io streams, flags *flag.FlagSet, args []string) ([]string, error) {
	err := parse(io, flags, args)
	if errors.As(err, new(usageError)) { // the remaining arguments are the files
		err = nil
	}
	if err == nil && flags.NArg() == 0 {
		err = usageError{errors.New("no files: name the files, folders or patterns to verify")}
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
