package agent

import (
	"errors"
	"fmt"
	"maps"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
)

// beginnings tell the partitions that start is for from those that came later.
// start is where a group without offsets begins. A partition or a topic that came
// after the group began has none either, but to begin there at the end would skip
// what was produced before anybody noticed it. With how many partitions a group
// began to read a topic stands beside each offset that it commits there. Only the
// goroutine that keeps the consumer joined uses it.
type beginnings struct {
	pattern string           // that chose listed; "" if they were named
	listed  map[string]bool  // topics of the last generation; nil before the first
	came    map[string]bool  // by topic: whether it came later, as far as that is known
	began   map[string]int32 // by topic: with how many partitions the group began, as far as that is known
	remade  map[string]bool  // topics that were deleted and made anew while they were read; nil if the last generation saw none
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
	if came {
		b.start(topic, 0)
	}
}

// A trace is what the group has committed of a topic.
type trace struct {
	last  int32 // the highest partition that has an offset
	began int32 // the least that the notes say; -1 if none does
}

// begin finds out with how many partitions the group began to read a topic: 0 if it
// came later as a whole. have is how many it has now, and traces are of all topics of
// the group.
func (b *beginnings) begin(topic string, have int, traces map[string]trace) {
	t, begun := traces[topic]
	switch {
	case begun && t.began >= 0:
		b.start(topic, t.began)
	case begun: // by other means than an agent's
		b.start(topic, t.last+1)
	case b.came[topic], !b.knows(topic) && b.pattern != "" && len(traces) > 0: // the agent was not there to see it come
		b.start(topic, 0)
	default:
		b.start(topic, int32(have))
	}
}

func (b *beginnings) knows(topic string) bool {
	_, known := b.came[topic]
	return known
}

// start takes in with how many partitions the group began a topic, as somebody says.
// If they differ, one has counted what came meanwhile.
func (b *beginnings) start(topic string, partitions int32) {
	if b.began == nil {
		b.began = make(map[string]int32)
	}
	if was, known := b.began[topic]; !known || partitions < was {
		b.began[topic] = partitions
	}
}

// remake takes in that a topic was deleted and made anew: all of it came later.
func (b *beginnings) remake(topic string) {
	if b.remade == nil {
		b.remade = make(map[string]bool)
	}
	b.remade[topic] = true
	b.start(topic, 0)
}

// findBeginnings finds out which partitions without an offset came after the
// group began.
func (s *session) findBeginnings(committed map[sink.TopicPartition]commitment) error {
	for tp, c := range committed {
		if c.began >= 0 {
			s.begins.start(tp.Topic, c.began)
		}
	}
	if s.spec.Start != (config.Start{}) { // else all begin at the earliest record
		if err := s.askBeginnings(); err != nil {
			return err
		}
	}
	for _, p := range s.partitions {
		began, known := s.begins.began[p.Topic]
		if p.began = began; !known {
			p.began = -1
			continue
		}
		if p.later = p.committed.Load() < 0 && p.Partition >= began; p.later && s.spec.Start != (config.Start{}) {
			s.log.Info("came after the group began: read from its first record on", "topic", p.Topic, "partition", p.Partition)
		}
	}
	return nil
}

// askBeginnings asks for what the group has committed, if that is needed.
func (s *session) askBeginnings() error {
	topics := make(map[string]bool)
	for _, p := range s.partitions {
		if _, known := s.begins.began[p.Topic]; !known && p.committed.Load() < 0 {
			topics[p.Topic] = true
		}
	}
	if len(topics) == 0 {
		return nil
	}
	traces, err := s.traces()
	if err != nil {
		return fmt.Errorf("fetch all committed offsets of group %s: %w", s.spec.Group, err)
	}
	for t := range topics {
		have, err := s.cluster.Partitions(t)
		if err != nil {
			return &fetch.TopicError{Topic: t, Err: err}
		}
		s.begins.begin(t, len(have), traces)
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

// traces asks for all that the group has committed.
func (s *session) traces() (map[string]trace, error) {
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
	traces := make(map[string]trace)
	for topic, partitions := range blocks {
		for id, b := range partitions {
			if b.Offset < 0 {
				continue
			}
			t, known := traces[topic]
			if !known {
				t = trace{-1, -1}
			}
			t.last = max(t.last, id)
			if began := parseNote(b.Metadata).began; began >= 0 && (t.began < 0 || began < t.began) {
				t.began = began
			}
			traces[topic] = t
		}
	}
	return traces, nil
}
