package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/gate"
	"kcagent/agent/group"
	"kcagent/agent/kafka"
	"kcagent/agent/lag"
	"kcagent/agent/offsets"
	"kcagent/agent/reject"
	"kcagent/agent/stats"
	"kcagent/agent/task"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/limits"
	"kcagent/logkey"
	"kcagent/sink"
)

// A Generation is one generation of a consumer's group membership: the time between two
// rebalances. sarama calls Setup when the partitions are assigned, and Cleanup before
// they are given up. Between the two, tasks of the generation read the partitions, flush
// and watch. None of them has a goroutine while it has nothing to do. sarama reads nothing,
// because the assignor of [group.Client] has taken the assigned partitions away from it.
type Generation struct {
	// Set by New, and not changed.
	StartedWith *config.Consumer // the settings when the generation started
	Topics      []string         // subscribed to
	Absent      []error          // why other topics of the consumer are left out

	env     Env
	abandon context.CancelCauseFunc // ends the generation with a cause

	session    sarama.ConsumerGroupSession // set by Setup
	clusterID  string                      // of the cluster that the group is in; "" if unknown
	partitions map[sink.TopicPartition]*Partition
	slots      slots // set by Setup
	buffers    *limits.BufferCount
	flusher    *flusher // nil until Setup has succeeded
	watchdog   *watchdog
	unsaved    error // what the last flush and commit could not save

	subscribing  sync.Mutex   // held while subscriptions get the settings in force
	unpositioned atomic.Int32 // partitions that have not had a position yet
	positioned   atomic.Bool  // unpositioned is 0
	unopened     atomic.Int32 // partitions that the sink was not asked to open yet
	starts       startCount
}

// New returns a generation of the given topics, before it is joined. abandon must end the
// context with which the group is joined.
func New(e Env, startedWith *config.Consumer, topics []string, absent []error, abandon context.CancelCauseFunc) *Generation {
	return &Generation{
		StartedWith: startedWith, Topics: topics, Absent: absent, env: e, abandon: abandon,
		partitions: make(map[sink.TopicPartition]*Partition),
		buffers:    limits.Records.CountBuffers(),
	}
}

// Setup finds out where the partitions of a session resume, and starts to read them.
func (g *Generation) Setup(session sarama.ConsumerGroupSession) error {
	g.session = session
	for topic, ids := range session.Claims() {
		for _, id := range ids {
			tp := sink.TopicPartition{Topic: topic, Partition: id}
			p := newPartition(tp)
			p.times = g.env.History.times[tp]
			p.work = task.New(session.Context(), func() { g.advance(session.Context(), p) })
			p.request = p.work.Request
			g.partitions[tp] = p
		}
	}
	source := group.Offsets{Client: g.env.Client, Group: g.StartedWith.Group}
	if err := g.prepare(source); err != nil {
		return err
	}
	compressed := compresses(g.env.Spec.Load())
	g.slots = make(slots, chunksFor(len(g.partitions), compressed))
	g.buffers.Set(buffersOf(cap(g.slots), compressed))
	g.unpositioned.Store(int32(len(g.partitions)))
	g.unopened.Store(int32(len(g.partitions)))
	g.positioned.Store(len(g.partitions) == 0)
	g.flusher = newFlusher(&g.env, g.StartedWith, session, source, g.partitions, g.abandon)
	if !g.followsPattern() {
		g.flusher.absent = kafka.MissingTopics(errors.Join(g.Absent...))
		g.flusher.later = g.env.History.Baseline.LaterTopics(g.Topics)
	}
	g.watchdog = newWatchdog(session.Context(), g)
	g.env.Stats.Rebalances.Add(1)
	g.env.Log.Info("partitions assigned", logkey.Group, g.StartedWith.Group, logkey.MemberID, session.MemberID(),
		logkey.Generation, session.GenerationID(), logkey.Partitions, len(g.partitions))
	g.env.Observer.Joined(g)
	if !g.followsPattern() { // a topic that matches and cannot be used is being deleted
		for _, err := range g.Absent {
			g.env.Observer.Report(err.Error(), kafka.SubscribeError(err))
		}
	}
	g.launch() // after Joined, which makes earlier faults obsolete
	return nil
}

// followsPattern reports whether the consumer subscribes to the topics that match topics_regex.
func (g *Generation) followsPattern() bool { return g.StartedWith.TopicsRegex != "" }

