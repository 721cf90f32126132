// Package kafkalog reads what the log of a partition has between two offsets, so that kcagent verify
// can explain offsets without a record. It joins no group and commits nothing.
//
// Start reading at [Log.Read].
package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/leader"
	"kcagent/retry"
	"kcagent/sink/decode"
)

const (
	// patience is how long the brokers may bring nothing for a partition, such as during the election
	// of a leader.
	patience = 30 * time.Second
	// nearby is how many offsets are skipped by reading on. Before offsets that are farther ahead, the
	// records are not fetched.
	nearby = 1000
	// disputePause is the pause between two metadata requests while the brokers disagree about a topic.
	disputePause = 250 * time.Millisecond
)

// A Log is the log of the topics that a consumer reads. Its methods are for one goroutine.
type Log struct {
	consumer *config.Consumer
	decoder  decode.Decoder // of records that the consumer leaves out
	fetcher  *fetch.Fetcher
	running  sync.WaitGroup
	end      context.CancelFunc
	patience time.Duration

	// The partition that was read last. Only one has a subscription, so that the memory does not depend
	// on the number of partitions.
	topic     string
	partition int32
	sub       *fetch.Subscription // nil if there is none
	next      int64               // position of sub
	changed   retry.Signal        // something happened to sub
}

// Open returns the log as a consumer reads it: with the cluster, isolation level, decode and on_error of
// c. It sends no request. Every Log has to be closed.
func Open(c *config.Consumer) *Log {
	l := &Log{consumer: c, patience: patience, changed: retry.NewSignal()}
	if _, letters := c.OnError.Sink(); letters || c.OnError.Action == config.Skip {
		l.decoder = decode.Decoder{Key: c.Decode.Key == config.DecodeJSON, Value: c.Decode.Value == config.DecodeJSON}
	}
	settings := kafka.FetchSettings(c.Cluster)
	settings.Lanes, settings.Rack = 1, "" // a follower does not know the end of the log
	l.fetcher = fetch.New(fetch.Options{
		Name: "verify", Brokers: c.Cluster.Brokers, Settings: settings,
		Config: func() (*sarama.Config, error) {
			creds, err := login.ReadCredentials(c.Cluster)
			if err != nil {
				return nil, err
			}
			return kafka.SaramaConfig("kcagent/verify", c.Cluster, creds)
		},
	})
	ctx, end := context.WithCancel(context.Background())
	l.end = end
	l.running.Go(func() { _ = l.fetcher.Run(ctx) })
	return l
}

// Close closes all connections.
func (l *Log) Close() {
	l.leave()
	l.end()
	l.running.Wait()
}

// Topic returns the ids of a topic and of its cluster, as objects have them; "" if they are unknown.
// exists is false if the topic does not exist. If the brokers disagree about the topic, which may have
// been deleted or recreated, Topic waits until they agree: what was read before the call is of the
// topic that it returns, or that topic has another id than before.
func (l *Log) Topic(ctx context.Context, topic string) (cluster, id string, exists bool, err error) {
	waiting, cancel := context.WithTimeoutCause(ctx, l.patience, fmt.Errorf("no response within %s", l.patience))
	defer cancel()
	err = l.confirm(waiting, topic)
	switch {
	case err != nil && waiting.Err() != nil && !errors.Is(err, fetch.ErrDisputed):
		return "", "", false, fmt.Errorf("reach brokers %s: %w", strings.Join(l.consumer.Cluster.Brokers, ","), context.Cause(waiting))
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return "", "", false, nil
	case err != nil:
		return "", "", false, kafka.ExplainFirst(l.consumer, err)
	}
	cluster, id = l.fetcher.Identity(topic)
	return cluster, id, true, nil
}

// confirm requests the metadata of a topic until the brokers agree about it.
func (l *Log) confirm(ctx context.Context, topic string) error {
	for {
		failed, err := l.fetcher.Confirm(ctx, []string{topic})
		if err == nil {
			err = failed[topic]
		}
		if !errors.Is(err, fetch.ErrDisputed) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(disputePause):
		}
	}
}

// Read calls found for each offset from from to to, both included, whose record the consumer writes.
// The log says nothing about the offsets before first, which retention has removed, or from next on,
// which are beyond its end.
func (l *Log) Read(ctx context.Context, topic string, partition int32, from, to int64, found func(offset int64)) (first, next int64, err error) {
	first = from
	next, err = l.readFrom(ctx, topic, partition, from, to, found)
	if out, ok := errors.AsType[*fetch.OutOfRangeError](err); ok {
		l.leave() // the subscription has failed
		switch {
		case out.Start > to:
			return out.Start, out.Start, nil
		case out.Start <= next:
			return first, next, nil // it is beyond the end
		}
		first = out.Start
		next, err = l.readFrom(ctx, topic, partition, first, to, found)
	}
	if err != nil {
		l.leave()
		return first, next, fmt.Errorf("read the log of %s/%d from offset %d: %w", topic, partition, next, kafka.Explain(l.consumer, err))
	}
	return first, min(next, to+1), nil
}

// readFrom is Read for a log that has begun at from. It returns where it has ended.
func (l *Log) readFrom(ctx context.Context, topic string, partition int32, from, to int64, found func(offset int64)) (next int64, err error) {
	next = from
	l.seek(topic, partition, from)
	for {
		if end := l.sub.Progress().End; l.next >= 0 && (l.next > to || end >= 0 && l.next >= end) {
			return max(next, l.next), nil
		}
		if err := l.wait(ctx); err != nil {
			return next, err
		}
		at, ok, err := l.sub.Take(func(r *fetch.Record) bool {
			if r.Offset > to {
				r.PutBack()
				return false
			}
			if r.Offset >= from && l.writes(r) {
				found(r.Offset)
			}
			return true
		})
		if err != nil {
			return next, err
		}
		if ok {
			l.next, next = at, max(next, at)
		}
	}
}

// writes reports whether the consumer writes a record: on_error may leave it out.
func (l *Log) writes(r *fetch.Record) bool {
	if l.decoder == (decode.Decoder{}) {
		return true
	}
	return l.decoder.Decode(&r.Record) == nil
}

// seek moves to an offset of a partition.
func (l *Log) seek(topic string, partition int32, offset int64) {
	switch {
	case l.sub == nil || l.topic != topic || l.partition != partition:
		l.leave()
		l.topic, l.partition, l.next = topic, partition, -1
		l.sub = l.fetcher.Subscribe(fetch.Spec{
			Topic: topic, Partition: partition, Offset: offset, OnOutOfRange: fetch.Fail,
			ReadCommitted: l.consumer.Isolation != config.ReadUncommitted, MaxBytes: int(l.consumer.MaxPartitionBytes),
			Changed: l.changed.Set,
		})
	case offset < l.next || offset > l.next+nearby:
		l.sub.Rewind(offset, leader.Unknown)
		l.next = offset
	}
}

// leave ends the subscription.
func (l *Log) leave() {
	if l.sub != nil {
		l.sub.Close()
		l.sub = nil
	}
}

var errQuiet = errors.New("the brokers send no records, although the log has not ended")

// wait waits until there is something to take.
func (l *Log) wait(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, l.patience, errQuiet)
	defer cancel()
	for !l.sub.Poll(l.changed.Set) {
		if err := l.sub.LastError(); errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			return err
		}
		select {
		case <-l.changed:
			continue
		case <-waiting.Done():
		}
		if err := l.sub.LastError(); err != nil && ctx.Err() == nil {
			return err
		}
		return context.Cause(waiting)
	}
	return nil
}
