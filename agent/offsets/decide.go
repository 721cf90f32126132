package offsets

import (
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/leader"
	"kcagent/sink"
)

// A Committed is the committed offset of a partition, as its coordinator has it.
type Committed struct {
	Offset  int64        // -1: no committed offset
	Epoch   leader.Epoch // of the last record before it
	ByAgent bool         // an agent committed it, and Meta is valid
	// WhileMember: this agent has been a member of the group since the partition was last
	// assigned to it. Only members can have committed meanwhile, because the coordinator
	// rejects commits of administration tools until the group is empty.
	WhileMember bool
	Meta        Metadata
}

// A StartPoint is where a partition without a position starts. Its leader resolves it to an
// offset.
type StartPoint struct {
	Offset int64     // sarama.OffsetOldest or sarama.OffsetNewest
	At     time.Time // if not zero: the first record that is not older
}

// A Policy is what the configuration says about a partition without a usable position.
type Policy struct {
	Start      StartPoint
	OutOfRange config.OutOfRange
	// Recreated: this agent saw that the topic was deleted and created again. So a position
	// that does not name the current topic is about the deleted one.
	Recreated bool
}

// A Decision is where a partition resumes, and why.
type Decision struct {
	Offset  int64        // -1: see Start
	Epoch   leader.Epoch // of the last record before Offset
	Start   StartPoint   // if Offset is -1
	Lineage string       // "": the caller chooses a new one
	Reason  Reason
	Adopt   bool // the ledger must get the position before the first record
	Commit  bool // the offset must be committed before the first record
	Copied  bool // the ledger is a copy, and must get a new id
	// Plan is the open plan that is to be completed first, from Offset on. If Blocked, it is the
	// one that the sink cannot complete.
	Plan *sink.Plan
	// Blocked: the partition does not resume. Its topic was recreated, and
	// on_offset_out_of_range is fail, or its cluster was replaced, or there is an open plan that
	// cannot be completed.
	Blocked bool
}

// A Reason is why a partition resumes where it does: the log message and its level.
type Reason struct {
	Message string
	Level   slog.Level
}

// The reasons for a decision.
var (
	AtCommitted           = Reason{"resuming at the committed offset", slog.LevelDebug}
	AtLedger              = Reason{"the file is ahead of the committed offset; resuming where the file ends", slog.LevelInfo}
	AtOtherMembers        = Reason{"another member continued with the partition; resuming at its committed offset", slog.LevelInfo}
	AtOthersReset         = Reason{"another member applied an offset reset; resuming at its committed offset", slog.LevelInfo}
	AtExternal            = Reason{"committed offset was set externally; resuming there", slog.LevelInfo}
	AtExternalReset       = Reason{"committed offset was changed externally; resuming there", slog.LevelWarn}
	AtOtherClient         = Reason{"a group member of another client continued with the partition; resuming at its committed offset", slog.LevelInfo}
	AtMirrored            = Reason{"committed offset was copied from another cluster; resuming there", slog.LevelInfo}
	AtCommitOfCopy        = Reason{"checkpoint is a copy or a restored backup; its file lacks records", slog.LevelWarn}
	AtMismatch            = Reason{"checkpoint does not match the committed offset; its file may lack records", slog.LevelWarn}
	AtLedgerAlone         = Reason{"no committed offset; resuming where the file ends", slog.LevelInfo}
	AtLedgerOfTopic       = Reason{"committed offset belongs to a deleted topic; resuming where the file ends", slog.LevelInfo}
	ClusterReplaced       = Reason{"the brokers belong to another cluster than the records of the file", slog.LevelWarn}
	TopicRecreated        = Reason{"topic was deleted and recreated; applying on_offset_out_of_range", slog.LevelWarn}
	AtLedgerNotEarlyStart = Reason{"the offset was committed while the sink could not be opened; resuming where the file ends", slog.LevelInfo}
	AtEarlyStart          = Reason{"resuming at the offset that was committed while the sink could not be opened", slog.LevelInfo}
	AtPlan                = Reason{"completing the open plan of the committed offset", slog.LevelInfo}
	AtMovedPlan           = Reason{"committed offset was moved away from its open plan; ignoring the plan", slog.LevelWarn}
	PlanWithoutObjects    = Reason{"the committed offset has an open plan, and the sink does not publish by plan", slog.LevelWarn}
	PlanUnreadable        = Reason{"the committed offset has an open plan that this version cannot read", slog.LevelWarn}
	NoCommittedStart      = Reason{"no committed offset; applying start policy", slog.LevelInfo}
)