// prepare fetches the committed offsets, and finds out which partitions were added later. It
// does not use the sink: each partition's work does, so that one file that cannot be
// opened affects no other partition.
func (g *Generation) prepare(source group.Offsets) error {
	g.clusterID = g.env.Cluster.Pin().ID()
	committed, err := source.Fetch(g.session.Claims())
	if err == nil && g.env.Cluster.Pin().ID() != g.clusterID {
		err = ErrClusterChanged
	}
	if err != nil {
		return fmt.Errorf("fetch committed offsets of group %s: %w", g.StartedWith.Group, err)
	}
	for tp, p := range g.partitions {
		p.committed = committed[tp]
		p.committed.WhileMember = g.env.History.held.Hold(tp, g.session.MemberID())
	}
	g.env.History.Baseline.SetCluster(g.clusterID)
	return g.findBaseline(source)
}

// findBaseline finds out which partitions without a committed offset were added after the
// group started.
func (g *Generation) findBaseline(source group.Offsets) error {
	b := &g.env.History.Baseline
	b.ClearAwaited() // what older commits say may be outdated
	for _, p := range g.partitions {
		b.AddCommit(p.Topic, p.committed)
	}
	if g.StartedWith.Start != (config.Start{}) { // else every partition starts at the earliest record
		if err := g.inferBaseline(source); err != nil {
			return err
		}
	}
	for _, p := range g.partitions {
		p.initialPartitions, p.addedLater, p.recreated = b.Partition(p.TopicPartition)
	}
	b.ClearRecreated()
	return nil
}

// inferBaseline fetches all committed offsets of the group, if the baseline of a topic is
// unknown and one of its partitions needs it.
func (g *Generation) inferBaseline(source group.Offsets) error {
	b := &g.env.History.Baseline
	topics := make(map[string]bool)
	for _, p := range g.partitions {
		if !b.Known(p.Topic) && p.committed.Offset < 0 {
			topics[p.Topic] = true
		}
	}
	if len(topics) == 0 {
		return nil
	}
	all, err := source.FetchAll(b)
	if err != nil {
		return fmt.Errorf("fetch all committed offsets of group %s: %w", g.StartedWith.Group, err)
	}
	for t := range topics {
		ids, err := g.env.Cluster.Partitions(t)
		if err != nil {
			return &fetch.TopicError{Topic: t, Err: err}
		}
		b.Infer(t, len(ids), all)
	}
	return nil
}

// StopTime is how long after a stop a sink that publishes by plan may upload what it has. It is
// shorter than a consumer may take to stop.
const StopTime = 15 * time.Second

// Cleanup flushes and commits what was consumed, while the member still has its partitions. run
// ends when the consumer is stopped. Cleanup may be called after a failed Setup, too.
func (g *Generation) Cleanup(run context.Context) error {
	if !g.Joined() {
		return nil
	}
	g.halt()
	for tp, p := range g.partitions {
		g.env.History.times[tp] = p.times
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.session.Context()), group.RebalanceTimeout)
	defer cancel()
	if g.flusher.planned {
		defer context.AfterFunc(run, func() { time.AfterFunc(StopTime, cancel) })()
	}
	if err := g.flusher.flushLast(ctx); err != nil {
		g.unsaved = err
		g.env.Log.Warn("last flush of a generation failed; its records will be read again", logkey.Error, err)
	}
	if err := g.env.Sink.Release(); err != nil {
		g.env.Log.Warn("closing files of released partitions failed", logkey.Error, err)
	}
	g.buffers.Close()
	g.env.Log.Info("partitions released", logkey.Group, g.StartedWith.Group, logkey.Reason, fmt.Sprint(context.Cause(g.session.Context())))
	g.env.Observer.Left()
	return nil
}

// Joined reports that Setup has succeeded. It must not be called while Setup runs, and
// neither must the methods below before Setup has succeeded.
func (g *Generation) Joined() bool { return g.flusher != nil }

// MemberID returns the id of the member, which the coordinator has chosen.
func (g *Generation) MemberID() string { return g.session.MemberID() }

// ID returns the number of the generation.
func (g *Generation) ID() int32 { return g.session.GenerationID() }

// AllPositioned reports that every partition has, or has had, a position that survives a
// crash. It may be called from any goroutine.
func (g *Generation) AllPositioned() bool { return g.positioned.Load() }

// CommitLost reports, after Cleanup, that a commit got no response, and is not known to be in force.
// The member must not join the group again with the same id: the commit may still arrive.
func (g *Generation) CommitLost() bool { return g.Joined() && g.flusher.unconfirmed != nil }

