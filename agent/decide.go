package agent

import (
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/leader"
	"kcagent/sink"
)

// A committedOffset is what the coordinator holds for a partition.
type committedOffset struct {
	offset  int64        // -1: no committed offset
	epoch   leader.Epoch // of the last record before it
	byAgent bool         // an agent committed it, and meta is valid
	// whileMember: this agent has been a member of the group since the partition was last
	// assigned to it. Only members can have committed meanwhile, because the coordinator
	// rejects commits of administration tools until the group is empty.
	whileMember bool
	meta        commitMetadata
}

// A startPoint is where a partition without a position starts; its leader resolves
// it to an offset.
type startPoint struct {
	offset int64     // sarama.OffsetOldest or sarama.OffsetNewest
	at     time.Time // if not zero: at the first record that is not older
}

// A policy is what the configuration says of a partition without a usable position.
type policy struct {
	start      startPoint
	outOfRange config.OutOfRange
	// recreated: this agent saw the topic deleted and created again, so a position
	// that does not name the current topic is about the deleted one.
	recreated bool
}

// A decision is where a partition resumes, and why.
type decision struct {
	offset  int64        // -1: at start
	epoch   leader.Epoch // of the last record before offset
	start   startPoint   // if offset is -1
	lineage string       // "": a new one
	reason  reason
	adopt   bool // the ledger gets the position before the first record
	commit  bool // the offset is committed before the first record
	copied  bool // the ledger is a copy: it gets a new id
	blocked bool // the partition does not resume: its topic was recreated and on_offset_out_of_range is fail, or its cluster was replaced
}

// A reason is why a partition resumes where it does, as it is logged.
type reason struct {
	message string
	level   slog.Level
}

// The reasons.
var (
	atCommitted      = reason{"resuming at the committed offset", slog.LevelDebug}
	atLedger         = reason{"the file is ahead of the committed offset; resuming where the file ends", slog.LevelInfo}
	atOtherMembers   = reason{"another member continued with the partition; resuming at its committed offset", slog.LevelInfo}
	atOthersReset    = reason{"another member obeyed an offset reset; resuming at its committed offset", slog.LevelInfo}
	atExternal       = reason{"committed offset was set externally; resuming there", slog.LevelInfo}
	atExternalReset  = reason{"committed offset was changed externally; resuming there", slog.LevelWarn}
	atOtherClient    = reason{"a group member of another client continued with the partition; resuming at its committed offset", slog.LevelInfo}
	atMirrored       = reason{"committed offset was copied from another cluster; resuming there", slog.LevelInfo}
	atCommitOfCopy   = reason{"checkpoint is a copy or a restored backup; its file lacks records", slog.LevelWarn}
	atMismatch       = reason{"checkpoint does not match the committed offset; its file may lack records", slog.LevelWarn}
	atLedgerAlone    = reason{"no committed offset; resuming where the file ends", slog.LevelInfo}
	atLedgerOfTopic  = reason{"committed offset is about a deleted topic; resuming where the file ends", slog.LevelInfo}
	clusterReplaced  = reason{"another cluster is at the addresses of the brokers that the file was written from", slog.LevelWarn}
	topicRecreated   = reason{"topic was deleted and recreated; applying on_offset_out_of_range", slog.LevelWarn}
	atLedgerNotStart = reason{"the offset was committed while the sink could not be opened; resuming where the file ends", slog.LevelInfo}
	atCommittedStart = reason{"resuming at the offset that was committed while the sink could not be opened", slog.LevelInfo}
	noCommittedStart = reason{"no committed offset; applying start policy", slog.LevelInfo}
)

