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
	var of *objectsFlags
	c := &cobra.Command{
		Use:   "verify FILE… | URL | --config FILE [CONSUMER]",
		Short: "prove from files or objects that no offset is missing or repeated",
		Long: `
Name the files of one consumer in the JSON format, compressed or not, in any order. A folder
means the files below it, without checkpoints and folders .kcagent. Stdout is a table
with one line per partition: the first and last offset, the number of records, and how many
offsets are missing, repeated, or late (after a higher one in the same file). The first ten
holes and repeats of each partition are listed below it.

The URL of an objects sink (s3://bucket/prefix, gs://…, az://…, file:///folder) means the
objects below it. Their keys name the ranges of offsets that were published. For each partition
and each id of its topic, the command proves that the ranges do not overlap, and names the gaps
between the first and the last one. Several objects of one range, with records of different
times, are one range. A range without any record has no object, so only the log in Kafka shows
whether an object is missing. If the key has no {last}, the command reads it from the metadata of
each object.

With --deep, it also reads the objects, which must be in the JSON format. It proves that the
offsets of each object ascend and are within its range, that no offset is there twice, that
each object has as many records, and each range as many objects, as the metadata says, and that
each record belongs to its key. The column unused counts offsets of the ranges without a record.

With --deep, and --config or --brokers, it also reads what the log has in gaps and at unused
offsets, without a group. A gap is explained if the log has no record there that the consumer
writes: markers and records of aborted transactions, compacted records, and records that on_error
leaves out by the settings of --config. The column missing counts offsets whose record is in the
log and in no object. The column unknown counts offsets that the log cannot explain any more,
because retention has removed them, or the topic was recreated. With --brokers, the command
assumes a consumer with isolation: read_committed and without decode.

With --config, the command takes URL, key, endpoint, credentials and cluster from a consumer of
the file. Otherwise, credentials come from the environment, as for the agent.`,
		Example: "kcagent verify /data/orders*.jsonl\n  kcagent verify s3://lake/kafka --region eu-central-1 --deep\n  kcagent verify --config consumers.yaml orders --deep",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && of.config == "" {
				return command.Usagef("no files: name the files, folders or patterns to verify")
			}
			return checkObjectsArgs(c, args, of)
		},
	}
	command.Exits(c, "no offset is missing, repeated or late, and each gap is explained",
		"an offset is missing, repeated or late, a gap is not explained, a line, an object or the log cannot be read, or there is no record or object", "invalid usage")
	allowHoles := c.Flags().Bool("allow-holes", false, "accept missing offsets of files, which compaction and transactions leave, and gaps that are not explained")
	of = addObjectsFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		source, err := of.find(args)
		switch {
		case err != nil:
			return err
		case source != nil:
			return runVerifyObjects(c.Context(), streamsOf(c), source, of, *allowHoles)
		}
		return runVerify(c.Context(), streamsOf(c), args, *allowHoles)
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
