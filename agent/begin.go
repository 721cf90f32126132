package agent

import (
	"errors"
	"fmt"
	"maps"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// beginnings tell the partitions that start is for from those that came later.
// start is where a group without offsets begins. A partition or a topic that came
// after the group began has none either, but to begin there at the end would skip
// what was produced before anybody noticed it. Only the goroutine that keeps the
// consumer joined uses it.
type beginnings struct {
	pattern string          // that chose listed; "" if they were named
	listed  map[string]bool // topics of the last generation; nil before the first
	came    map[string]bool // by topic: whether it came later, as far as that is known
}

// list takes in the topics of a generation. A topic that appears under the same
// pattern came later; one that an edit added did not, unless it was awaited.
func (b *beginnings) list(pattern string, topics []string, awaited *map[string]bool) {
	now := make(map[string]bool, len(topics))
	for _, t := range topics {
		now[t] = true
		if _, known := b.came[t]; !known && b.listed != nil && !b.listed[t] {
			b.note(t, pattern != "" && pattern == b.pattern || awaited != nil && (*awaited)[t])
		}
	}
	b.pattern, b.listed = pattern, now
}

// miss takes in an error that says that topics are not there yet: they will have
// come later.
func (b *beginnings) miss(pattern string, err error) {
	var topic *fetch.TopicError
	switch {
	case errors.Is(err, errNoTopic):
		b.pattern, b.listed = pattern, map[string]bool{}
	case errors.As(err, &topic) && errors.Is(topic.Err, sarama.ErrUnknownTopicOrPartition):
		b.note(topic.Topic, true)
	}
}

// await notes topics that a probe did not find: once they are there, and the
// consumer reads them, they will have come later. The agent's loop alone calls it.
func (c *consumer) await(topics []string) {
	awaited := make(map[string]bool)
	if had := c.awaited.Load(); had != nil {
		maps.Copy(awaited, *had)
	}
	for _, t := range topics {
		awaited[t] = true
	}
	c.awaited.Store(&awaited)
}

// missingTopics are those of which one of the errors joined in err says that they
// are not there.
func missingTopics(err error) (topics []string) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range all.Unwrap() {
			topics = append(topics, missingTopics(err)...)
		}
		return topics
	}
	var t *fetch.TopicError
	if errors.As(err, &t) && errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition) {
		topics = append(topics, t.Topic)
	}
	return topics
}

func (b *beginnings) note(topic string, came bool) {
	if b.came == nil {
		b.came = make(map[string]bool)
	}
	b.came[topic] = came
}

// later reports whether a partition that has no committed offset came after the
// group began: last holds the highest partition that has one, for each topic of
// the group's.
func (b *beginnings) later(topic string, id int32, last map[string]int32) bool {
	if top, begun := last[topic]; begun {
		return id > top
	}
	came, known := b.came[topic]
	if !known { // the agent was not there to see it come
		came = b.pattern != "" && len(last) > 0
		b.note(topic, came)
	}
	return came
}

// findBeginnings finds out which partitions without an offset came after the
// group began.
func (s *session) findBeginnings() error {
	if s.spec.Start == (config.Start{}) {
		return nil // they all begin at the earliest record
	}
	var open []*partition
	for _, p := range s.partitions {
		if p.committed.Load() < 0 {
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return nil
	}
	last, err := s.lastCommitted()
	if err != nil {
		return fmt.Errorf("fetch all committed offsets of group %s: %w", s.spec.Group, err)
	}
	for _, p := range open {
		if p.later = s.begins.later(p.Topic, p.Partition, last); p.later {
			s.log.Info("came after the group began: read from its first record on", "topic", p.Topic, "partition", p.Partition)
		}
	}
	return nil
}

// tellStarts logs and counts the partitions of which nobody knows where they are to
// go on.
func (s *session) tellStarts() {
	n, later := 0, 0
	for _, p := range s.partitions {
		if p.accepted.Load() >= 0 || p.renewed != "" {
			continue
		}
		if n++; p.later {
			later++
		}
	}
	if n > 0 {
		s.stats.starts.Add(int64(n))
		s.log.Info("no committed offset: begins where start says, but for what came later", "start", s.spec.Start.String(), "partitions", n, "later", later)
	}
}

// lastCommitted asks for the highest partition of each topic for which the group
// has an offset.
func (s *session) lastCommitted() (map[string]int32, error) {
	coordinator, err := s.client.Coordinator(s.spec.Group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.FetchOffset(sarama.NewOffsetFetchRequest(s.client.Config().Version, s.spec.Group, nil))
	if err != nil {
		return nil, err
	}
	if code := resp.GroupError(); code != sarama.ErrNoError {
		return nil, code
	}
	blocks := resp.Blocks
	if len(resp.Groups) > 0 { // Kafka 3.0 and newer
		blocks = resp.Groups[0].Blocks
	}
	last := make(map[string]int32)
	for topic, partitions := range blocks {
		for id, b := range partitions {
			if top, ok := last[topic]; b.Offset >= 0 && (!ok || id > top) {
				last[topic] = id
			}
		}
	}
	return last, nil
}