// decide says where a partition resumes. Two accounts say where that is: the offset
// that the group committed, and the ledger of the sink, which says what the file
// holds. A crash between a flush and its commit leaves the ledger ahead. Another
// member, an operator or a mirror tool moves the committed offset.
//
// Both carry a lineage: one history of a partition, in which positions only grow.
// A position that does not continue the history, such as an offset that an
// operator set, begins a new one. So of two positions with one lineage the further
// is right, and of two lineages the committed one is.
//
// docs/offsets.md lists the rules; each is a row of TestDecide.
func decide(c committedOffset, l sink.Ledger, now sink.Identity, p policy) decision {
	d := decision{offset: c.offset, lineage: c.meta.lineage}
	otherCluster := ofReplacedCluster(l, now)
	if l.Next < 0 {
		l.Topic = sink.Identity{}
	}
	switch {
	case otherCluster:
		d = decision{offset: -1, reason: clusterReplaced, blocked: true}
	case c.offset < 0 || c.ofDeletedTopic(now, p.recreated):
		d = decideWithoutCommit(c, l, now, p)
	case !c.byAgent:
		d.lineage, d.commit, d.reason = "", true, c.external(l, now)
	case differ(c.meta.topic.Cluster, now.Cluster):
		d.lineage, d.commit, d.reason = "", true, atMirrored
	case c.meta.startOnly:
		d = decideStartOnly(c, l, now, p)
	case differ(l.Topic.Cluster, now.Cluster):
		d.reason = atCommitted
	case l.Next < 0:
		if d.reason = atCommitted; c.ofLedger(l) {
			d.copied, d.reason = true, atCommitOfCopy
		}
	case c.ofLedger(l) && (differ(l.Topic.Topic, now.Topic) || differ(l.Lineage, c.meta.lineage)):
		d.copied, d.reason = true, atMismatch
	case differ(l.Topic.Topic, now.Topic):
		d.reason = atOtherMembers
	case differ(l.Lineage, c.meta.lineage):
		d.reason = atOthersReset
	default:
		d = decideInLineage(c, l)
	}
	d.epoch = d.epochOf(c, l, now, p)
	want := sink.Position{Next: d.offset, Lineage: d.lineage, Topic: now, Epoch: l.Epoch} // a flush for the epoch alone is not worth it
	d.adopt = l.ID != "" && !d.blocked && (d.copied || d.offset < 0 || d.lineage == "" || l.Position != want)
	return d
}

// epochOf returns the leader epoch of the last record before the offset of d. The epoch of
// an offset in another cluster, or in the deleted topic, has no meaning here. Epochs of
// other clients are not used: sarama commits the epoch that it found when it joined, or 0,
// beside offsets of later epochs, and the leader would report a truncation.
func (d decision) epochOf(c committedOffset, l sink.Ledger, now sink.Identity, p policy) leader.Epoch {
	switch {
	case d.offset < 0:
	case c.byAgent && c.offset == d.offset && c.epoch.Known() && !c.ofDeletedTopic(now, p.recreated) && !differ(c.meta.topic.Cluster, now.Cluster):
		return c.epoch
	case ledgerCovers(l, now) && l.Next == d.offset && (c.byAgent || c.offset < 0):
		return l.Epoch
	}
	return leader.Unknown
}

// decideInLineage decides between two positions of one lineage: the further is
// right.
func decideInLineage(c committedOffset, l sink.Ledger) decision {
	d := decision{offset: max(c.offset, l.Next), lineage: c.meta.lineage}
	if d.lineage == "" {
		d.lineage = l.Lineage
	}
	switch {
	case l.Next > c.offset:
		d.reason = atLedger
	case l.Next == c.offset:
		d.reason = atCommitted
	case c.ofLedger(l):
		d.copied, d.reason = true, atCommitOfCopy
	default:
		d.reason = atOtherMembers
	}
	return d
}

// decideStartOnly decides where the committed offset was pinned: there was no usable commit,
// and what the ledger says was unknown. The decision is committed as an ordinary one
// before the first record: other members let their ledgers win over a pinned offset.
func decideStartOnly(c committedOffset, l sink.Ledger, now sink.Identity, p policy) decision {
	switch {
	case ledgerCovers(l, now):
		return decision{offset: l.Next, lineage: l.Lineage, reason: atLedgerNotStart, commit: true}
	case l.Next >= 0 && !differ(l.Topic.Cluster, now.Cluster) && p.outOfRange != config.ResetLatest:
		return decideWithoutCommit(c, l, now, p) // the ledger is about the deleted topic
	}
	return decision{offset: c.offset, lineage: c.meta.lineage, reason: atCommittedStart, commit: true}
}

