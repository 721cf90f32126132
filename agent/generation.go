package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/retry"
	"kcagent/sink"
)

// A generation is one generation of a consumer's group membership: the time between two
// rebalances. sarama calls Setup when the partitions are assigned, and Cleanup before
// they are given up. Between the two, the generation's own goroutines read the
// partitions. sarama starts none, because [groupClient] reports that partitions are not
// readable.
type generation struct {
	env         env
	startedWith *config.Consumer        // the settings when the generation started
	topics      []string                // subscribed to
	absent      []error                 // why other topics of the consumer are left out
	abandon     context.CancelCauseFunc // ends the generation with a cause

	session    sarama.ConsumerGroupSession // set by Setup
	clusterID  string                      // of the cluster that the group is in; "" if unknown
	partitions map[sink.TopicPartition]*partition
	running    sync.WaitGroup // goroutines that read and watch
	slots      slots
	flusher    *flusher // nil until Setup has succeeded
	unsaved    error    // what the last flush and commit could not save

	subscribing  sync.Mutex   // held while subscriptions get the settings in force
	unpositioned atomic.Int32 // partitions that have not had a position yet
	positioned   atomic.Bool  // there is none left
	unopened     atomic.Int32 // partitions that the sink was not asked to open yet
	starts       startCount
	fetchChanged retry.Signal // a partition may have started or stopped to fail; capacity 1
}

// newGeneration returns a generation of the given topics. abandon must end the context
// with which the group is joined.
func newGeneration(e env, startedWith *config.Consumer, topics []string, absent []error, abandon context.CancelCauseFunc) *generation {
	return &generation{
		env: e, startedWith: startedWith, topics: topics, absent: absent, abandon: abandon,
		partitions:   make(map[sink.TopicPartition]*partition),
		fetchChanged: retry.NewSignal(),
		slots:        make(slots, chunksAtOnce),
	}
}

// Setup implements [sarama.ConsumerGroupHandler]. It finds out where the partitions
// resume and starts to read them.
func (g *generation) Setup(session sarama.ConsumerGroupSession) error {
	g.session = session
	for topic, ids := range session.Claims() {
		for _, id := range ids {
			tp := sink.TopicPartition{Topic: topic, Partition: id}
			g.partitions[tp] = newPartition(tp)
		}
	}
	offsets := groupOffsets{g.env.client, g.startedWith.Group}
	if err := g.prepare(offsets); err != nil {
		return err
	}
	g.unpositioned.Store(int32(len(g.partitions)))
	g.unopened.Store(int32(len(g.partitions)))
	g.positioned.Store(len(g.partitions) == 0)
	g.flusher = newFlusher(&g.env, g.startedWith, session, offsets, g.partitions)
	if !g.followsPattern() {
		g.flusher.absent = missingTopics(errors.Join(g.absent...))
		g.flusher.later = g.env.history.baseline.laterTopics(g.topics)
	}
	g.flusher.start(context.WithoutCancel(session.Context()))
	g.env.stats.rebalances.Add(1)
	g.env.log.Info("partitions assigned", "group", g.startedWith.Group, "member_id", session.MemberID(),
		"generation", session.GenerationID(), "partitions", len(g.partitions))
	g.env.observer.Joined(g)
	if !g.followsPattern() { // a topic that matches and cannot be used is being deleted
		for _, err := range g.absent {
			g.env.observer.Report(err.Error(), subscribeError(err))
		}
	}
	g.launch(session.Context()) // after Joined, which makes earlier faults obsolete
	return nil
}

// followsPattern reports that the topics are those that match topics_regex.
func (g *generation) followsPattern() bool { return g.startedWith.TopicsRegex != "" }

// prepare finds out what is committed, and which partitions were added later. It does not
// ask the sink: each partition's own goroutine does, so that one file that cannot be
// opened affects no other partition.
func (g *generation) prepare(offsets groupOffsets) error {
	g.clusterID = g.env.cluster.Pin().ID()
	committed, err := offsets.fetch(g.session.Claims())
	if err == nil && g.env.cluster.Pin().ID() != g.clusterID {
		err = errMoved
	}
	if err != nil {
		return fmt.Errorf("fetch committed offsets of group %s: %w", g.startedWith.Group, err)
	}
	for tp, p := range g.partitions {
		p.committed = committed[tp]
		p.committed.whileMember = g.env.history.held.hold(tp, g.session.MemberID())
	}
	g.env.history.baseline.setCluster(g.clusterID)
	return g.findBaseline(offsets)
}

