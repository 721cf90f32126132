// Franz is a program that kcagent is compared with: the poll loop that users of franz-go
// write, as a member of a group. It does not sync.
//
//	franz BROKER GROUP TOPIC FILE
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "franz:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: franz BROKER GROUP TOPIC FILE")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(args[0]), kgo.ConsumerGroup(args[1]), kgo.ConsumeTopics(args[2]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	f, err := os.Create(args[3])
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) {
			_, _ = out.Write(r.Value)
			_ = out.WriteByte('\n')
		})
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}