// decideWithoutCommit decides where there is no committed offset, or one of the
// deleted topic. The decision is committed first: a member that continues after a
// crash would else begin another lineage, and what this one's file is ahead would be
// written to it again when the partition comes back.
func decideWithoutCommit(c committedOffset, l sink.Ledger, now sink.Identity, p policy) decision {
	deleted := c.offset >= 0 || p.recreated
	current := now.Topic != "" && l.Topic.Topic == now.Topic
	switch {
	case ledgerCovers(l, now) && (current || !deleted):
		d := decision{offset: l.Next, lineage: l.Lineage, reason: atLedgerAlone, commit: true}
		if c.offset >= 0 {
			d.reason = atLedgerOfTopic
		}
		return d
	case deleted, l.Next >= 0 && !differ(l.Topic.Cluster, now.Cluster) && differ(l.Topic.Topic, now.Topic):
		d := decision{offset: -1, reason: topicRecreated}
		switch p.outOfRange {
		case config.ResetEarliest:
			d.start.offset = sarama.OffsetOldest
		case config.ResetLatest:
			d.start.offset = sarama.OffsetNewest
		default:
			d.blocked = true
		}
		d.commit = !d.blocked
		return d
	}
	return decision{offset: -1, start: p.start, reason: noCommittedStart, commit: true}
}

// external is why a commit without an agent's metadata wins. Clients other than
// kcagent commit the leader epoch of the last record that they consumed, and
// kafka-consumer-groups does not. Some administration tools do, so one that moves the
// offset back is a reset.
func (c committedOffset) external(l sink.Ledger, now sink.Identity) reason {
	switch known := ledgerCovers(l, now); {
	case c.whileMember, c.epoch.Known() && (!known || c.offset >= l.Next):
		return atOtherClient
	case known && c.offset != l.Next:
		return atExternalReset
	}
	return atExternal
}

// ofLedger reports that the agent with this ledger committed the offset. It commits what is
// durable in the ledger. So the ledger holds as much, or it is a copy or a backup.
func (c committedOffset) ofLedger(l sink.Ledger) bool {
	return c.byAgent && l.ID != "" && c.meta.ledger == l.ID
}

// startMoves reports that a later decision may lead behind records that were produced
// meanwhile.
func (d decision) startMoves() bool {
	return d.offset < 0 && !d.blocked && (d.start.offset == sarama.OffsetNewest || !d.start.at.IsZero())
}

// ofDeletedTopic reports that the offset is about a topic of that name that was
// deleted since.
func (c committedOffset) ofDeletedTopic(now sink.Identity, recreated bool) bool {
	if c.byAgent && differ(c.meta.topic.Cluster, now.Cluster) {
		return false // topic ids of other clusters say nothing
	}
	if recreated {
		return !c.byAgent || c.meta.topic.Topic != now.Topic
	}
	return c.byAgent && differ(c.meta.topic.Topic, now.Topic)
}

// ledgerCovers reports that the ledger has a position in the topic as it is now.
func ledgerCovers(l sink.Ledger, now sink.Identity) bool {
	return l.Next >= 0 && !differ(l.Topic.Cluster, now.Cluster) && !differ(l.Topic.Topic, now.Topic)
}

// ofReplacedCluster reports that the ledger is about another cluster, which had the addresses of
// this one. Only an edit of brokers moves a consumer to another cluster. It holds for
// partitions without an entry, too: the records of both would be in one file.
func ofReplacedCluster(l sink.Ledger, now sink.Identity) bool {
	return differ(l.Topic.Cluster, now.Cluster) && now.Brokers != "" && l.Topic.Brokers == now.Brokers
}

// differ reports that two ids are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }
