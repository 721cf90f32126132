package agent

import (
	"errors"
	"fmt"
	"maps"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// partitionBaseline tells the partitions that start applies to from those added
// later. start is for a group without offsets. A partition or a topic that was
// created after the group began has no committed offset either, but to start there
// at the end would skip what was produced before anybody noticed it. So the number of
// partitions that a topic had when the group first read it is part of the commit
// metadata. Only the goroutine that keeps the consumer joined uses the baseline.
type partitionBaseline struct {
	cluster    string           // that all of it is about; "" if it is not known
	pattern    string           // that matched subscribed; "" if the topics were named
	subscribed map[string]bool  // topics of the last generation; nil before the first
	addedLater map[string]bool  // by topic: whether it was created after the group began, as far as known
	initial    map[string]int32 // by topic: how many partitions it had when the group first read it, as far as known
	awaited    map[string]bool  // topics that did not exist when the group committed
	recreated  map[string]bool  // topics that were recreated in the last generation
}

// subscribe records the topics of a generation. A topic that appears under the same
// pattern was created later; one that an edit added was not, unless it was awaited.
func (b *partitionBaseline) subscribe(pattern string, topics []string, awaited *map[string]bool) {
	now := make(map[string]bool, len(topics))
	for _, t := range topics {
		now[t] = true
		if _, known := b.addedLater[t]; !known && b.subscribed != nil && !b.subscribed[t] {
			b.setAddedLater(t, pattern != "" && pattern == b.pattern || awaited != nil && (*awaited)[t])
		}
	}
	b.pattern, b.subscribed = pattern, now
}

// missing records the topics that do not exist according to err: they will have been
// created later.
func (b *partitionBaseline) missing(pattern string, err error) {
	var topic *fetch.TopicError
	switch {
	case errors.Is(err, errNoTopic):
		b.pattern, b.subscribed = pattern, map[string]bool{}
	case errors.As(err, &topic) && errors.Is(topic.Err, sarama.ErrUnknownTopicOrPartition):
		b.setAddedLater(topic.Topic, true)
	}
}

// within forgets what another cluster said, which was at the addresses before.
func (b *partitionBaseline) within(cluster string) {
	if differ(b.cluster, cluster) {
		b.addedLater, b.initial, b.recreated = nil, nil, nil
	}
	if cluster != "" {
		b.cluster = cluster
	}
}

// AwaitTopics records topics that a pre-check did not find: once they exist, they will have
// been created later. Only the agent's loop calls it.
func (c *consumer) AwaitTopics(topics []string) {
	awaited := make(map[string]bool)
	if had := c.awaited.Load(); had != nil {
		maps.Copy(awaited, *had)
	}
	for _, t := range topics {
		awaited[t] = true
	}
	c.awaited.Store(&awaited)
}

// missingTopics lists the topics of which one of the errors joined in err says that
// they do not exist.
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

func (b *partitionBaseline) setAddedLater(topic string, later bool) {
	if b.addedLater == nil {
		b.addedLater = make(map[string]bool)
	}
	b.addedLater[topic] = later
	if later {
		b.limit(topic, 0)
	}
}

// A committedTopic is what the group has committed of a topic.
type committedTopic struct {
	last    int32 // the highest partition that has an offset
	initial int32 // the least number of partitions in the metadata; -1 if there is none
}

// infer finds out how many partitions a topic had when the group first read it: 0 if
// the topic was created later. have is how many it has now, and all is what the group
// committed of all its topics.
func (b *partitionBaseline) infer(topic string, have int, all map[string]committedTopic) {
	t, read := all[topic]
	_, known := b.addedLater[topic]
	switch {
	case read && t.initial >= 0:
		b.limit(topic, t.initial)
	case read: // its metadata does not say
		b.limit(topic, t.last+1)
	case b.addedLater[topic], b.awaited[topic], !known && b.pattern != "" && len(all) > 0: // created while the agent was down
		b.limit(topic, 0)
	default:
		b.limit(topic, int32(have))
	}
}

// limit records how many partitions a topic had, from one source. If sources differ,
// the higher number includes partitions that were added meanwhile.
func (b *partitionBaseline) limit(topic string, partitions int32) {
	if b.initial == nil {
		b.initial = make(map[string]int32)
	}
	if was, known := b.initial[topic]; !known || partitions < was {
		b.initial[topic] = partitions
	}
}

// await records the awaited topics of a commit.
func (b *partitionBaseline) await(m commitMetadata) {
	for _, t := range m.awaited() {
		if b.awaited == nil {
			b.awaited = make(map[string]bool)
		}
		b.awaited[t] = true
	}
}

// recreate records that a topic was deleted and created again: all its partitions were
// added later.
func (b *partitionBaseline) recreate(topic string) {
	if b.recreated == nil {
		b.recreated = make(map[string]bool)
	}
	b.recreated[topic] = true
	b.limit(topic, 0)
}

// findBaseline finds out which of the session's partitions without a committed offset
// were added after the group began.
func (s *session) findBaseline() error {
	b := &s.baseline
	b.awaited = nil // what older commits say may be outdated
	for _, p := range s.partitions {
		if c := p.committed; c.ours {
			b.await(c.meta)
			if c.meta.partitions >= 0 {
				b.limit(p.Topic, c.meta.partitions)
			}
		}
	}
	if s.spec.Start != (config.Start{}) { // else all start at the earliest record
		if err := s.inferBaseline(); err != nil {
			return err
		}
	}
	for _, p := range s.partitions {
		initial, known := b.initial[p.Topic]
		if p.initial = initial; !known {
			p.initial = -1
		}
		p.addedLater = known && p.Partition >= initial
		p.recreated = b.recreated[p.Topic]
	}
	b.recreated = nil
	return nil
}

// inferBaseline asks for all that the group has committed, if that is needed.
func (s *session) inferBaseline() error {
	topics := make(map[string]bool)
	for _, p := range s.partitions {
		if _, known := s.baseline.initial[p.Topic]; !known && p.committed.offset < 0 {
			topics[p.Topic] = true
		}
	}
	if len(topics) == 0 {
		return nil
	}
	all, err := s.fetchAllCommitted()
	if err != nil {
		return fmt.Errorf("fetch all committed offsets of group %s: %w", s.spec.Group, err)
	}
	for t := range topics {
		have, err := s.cluster.Partitions(t)
		if err != nil {
			return &fetch.TopicError{Topic: t, Err: err}
		}
		s.baseline.infer(t, len(have), all)
	}
	return nil
}

// fetchAllCommitted asks for all that the group has committed.
func (s *session) fetchAllCommitted() (map[string]committedTopic, error) {
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
	all := make(map[string]committedTopic)
	for topic, partitions := range blocks {
		for id, b := range partitions {
			if b.Offset < 0 {
				continue
			}
			t, known := all[topic]
			if !known {
				t = committedTopic{-1, -1}
			}
			t.last = max(t.last, id)
			if m, ok := parseMetadata(b.Metadata); ok {
				s.baseline.await(m)
				if m.partitions >= 0 && (t.initial < 0 || m.partitions < t.initial) {
					t.initial = m.partitions
				}
			}
			all[topic] = t
		}
	}
	return all, nil
}

// policy is what the configuration says of p.
func (s *session) policy(p *partition) policy {
	start := startPoint{offset: sarama.OffsetOldest, at: s.spec.Start.At}
	switch {
	case p.addedLater:
		start = startPoint{offset: sarama.OffsetOldest}
	case s.spec.Start.Latest:
		start.offset = sarama.OffsetNewest
	}
	return policy{start: start, outOfRange: s.spec.OnOutOfRange, recreated: p.recreated}
}
