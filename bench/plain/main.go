// Plain is a program that kcagent is compared with: the consumer group loop that users of
// sarama write, with simple optimisations. It drains each claim in batches into a buffer,
// writes the buffer to one file, marks one offset per batch, and lets sarama commit. It
// does not sync.
//
//	plain BROKER GROUP TOPIC FILE
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: plain BROKER GROUP TOPIC FILE")
	}
	metrics.UseNilMetrics = true
	conf := sarama.NewConfig()
	conf.Version = sarama.MaxVersion
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	conf.Consumer.MaxProcessingTime = 5e9
	group, err := sarama.NewConsumerGroup(args[:1], args[1], conf)
	if err != nil {
		return err
	}
	defer group.Close()
	f, err := os.Create(args[3])
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	h := &handler{out: bufio.NewWriterSize(f, 1<<20)}
	for ctx.Err() == nil {
		if err := group.Consume(ctx, args[2:3], h); err != nil {
			return err
		}
	}
	return nil
}

type handler struct {
	mu  sync.Mutex
	out *bufio.Writer
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	var buf []byte
	for m := range claim.Messages() {
		buf = append(append(buf[:0], m.Value...), '\n')
		last := m
	drain:
		for len(buf) < 1<<20 {
			select {
			case m, ok := <-claim.Messages():
				if !ok {
					break drain
				}
				buf = append(append(buf, m.Value...), '\n')
				last = m
			default:
				break drain
			}
		}
		h.mu.Lock()
		_, err := h.out.Write(buf)
		if err == nil && len(claim.Messages()) == 0 {
			err = h.out.Flush()
		}
		h.mu.Unlock()
		if err != nil {
			return err
		}
		s.MarkMessage(last, "")
	}
	return nil
}