// Unsaved returns why the last flush or commit failed, after Cleanup; nil if it succeeded.
func (g *Generation) Unsaved() error { return g.unsaved }

// ApplySpec applies settings that have changed in Env.Spec, and a gate that was opened or
// shut. Changed topics end the generation. It does not block.
func (g *Generation) ApplySpec() {
	spec := g.env.Spec.Load()
	g.tuneSubscriptions(spec)
	g.env.Cluster.Update(kafka.FetchSettings(spec.Cluster))
	if err := g.env.Sink.Update(spec.Sink); err != nil {
		g.env.Log.Error("sink rejected changed settings", logkey.Error, err)
	}
	g.buffers.Set(buffersOf(cap(g.slots), compresses(spec)))
	g.flusher.request(g.flusher.intervalChanged)
	if !kafka.SameTopics(spec, g.StartedWith) {
		g.abandon(ErrTopicsChanged)
	}
}

// FlushNow requests a flush and a commit. number identifies the request; it must be positive and
// larger than those before. Once both have succeeded while the gate is shut, Observer.Clean is
// called with the newest number that they cover.
func (g *Generation) FlushNow(number int64) {
	g.flusher.requested.Store(number)
	g.flusher.request(g.flusher.now)
}

// FlushDue makes the flusher receive from Env.FlushDue. The consumer calls it after each send.
func (g *Generation) FlushDue() { g.flusher.work.Request() }

// SinkReady makes a partition read again for which Sink.Limits returned false. The consumer calls
// it when the sink calls Options.Ready. It does not block.
func (g *Generation) SinkReady(tp sink.TopicPartition) {
	if p := g.partitions[tp]; p != nil {
		p.work.Request()
	}
}

// SortedPartitions returns the partitions by topic and number.
func (g *Generation) SortedPartitions() []*Partition {
	ps := make([]*Partition, 0, len(g.partitions))
	for _, p := range g.partitions {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, comparePartitions)
	return ps
}

func comparePartitions(a, b *Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// An Env is what a generation uses of its consumer. Everything in it outlives the
// generation. All fields are required.
type Env struct {
	Log        *slog.Logger                     // names the consumer
	Spec       *atomic.Pointer[config.Consumer] // the settings in force; see [Generation.ApplySpec]
	Sink       sink.Sink
	Rejects    *reject.Rules // what happens to records that cannot be decoded
	Cluster    *kafka.Cluster
	Client     *group.Client // the connection to the coordinator
	Gate       *gate.Gate    // shut while the consumer is paused
	Stats      *stats.Stats
	History    *History
	FlushDue   <-chan struct{} // the sink requests a flush, even if nothing was written
	Conditions *condition.Log  // logs reminders of conditions that last
	Observer   Observer
}

// An Observer follows a generation. Its methods are called from several goroutines and
// may block until the consumer's own goroutine has received the previous calls.
type Observer interface {
	Joined(g *Generation)            // the generation has its partitions; faults reported before are obsolete
	Positioned()                     // every partition has a position that survives a crash
	Clean(request int64)             // what the sink had accepted before this call of FlushNow is flushed and committed
	Left()                           // the generation is over
	Report(origin string, err error) // origin fails with err, or works again if err is nil
}

// A History is what a consumer keeps from one generation to the next. Each part says
// which goroutine may use it.
type History struct {
	Baseline offsets.Baseline
	held     offsets.Held
	copies   offsets.LedgerCopies
	holes    holes
	stalls   stalls
	times    map[sink.TopicPartition]lag.Times // used between generations
}

// NewHistory returns the history of a consumer that has had no generation.
func NewHistory() History {
	return History{holes: make(holes), stalls: make(stalls), times: make(map[sink.TopicPartition]lag.Times)}
}

// Origins of faults that concern a consumer as a whole.
const (
	OriginGroup  = "group"
	OriginSink   = "sink"
	originCommit = "commit"
)

// A SinkError is an error of the sink rather than of Kafka.
type SinkError struct{ Err error }

func (e SinkError) Error() string { return e.Err.Error() }

func (e SinkError) Unwrap() error { return e.Err }

// Causes for which a generation is ended before the group requires it.
var (
	ErrTopicsChanged  = errors.New("subscribed topics have changed")
	ErrClusterChanged = errors.New("the brokers belong to another cluster than the one in which the consumer joined its group")
)
