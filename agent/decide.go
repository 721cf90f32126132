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

// A startPoint is where a partition without a position starts. Its leader resolves it to an
// offset.
type startPoint struct {
	offset int64     // sarama.OffsetOldest or sarama.OffsetNewest
	at     time.Time // if not zero: the first record that is not older
}

// A policy is what the configuration says about a partition without a usable position.
type policy struct {
	start      startPoint
	outOfRange config.OutOfRange
	// recreated: this agent saw that the topic was deleted and created again. So a position
	// that does not name the current topic is about the deleted one.
	recreated bool
}

// A decision is where a partition resumes, and why.
type decision struct {
	offset  int64        // -1: see start
	epoch   leader.Epoch // of the last record before offset
	start   startPoint   // if offset is -1
	lineage string       // "": the caller chooses a new one
	reason  reason
	adopt   bool // the ledger must get the position before the first record
	commit  bool // the offset must be committed before the first record
	copied  bool // the ledger is a copy, and must get a new id
	// blocked: the partition does not resume. Its topic was recreated, and
	// on_offset_out_of_range is fail, or its cluster was replaced.
	blocked bool
}

// A reason is why a partition resumes where it does: the log message and its level.
type reason struct {
	message string
	level   slog.Level
}

// The reasons for a decision.
var (
	atCommitted      = reason{"resuming at the committed offset", slog.LevelDebug}
	atLedger         = reason{"the file is ahead of the committed offset; resuming where the file ends", slog.LevelInfo}
	atOtherMembers   = reason{"another member continued with the partition; resuming at its committed offset", slog.LevelInfo}
	atOthersReset    = reason{"another member applied an offset reset; resuming at its committed offset", slog.LevelInfo}
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

// decide decides where a partition resumes. now is its current topic.
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
	want := sink.Position{Next: d.offset, Lineage: d.lineage, Topic: now, Epoch: l.Epoch} // a different epoch alone does not justify a flush
	d.adopt = l.ID != "" && !d.blocked && (d.copied || d.offset < 0 || d.lineage == "" || l.Position != want)
	return d
}

// epochOf returns the leader epoch of the last record before the offset of d. The epoch of
// an offset in another cluster, or in the deleted topic, has no meaning here. Epochs of
// other clients are not used. With offsets of later epochs, sarama commits 0, or the epoch
// that it found when it joined, and the leader would report a truncation.
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

// decideInLineage decides between two positions of one lineage: the higher one is right.
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

// decideStartOnly decides for an offset that was committed while the sink could not be
// opened: there was no usable commit then, and the ledger was unknown. The decision is
// committed as an ordinary one before the first record, because other members prefer their
// ledgers to such an offset.
func decideStartOnly(c committedOffset, l sink.Ledger, now sink.Identity, p policy) decision {
	switch {
	case ledgerCovers(l, now):
		return decision{offset: l.Next, lineage: l.Lineage, reason: atLedgerNotStart, commit: true}
	case l.Next >= 0 && !differ(l.Topic.Cluster, now.Cluster) && p.outOfRange != config.ResetLatest:
		return decideWithoutCommit(c, l, now, p) // the ledger is about the deleted topic
	}
	return decision{offset: c.offset, lineage: c.meta.lineage, reason: atCommittedStart, commit: true}
}

// decideWithoutCommit decides if there is no committed offset, or one in a deleted topic. The
// decision is committed first. Otherwise a member that continues after a crash would start
// another lineage, and once the partition returned, its records would be written to this
// member's file again.
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

// external returns the reason for resuming at a commit without the metadata of an agent.
// Other clients commit the leader epoch of the last record that they consumed, and
// kafka-consumer-groups does not. Some administration tools commit an epoch, too, so a
// commit that moves the offset back is a reset in any case.
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

// startMoves reports that the same decision would lead to a higher offset later, and so skip
// records that are produced meanwhile.
func (d decision) startMoves() bool {
	return d.offset < 0 && !d.blocked && (d.start.offset == sarama.OffsetNewest || !d.start.at.IsZero())
}

// ofDeletedTopic reports that the offset is in a topic of the same name that was deleted
// since.
func (c committedOffset) ofDeletedTopic(now sink.Identity, recreated bool) bool {
	if c.byAgent && differ(c.meta.topic.Cluster, now.Cluster) {
		return false // topic ids of different clusters cannot be compared
	}
	if recreated {
		return !c.byAgent || c.meta.topic.Topic != now.Topic
	}
	return c.byAgent && differ(c.meta.topic.Topic, now.Topic)
}

// ledgerCovers reports that the ledger has a position in the current topic.
func ledgerCovers(l sink.Ledger, now sink.Identity) bool {
	return l.Next >= 0 && !differ(l.Topic.Cluster, now.Cluster) && !differ(l.Topic.Topic, now.Topic)
}

// ofReplacedCluster reports that the ledger is about another cluster that had the addresses
// of this one. Without an edit of brokers a consumer must not continue in another cluster.
// That applies to partitions without an entry in the ledger, too, because the file would
// contain the records of both clusters.
func ofReplacedCluster(l sink.Ledger, now sink.Identity) bool {
	return differ(l.Topic.Cluster, now.Cluster) && now.Brokers != "" && l.Topic.Brokers == now.Brokers
}

// differ reports that two ids are known and different.
func differ(a, b string) bool { return a != "" && b != "" && a != b }