// Decide decides where a partition resumes. now is its current topic.
//
// There are two sources: the offset c that the group has committed, and the ledger l of the
// sink, which says what the file holds. They differ after a crash between a flush and its
// commit, which leaves the ledger ahead, and after another member, an operator or a mirror
// tool has committed.
//
// Both name a lineage: a history of the partition in which positions only grow. A position
// that does not continue the history, such as an offset that an operator has set, starts a
// new lineage. So if both have the same lineage, the higher position is right. If they have
// different ones, the committed offset is.
//
// docs/offsets.md lists the rules. Each of them is a row of TestDecideFollowsTheDocumentedRules.
func Decide(c Committed, l sink.Ledger, now sink.Identity, p Policy) Decision {
	d := Decision{Offset: c.Offset, Lineage: c.Meta.Lineage}
	otherCluster := ofReplacedCluster(l, now)
	if l.Next < 0 {
		l.Topic = sink.Identity{}
	}
	switch {
	case otherCluster:
		d = Decision{Offset: -1, Reason: ClusterReplaced, Blocked: true}
	case c.Offset < 0 || c.ofDeletedTopic(now, p.Recreated):
		d = decideWithoutCommit(c, l, now, p)
	case !c.ByAgent:
		d.Lineage, d.Commit, d.Reason = "", true, c.external(l, now)
	case Differ(c.Meta.Topic.Cluster, now.Cluster):
		d.Lineage, d.Commit, d.Reason = "", true, AtMirrored
	case c.Meta.EarlyStart:
		d = decideEarlyStart(c, l, now, p)
	case c.Meta.BadPlan != "":
		d = Decision{Offset: -1, Reason: PlanUnreadable, Blocked: true}
	case c.Meta.Plan != nil && c.Meta.Plan.First == c.Offset && !l.Planned:
		d = Decision{Offset: -1, Reason: PlanWithoutObjects, Plan: c.Meta.Plan, Blocked: true}
	case l.Planned:
		d = decidePlanned(c, now)
	case Differ(l.Topic.Cluster, now.Cluster):
		d.Reason = AtCommitted
	case l.Next < 0:
		if d.Reason = AtCommitted; c.ofLedger(l) {
			d.Copied, d.Reason = true, AtCommitOfCopy
		}
	case c.ofLedger(l) && (Differ(l.Topic.Topic, now.Topic) || Differ(l.Lineage, c.Meta.Lineage)):
		d.Copied, d.Reason = true, AtMismatch
	case Differ(l.Topic.Topic, now.Topic):
		d.Reason = AtOtherMembers
	case Differ(l.Lineage, c.Meta.Lineage):
		d.Reason = AtOthersReset
	default:
		d = decideInLineage(c, l)
	}
	d.Epoch = d.epochOf(c, l, now, p)
	want := sink.Position{Next: d.Offset, Lineage: d.Lineage, Topic: now, Epoch: l.Epoch} // a different epoch alone does not justify a flush
	d.Adopt = !d.Blocked && (l.Planned && d.Plan == nil || l.Windows ||
		l.ID != "" && (d.Copied || d.Offset < 0 || d.Lineage == "" || l.Position != want))
	return d
}

// epochOf returns the leader epoch of the last record before the offset of d. The epoch of
// an offset in another cluster, or in the deleted topic, has no meaning here. Epochs of
// other clients are not used. With offsets of later epochs, sarama commits 0, or the epoch
// that it found when it joined, and the leader would report a truncation.
func (d Decision) epochOf(c Committed, l sink.Ledger, now sink.Identity, p Policy) leader.Epoch {
	switch {
	case d.Offset < 0:
	case c.ByAgent && c.Offset == d.Offset && c.Epoch.Known() && !c.ofDeletedTopic(now, p.Recreated) && !Differ(c.Meta.Topic.Cluster, now.Cluster):
		return c.Epoch
	case ledgerCovers(l, now) && l.Next == d.Offset && (c.ByAgent || c.Offset < 0):
		return l.Epoch
	}
	return leader.Unknown
}

// decideInLineage decides between two positions of one lineage: the higher one is right.
func decideInLineage(c Committed, l sink.Ledger) Decision {
	d := Decision{Offset: max(c.Offset, l.Next), Lineage: c.Meta.Lineage}
	if d.Lineage == "" {
		d.Lineage = l.Lineage
	}
	switch {
	case l.Next > c.Offset:
		d.Reason = AtLedger
	case l.Next == c.Offset:
		d.Reason = AtCommitted
	case c.ofLedger(l):
		d.Copied, d.Reason = true, AtCommitOfCopy
	default:
		d.Reason = AtOtherMembers
	}
	return d
}

// decideEarlyStart decides for an early start offset, which was committed before the sink
// could be opened: there was no usable commit then, and the ledger was unknown. The decision
// is committed as an ordinary one before the first record, because other members prefer
// their ledgers to an early start offset.
func decideEarlyStart(c Committed, l sink.Ledger, now sink.Identity, p Policy) Decision {
	switch {
	case ledgerCovers(l, now):
		return Decision{Offset: l.Next, Lineage: l.Lineage, Reason: AtLedgerNotEarlyStart, Commit: true}
	case l.Next >= 0 && !Differ(l.Topic.Cluster, now.Cluster) && p.OutOfRange != config.ResetLatest:
		return decideWithoutCommit(c, l, now, p) // the ledger is about the deleted topic
	}
	return Decision{Offset: c.Offset, Lineage: c.Meta.Lineage, Reason: AtEarlyStart, Commit: true}
}

