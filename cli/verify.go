package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"kcagent/cli/command"
	"kcagent/verify"
)

func newVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify FILE…",
		Short: "prove from JSON-format files that no offset is missing or repeated",
		Long: `
Name the files of one consumer, compressed or not, in any order. A folder stands for the
files below it, without checkpoints. Stdout is a table with one line per partition: the
first and last offset, the number of records, and how many offsets are missing, repeated,
or late (after a higher one in the same file). The first ten holes and repeats of each
partition are listed below it.`,
		Example: "kcagent verify /data/orders*.jsonl",
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return command.Usagef("no files: name the files, folders or patterns to verify")
			}
			return nil
		},
	}
	command.Exits(c, "no offset is missing, repeated or late",
		"an offset is missing, repeated or late, a line cannot be read, or there is no record", "invalid usage")
	allowHoles := c.Flags().Bool("allow-holes", false, "accept missing offsets, which compaction and transactions leave")
	c.RunE = func(c *cobra.Command, files []string) error {
		return runVerify(c.Context(), streamsOf(c), files, *allowHoles)
	}
	return c
}

// runVerify reads the files of one consumer.
func runVerify(ctx context.Context, io streams, names []string, allowHoles bool) error {
	files, err := verify.Files(names)
	if err != nil {
		return err
	}
	good, err := verify.Prove(ctx, verify.New(progressOf(io, files)), files, allowHoles, io.out, io.err)
	if err == nil && !good {
		err = command.Reported(command.Failure)
	}
	return err
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