// findBaseline finds out which partitions without a committed offset were added after the
// group started.
func (g *generation) findBaseline(offsets groupOffsets) error {
	b := &g.env.history.baseline
	b.clearAwaited() // what older commits say may be outdated
	for _, p := range g.partitions {
		b.addCommit(p.Topic, p.committed)
	}
	if g.startedWith.Start != (config.Start{}) { // else every partition starts at the earliest record
		if err := g.inferBaseline(offsets); err != nil {
			return err
		}
	}
	for _, p := range g.partitions {
		p.initialPartitions, p.addedLater, p.recreated = b.partition(p.TopicPartition)
	}
	b.clearRecreated()
	return nil
}

// inferBaseline fetches all committed offsets of the group, if the baseline of a topic is
// unknown and one of its partitions needs it.
func (g *generation) inferBaseline(offsets groupOffsets) error {
	b := &g.env.history.baseline
	topics := make(map[string]bool)
	for _, p := range g.partitions {
		if !b.known(p.Topic) && p.committed.offset < 0 {
			topics[p.Topic] = true
		}
	}
	if len(topics) == 0 {
		return nil
	}
	all, err := offsets.fetchAll(b)
	if err != nil {
		return fmt.Errorf("fetch all committed offsets of group %s: %w", g.startedWith.Group, err)
	}
	for t := range topics {
		ids, err := g.env.cluster.Partitions(t)
		if err != nil {
			return &fetch.TopicError{Topic: t, Err: err}
		}
		b.infer(t, len(ids), all)
	}
	return nil
}

// launch starts the goroutines that last as long as the generation.
func (g *generation) launch(ctx context.Context) {
	for _, p := range g.partitions {
		g.running.Go(func() { g.runPartition(ctx, p) })
	}
	g.running.Go(func() { g.watch(ctx) })
}

// ConsumeClaim implements [sarama.ConsumerGroupHandler]. sarama would call it for each
// readable partition.
func (g *generation) ConsumeClaim(session sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-session.Context().Done()
	return nil
}

// Cleanup implements [sarama.ConsumerGroupHandler]. It flushes and commits what was
// consumed, while the member still has its partitions. sarama calls it after a failed
// Setup, too.
func (g *generation) Cleanup(sarama.ConsumerGroupSession) error {
	if !g.joined() {
		return nil
	}
	g.running.Wait()
	g.flusher.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.session.Context()), rebalanceTimeout)
	defer cancel()
	if err := g.flusher.flushLast(ctx); err != nil {
		g.unsaved = err
		g.env.log.Warn("last flush of a generation failed; its records will be read again", "error", err)
	}
	if err := g.env.sink.Release(); err != nil {
		g.env.log.Warn("closing files of released partitions failed", "error", err)
	}
	g.env.log.Info("partitions released", "group", g.startedWith.Group, "reason", fmt.Sprint(context.Cause(g.session.Context())))
	g.env.observer.Left()
	return nil
}

// joined reports that Setup has succeeded.
func (g *generation) joined() bool { return g.flusher != nil }

// applySpec applies settings that have changed in env.spec, and a gate that was opened or
// shut. Changed topics end the generation.
func (g *generation) applySpec() {
	spec := g.env.spec.Load()
	g.tuneSubscriptions(spec)
	g.env.cluster.Update(fetchSettings(spec.Cluster))
	if err := g.env.sink.Update(spec.Sink); err != nil {
		g.env.log.Error("sink rejected changed settings", "error", err)
	}
	g.flusher.intervalChanged.Set()
	if !sameTopics(spec, g.startedWith) {
		g.abandon(errResubscribe)
	}
}

// flushNow requests a flush and a commit. If the gate is shut, Clean is called once both
// have succeeded.
func (g *generation) flushNow() { g.flusher.now.Set() }

// sortedPartitions returns the partitions by topic and number.
func (g *generation) sortedPartitions() []*partition {
	ps := make([]*partition, 0, len(g.partitions))
	for _, p := range g.partitions {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, comparePartitions)
	return ps
}

func comparePartitions(a, b *partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

var _ sarama.ConsumerGroupHandler = (*generation)(nil)