// decidePlanned decides for a sink that publishes by plan: what it has published is what the
// group has committed. An open plan is completed, also one of another agent, because its objects
// may be visible already. The metadata has to name the current topic before the first record.
// Otherwise, a topic that is recreated later would be read from the old offset.
func decidePlanned(c Committed, now sink.Identity) Decision {
	d := Decision{Offset: c.Offset, Lineage: c.Meta.Lineage, Reason: AtCommitted}
	switch plan := c.Meta.Plan; {
	case plan == nil:
		d.Commit = c.Meta.Topic.Cluster != now.Cluster || c.Meta.Topic.Topic != now.Topic
	case plan.First != c.Offset:
		d.Lineage, d.Commit, d.Reason = "", true, AtMovedPlan
	default:
		d.Plan, d.Reason = plan, AtPlan
	}
	return d
}

// decideWithoutCommit decides if there is no committed offset, or one in a deleted topic. The
// decision is committed first. Otherwise a member that continues after a crash would start
// another lineage, and once the partition returned, its records would be written to this
// member's file again.
func decideWithoutCommit(c Committed, l sink.Ledger, now sink.Identity, p Policy) Decision {
	deleted := c.Offset >= 0 || p.Recreated
	current := now.Topic != "" && l.Topic.Topic == now.Topic
	switch {
	case ledgerCovers(l, now) && (current || !deleted):
		d := Decision{Offset: l.Next, Lineage: l.Lineage, Reason: AtLedgerAlone, Commit: true}
		if c.Offset >= 0 {
			d.Reason = AtLedgerOfTopic
		}
		return d
	case deleted, l.Next >= 0 && !Differ(l.Topic.Cluster, now.Cluster) && Differ(l.Topic.Topic, now.Topic):
		d := Decision{Offset: -1, Reason: TopicRecreated}
		switch p.OutOfRange {
		case config.ResetEarliest:
			d.Start.Offset = sarama.OffsetOldest
		case config.ResetLatest:
			d.Start.Offset = sarama.OffsetNewest
		default:
			d.Blocked = true
		}
		d.Commit = !d.Blocked
		return d
	}
	return Decision{Offset: -1, Start: p.Start, Reason: NoCommittedStart, Commit: true}
}

// external returns the reason for resuming at a commit without the metadata of an agent.
// Other clients commit the leader epoch of the last record that they consumed, and
// kafka-consumer-groups does not. Some administration tools commit an epoch, too, so a
// commit that moves the offset back is a reset in any case.
func (c Committed) external(l sink.Ledger, now sink.Identity) Reason {
	switch known := ledgerCovers(l, now); {
	case c.WhileMember, c.Epoch.Known() && (!known || c.Offset >= l.Next):
		return AtOtherClient
	case known && c.Offset != l.Next:
		return AtExternalReset
	}
	return AtExternal
}

// ofLedger reports that the agent with this ledger committed the offset. It commits what is
// durable in the ledger. So the ledger holds as much, or it is a copy or a backup.
func (c Committed) ofLedger(l sink.Ledger) bool {
	return c.ByAgent && l.ID != "" && c.Meta.Ledger == l.ID
}

// StartMoves reports that the same decision would lead to a higher offset later, and so skip
// records that are produced meanwhile.
func (d Decision) StartMoves() bool {
	return d.Offset < 0 && !d.Blocked && (d.Start.Offset == sarama.OffsetNewest || !d.Start.At.IsZero())
}

// ofDeletedTopic reports that the offset is in a topic of the same name that was deleted
// since.
func (c Committed) ofDeletedTopic(now sink.Identity, recreated bool) bool {
	if c.ByAgent && Differ(c.Meta.Topic.Cluster, now.Cluster) {
		return false // topic ids of different clusters cannot be compared
	}
	if recreated {
		return !c.ByAgent || c.Meta.Topic.Topic != now.Topic
	}
	return c.ByAgent && Differ(c.Meta.Topic.Topic, now.Topic)
}

// ledgerCovers reports that the ledger has a position in the current topic.
func ledgerCovers(l sink.Ledger, now sink.Identity) bool {
	return l.Next >= 0 && !Differ(l.Topic.Cluster, now.Cluster) && !Differ(l.Topic.Topic, now.Topic)
}

// ofReplacedCluster reports that the ledger is about another cluster that had the addresses
// of this one. Without an edit of brokers a consumer must not continue in another cluster.
// That applies to partitions without an entry in the ledger, too, because the file would
// contain the records of both clusters.
func ofReplacedCluster(l sink.Ledger, now sink.Identity) bool {
	return Differ(l.Topic.Cluster, now.Cluster) && now.Brokers != "" && l.Topic.Brokers == now.Brokers
}

// Differ reports that two ids are known and different.
func Differ(a, b string) bool { return a != "" && b != "" && a != b }
