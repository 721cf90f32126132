package offsets

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/leader"
	"kcagent/sink"
)

// The identities and positions of the table.
var (
	here      = sink.Identity{Cluster: "here", Topic: "new"}
	hereOld   = sink.Identity{Cluster: "here", Topic: "old"}
	elsewhere = sink.Identity{Cluster: "elsewhere", Topic: "other"}

	earliest = Policy{Start: StartPoint{Offset: sarama.OffsetOldest}, OutOfRange: config.ResetEarliest}
	latest   = Policy{Start: StartPoint{Offset: sarama.OffsetNewest}, OutOfRange: config.ResetLatest}
	noEntry  = sink.Ledger{ID: "mine", Position: sink.Position{Next: -1}}
	windows  = sink.Ledger{Windows: true, Position: sink.Position{Next: -1}}
	noLedger = sink.Ledger{Position: sink.Position{Next: -1}}
	planned  = sink.Ledger{Planned: true, Position: sink.Position{Next: -1}}
	plan     = &sink.Plan{Nonce: "n1", First: 5, Next: 9, Records: 4, Settings: map[string]string{"url": "s3://b/p"}}
	nothing  = Committed{Offset: -1}

	noon   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	oldest = StartPoint{Offset: sarama.OffsetOldest}
	newest = StartPoint{Offset: sarama.OffsetNewest}
)

func external(offset int64) Committed { return Committed{Offset: offset} }

// through returns a topic of a cluster that is reached through the given brokers.
func through(brokers string, i sink.Identity) sink.Identity { i.Brokers = brokers; return i }

// foreign returns a commit by a member of another client, which has a leader epoch.
func foreign(offset int64, epoch int32) Committed {
	return Committed{Offset: offset, Epoch: leader.NewEpoch(epoch)}
}

// meanwhile returns a commit that was made while this agent was a member of the group.
func meanwhile(c Committed) Committed { c.WhileMember = true; return c }

// in returns a position whose last record has the leader epoch.
func in(epoch int32, l sink.Ledger) sink.Ledger { l.Epoch = leader.NewEpoch(epoch); return l }

func committedIn(epoch int32, c Committed) Committed {
	c.Epoch = leader.NewEpoch(epoch)
	return c
}

func ours(offset int64, ledger, lineage string, topic sink.Identity) Committed {
	return Committed{Offset: offset, ByAgent: true, Meta: Metadata{Ledger: ledger, Lineage: lineage, Topic: topic, Partitions: -1}}
}

// withPlan returns a commit with an open plan.
func withPlan(c Committed) Committed { c.Meta.Plan, c.Meta.Nonce = plan, plan.Nonce; return c }

// withBadPlan returns a commit with an open plan of another version.
func withBadPlan(c Committed) Committed { c.Meta.BadPlan = `version "2"`; return c }

// committedEarly returns a start offset that was committed while the sink was not open.
func committedEarly(offset int64, lineage string, topic sink.Identity) Committed {
	c := ours(offset, "", lineage, topic)
	c.Meta.EarlyStart = true
	return c
}

func ledgerAt(next int64, lineage string, topic sink.Identity) sink.Ledger {
	return sink.Ledger{ID: "mine", Position: sink.Position{Next: next, Lineage: lineage, Topic: topic}}
}

func seen(p Policy) Policy { p.Recreated = true; return p }

func blocking(p Policy) Policy { p.OutOfRange = config.Fail; return p }

func startAt(at time.Time) Policy {
	return Policy{Start: StartPoint{Offset: sarama.OffsetOldest, At: at}, OutOfRange: config.ResetEarliest}
}

func parsed(offset int64, text string) Committed {
	m, ok := ParseMetadata(text)
	return Committed{Offset: offset, ByAgent: ok, Meta: m}
}

// A decisionCase is one rule of docs/offsets.md.
type decisionCase struct {
	committed Committed
	ledger    sink.Ledger
	now       sink.Identity
	policy    Policy
	want      Decision
}

// decisionCases has the cases by the text of their rules.
var decisionCases = map[string]decisionCase{
	"With {time:LAYOUT} in the path, the partition resumes at the committed offset in any case, and its files drop the records that they have.": {
		ours(5, "", "a", here), windows, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"With {time:LAYOUT} in the path, an offset that no agent has committed is committed with a lineage before the first record.": {
		external(5), windows, here, latest,
		Decision{Offset: 5, Reason: AtExternal, Adopt: true, Commit: true},
	},
	"With {time:LAYOUT} in the path, the start policy applies without a commit, even if the files have records, and the start is committed before the first record.": {
		nothing, windows, here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: NoCommittedStart, Adopt: true, Commit: true},
	},
	"An external commit wins over the ledger, and begins a new lineage.": {
		external(5), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Reason: AtExternalReset, Adopt: true, Commit: true},
	},
	"An external commit wins although the ledger is at the same offset.": {
		external(9), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 9, Reason: AtExternal, Adopt: true, Commit: true},
	},
	"An external commit wins where the ledger has no entry.": {
		external(5), noEntry, here, latest,
		Decision{Offset: 5, Reason: AtExternal, Adopt: true, Commit: true},
	},
	"An external commit wins where the ledger is about another cluster.": {
		external(5), ledgerAt(9, "a", elsewhere), here, earliest,
		Decision{Offset: 5, Reason: AtExternal, Adopt: true, Commit: true},
	},
	"An external commit wins where the sink keeps no ledger.": {
		external(5), noLedger, here, latest,
		Decision{Offset: 5, Reason: AtExternal, Commit: true},
	},
	"Text of another version of the metadata is an external commit.": {
		parsed(5, "kcagent/2 ledger=mine lineage=a"), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Reason: AtExternalReset, Adopt: true, Commit: true},
	},

	"An external commit with a leader epoch that is ahead of the ledger, or at the same offset, is the ordinary progress of a member of another client. It wins, and does not count as a reset.": {
		foreign(12, 3), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 12, Reason: AtOtherClient, Adopt: true, Commit: true},
	},
	"An external commit with a leader epoch is also ordinary progress where the ledger has no entry, or the sink keeps none.": {
		foreign(12, 3), noEntry, here, latest,
		Decision{Offset: 12, Reason: AtOtherClient, Adopt: true, Commit: true},
	},
	"An external commit with a leader epoch that is behind the ledger is a reset.": {
		foreign(5, 3), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Reason: AtExternalReset, Adopt: true, Commit: true},
	},
	"An external commit is ordinary progress, whatever its offset and epoch, if this agent has been a member of the group since the partition was last assigned to it: operators can reset offsets only while the group is empty.": {
		meanwhile(external(5)), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Reason: AtOtherClient, Adopt: true, Commit: true},
	},

	"The leader epoch of the position is that of the committed offset where the offset wins.": {
		committedIn(4, ours(12, "theirs", "a", here)), in(3, ledgerAt(9, "a", here)), here, earliest,
		Decision{Offset: 12, Epoch: leader.NewEpoch(4), Lineage: "a", Reason: AtOtherMembers, Adopt: true},
	},
	"The leader epoch of the position is that of the ledger where the ledger wins.": {
		committedIn(3, ours(7, "mine", "a", here)), in(4, ledgerAt(9, "a", here)), here, earliest,
		Decision{Offset: 9, Epoch: leader.NewEpoch(4), Lineage: "a", Reason: AtLedger},
	},
	"The leader epoch of an external commit is not used, because some clients commit one of an earlier offset.": {
		foreign(9, 3), in(4, ledgerAt(9, "a", here)), here, earliest,
		Decision{Offset: 9, Reason: AtOtherClient, Adopt: true, Commit: true},
	},
	"If both are at the same offset and only one of them has a leader epoch, that one is used.": {
		ours(9, "mine", "a", here), in(4, ledgerAt(9, "a", here)), here, earliest,
		Decision{Offset: 9, Epoch: leader.NewEpoch(4), Lineage: "a", Reason: AtCommitted},
	},
	"A checkpoint or a commit without a leader epoch leaves it unknown.": {
		ours(9, "mine", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 9, Lineage: "a", Reason: AtCommitted},
	},
	"Leader epochs of another cluster, or of a deleted topic, are ignored.": {
		committedIn(4, ours(5, "mine", "a", elsewhere)), in(4, ledgerAt(5, "a", elsewhere)), here, latest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},

	"The leader epoch of a commit about the deleted topic is ignored where the ledger is at the same offset of the new topic.": {
		committedIn(4, ours(5, "mine", "a", hereOld)), ledgerAt(5, "b", here), here, latest,
		Decision{Offset: 5, Lineage: "b", Reason: AtLedgerOfTopic, Commit: true},
	},

	"A commit of an agent in another cluster wins, and begins a new lineage.": {
		ours(5, "mine", "a", elsewhere), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},
	"A commit of an agent in another cluster wins over a ledger that was written there.": {
		ours(5, "mine", "a", elsewhere), ledgerAt(5, "a", elsewhere), here, latest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},

	"A commit about the deleted topic is ignored, and on_offset_out_of_range applies.": {
		ours(5, "mine", "a", hereOld), ledgerAt(5, "a", hereOld), here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"A commit about the deleted topic is ignored where the sink keeps no ledger, too.": {
		ours(5, "", "a", hereOld), noLedger, here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Commit: true},
	},
	"A commit about the deleted topic is ignored where the ledger is about the new topic: the partition resumes where the file ends.": {
		ours(5, "mine", "a", hereOld), ledgerAt(2, "b", here), here, latest,
		Decision{Offset: 2, Lineage: "b", Reason: AtLedgerOfTopic, Commit: true},
	},
	"A commit about the new topic wins over a ledger about the deleted one: another member continued there.": {
		ours(2, "theirs", "b", here), ledgerAt(5, "a", hereOld), here, latest,
		Decision{Offset: 2, Lineage: "b", Reason: AtOtherMembers, Adopt: true},
	},
	"Without a commit, on_offset_out_of_range applies if the ledger is about the deleted topic.": {
		nothing, ledgerAt(5, "a", hereOld), here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"With on_offset_out_of_range latest, the new topic is read from its end, which is committed first.": {
		nothing, ledgerAt(5, "a", hereOld), here, latest,
		Decision{Offset: -1, Start: newest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"With on_offset_out_of_range fail, a recreated topic blocks its partitions.": {
		ours(5, "mine", "a", hereOld), ledgerAt(5, "a", hereOld), here, blocking(earliest),
		Decision{Offset: -1, Reason: TopicRecreated, Blocked: true},
	},
	"If this agent has detected the recreation, an offset without a topic id is ignored.": {
		external(5), noLedger, here, seen(earliest),
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Commit: true},
	},
	"If this agent has detected the recreation, an offset in the new topic is not ignored.": {
		ours(2, "theirs", "b", here), noLedger, here, seen(earliest),
		Decision{Offset: 2, Lineage: "b", Reason: AtCommitted},
	},
	"A recreated topic is not detected if the brokers do not report topic ids.": {
		ours(5, "mine", "a", hereOld), ledgerAt(5, "a", hereOld),
		sink.Identity{Cluster: "here"},
		earliest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},

	"Of two positions of one lineage the higher one wins: the ledger is ahead after a crash between a flush and its commit.": {
		ours(5, "mine", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 9, Lineage: "a", Reason: AtLedger},
	},
	"The ledger wins also if another member has committed a lower offset since.": {
		ours(7, "theirs", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 9, Lineage: "a", Reason: AtLedger},
	},
	"A commit of another ledger that is ahead is an ordinary hand-over.": {
		ours(12, "theirs", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 12, Lineage: "a", Reason: AtOtherMembers, Adopt: true},
	},
	"A commit of a member whose sink keeps no ledger is an ordinary hand-over, too.": {
		ours(12, "", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 12, Lineage: "a", Reason: AtOtherMembers, Adopt: true},
	},
	"A commit of the ledger's own id that is ahead of it shows that the checkpoint is a copy or a restored backup: the committed offset wins, the ledger gets a new id, and the missing records are reported.": {
		ours(12, "mine", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 12, Lineage: "a", Reason: AtCommitOfCopy, Adopt: true, Copied: true},
	},
	"A commit of the ledger's own id shows a copy or a restored backup also if the ledger has no entry: how many records are missing is unknown.": {
		ours(12, "mine", "a", here), noEntry, here, earliest,
		Decision{Offset: 12, Lineage: "a", Reason: AtCommitOfCopy, Adopt: true, Copied: true},
	},
	"A commit of the ledger's own id with another lineage wins. The checkpoint is reported, because its file may lack records, and the ledger gets a new id.": {
		ours(12, "mine", "b", here), ledgerAt(19, "a", here), here, earliest,
		Decision{Offset: 12, Lineage: "b", Reason: AtMismatch, Adopt: true, Copied: true},
	},
	"A commit of the ledger's own id about the new topic is reported in the same way if the ledger is about the deleted one.": {
		ours(12, "mine", "b", here), ledgerAt(19, "a", hereOld), here, earliest,
		Decision{Offset: 12, Lineage: "b", Reason: AtMismatch, Adopt: true, Copied: true},
	},
	"A commit of the ledger's own id is an ordinary one if the ledger is about another cluster: the consumer was moved there and back.": {
		ours(12, "mine", "a", here), ledgerAt(19, "b", elsewhere), here, earliest,
		Decision{Offset: 12, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"A commit and a ledger at the same offset change nothing.": {
		ours(9, "mine", "a", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 9, Lineage: "a", Reason: AtCommitted},
	},
	"A ledger without a topic id gets that of the current topic.": {
		ours(9, "mine", "a", sink.Identity{}), ledgerAt(9, "a", sink.Identity{}), here, earliest,
		Decision{Offset: 9, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},

	"Of two lineages the committed one wins, even if the ledger is ahead: another member has applied a reset meanwhile.": {
		ours(5, "theirs", "b", here), ledgerAt(9, "a", here), here, earliest,
		Decision{Offset: 5, Lineage: "b", Reason: AtOthersReset, Adopt: true},
	},

	"A commit of an agent wins where the ledger has no entry, and keeps its lineage.": {
		ours(5, "theirs", "a", here), noEntry, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"A commit of an agent wins where the ledger is about another cluster.": {
		ours(5, "theirs", "a", here), ledgerAt(9, "a", elsewhere), here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},

	"A ledger about another cluster at the same brokers stops the partition: only an edit of brokers moves a consumer to another cluster.": {
		nothing, ledgerAt(9, "a", through("b1", elsewhere)), through("b1", here), earliest,
		Decision{Offset: -1, Reason: ClusterReplaced, Blocked: true},
	},
	"Partitions without an entry are stopped, too, if others of the file are about another cluster at the same brokers.": {
		ours(5, "other", "a", here),
		sink.Ledger{ID: "mine", Position: sink.Position{Next: -1, Topic: sink.Identity{Cluster: "elsewhere", Brokers: "b1"}}},
		through("b1", here), earliest,
		Decision{Offset: -1, Reason: ClusterReplaced, Blocked: true},
	},
	"Partitions without an entry are not stopped if others of the file are about another cluster at other brokers.": {
		ours(5, "mine", "a", here),
		sink.Ledger{ID: "mine", Position: sink.Position{Next: -1, Topic: sink.Identity{Cluster: "elsewhere", Brokers: "b1"}}},
		through("b2", here), earliest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitOfCopy, Adopt: true, Copied: true},
	},
	"A partition is stopped also if the group has committed an offset in the cluster that is at these brokers now.": {
		external(5), ledgerAt(9, "a", through("b1", elsewhere)), through("b1", here), latest,
		Decision{Offset: -1, Reason: ClusterReplaced, Blocked: true},
	},
	"A ledger about another cluster at other brokers is ignored: the consumer was moved.": {
		ours(5, "theirs", "a", here), ledgerAt(9, "a", through("b1", elsewhere)), through("b2", here), latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"Other brokers of the same cluster change nothing; the ledger gets their addresses.": {
		ours(9, "mine", "a", here), ledgerAt(9, "a", through("b1", here)), through("b2", here), latest,
		Decision{Offset: 9, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},

	"Without a commit the partition resumes where the file ends: deleting committed offsets does not count as a reset.": {
		nothing, ledgerAt(9, "a", here), here, latest,
		Decision{Offset: 9, Lineage: "a", Reason: AtLedgerAlone, Commit: true},
	},
	"Without a commit and without an entry in the ledger the start policy applies.": {
		nothing, noEntry, here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: NoCommittedStart, Adopt: true, Commit: true},
	},
	"Without a commit and with a ledger about another cluster the start policy applies.": {
		nothing, ledgerAt(9, "a", elsewhere), here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: NoCommittedStart, Adopt: true, Commit: true},
	},
	"A partition without an entry in the ledger resumes at an early start offset, which is committed again as an ordinary one.": {
		committedEarly(12, "b", here), noEntry, here, latest,
		Decision{Offset: 12, Lineage: "b", Reason: AtEarlyStart, Adopt: true, Commit: true},
	},
	"An early start offset is committed again where the sink keeps no ledger, too.": {
		committedEarly(12, "b", here), noLedger, here, latest,
		Decision{Offset: 12, Lineage: "b", Reason: AtEarlyStart, Commit: true},
	},
	"A ledger wins over an early start offset: the partition resumes where the file ends.": {
		committedEarly(12, "b", here), ledgerAt(9, "a", here), here, latest,
		Decision{Offset: 9, Lineage: "a", Reason: AtLedgerNotEarlyStart, Commit: true},
	},
	"With an early start offset, too, on_offset_out_of_range applies if the ledger is about the deleted topic.": {
		committedEarly(12, "b", here), ledgerAt(19, "a", hereOld), here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"With on_offset_out_of_range latest, an early start offset is kept where the ledger is about the deleted topic.": {
		committedEarly(12, "b", here), ledgerAt(19, "a", hereOld), here, latest,
		Decision{Offset: 12, Lineage: "b", Reason: AtEarlyStart, Adopt: true, Commit: true},
	},
	"An early start offset wins over a ledger about another cluster.": {
		committedEarly(12, "b", here), ledgerAt(19, "a", elsewhere), here, latest,
		Decision{Offset: 12, Lineage: "b", Reason: AtEarlyStart, Adopt: true, Commit: true},
	},
	"An early start offset that was copied from another cluster is like any other commit from there.": {
		committedEarly(5, "b", elsewhere), ledgerAt(9, "a", here), here, latest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},
	"An early start offset about the deleted topic is ignored.": {
		committedEarly(5, "b", hereOld), noEntry, here, latest,
		Decision{Offset: -1, Start: newest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"An open plan of the committed offset is completed first, also one that another agent has committed.": {
		withPlan(ours(5, "", "a", here)), planned, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtPlan, Plan: plan},
	},
	"An open plan is completed also if the group has committed a leader epoch.": {
		withPlan(committedIn(3, ours(5, "", "a", here))), planned, here, latest,
		Decision{Offset: 5, Epoch: leader.NewEpoch(3), Lineage: "a", Reason: AtPlan, Plan: plan},
	},
	"An open plan of another cluster is ignored, and the offset is committed without it before the first record.": {
		withPlan(ours(5, "", "a", elsewhere)), planned, here, latest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},
	"An open plan of a deleted topic is ignored, and on_offset_out_of_range applies.": {
		withPlan(ours(5, "", "a", hereOld)), planned, here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: TopicRecreated, Adopt: true, Commit: true},
	},
	"An open plan that does not begin at the committed offset is ignored: a tool has moved the offset and kept the metadata. The offset is committed without the plan before the first record.": {
		withPlan(ours(7, "", "a", here)), planned, here, latest,
		Decision{Offset: 7, Reason: AtMovedPlan, Adopt: true, Commit: true},
	},
	"An open plan of another version blocks the partition.": {
		withBadPlan(ours(5, "", "a", here)), planned, here, latest,
		Decision{Offset: -1, Reason: PlanUnreadable, Blocked: true},
	},
	"An open plan of another version blocks the partition with any sink.": {
		withBadPlan(ours(5, "", "a", here)), ledgerAt(9, "a", here), here, latest,
		Decision{Offset: -1, Reason: PlanUnreadable, Blocked: true},
	},
	"An open plan of another version is ignored if it is of another cluster.": {
		withBadPlan(ours(5, "", "a", elsewhere)), planned, here, latest,
		Decision{Offset: 5, Reason: AtMirrored, Adopt: true, Commit: true},
	},
	"A sink that does not publish by plan stops at an open plan of the committed offset.": {
		withPlan(ours(5, "", "a", here)), noLedger, here, latest,
		Decision{Offset: -1, Reason: PlanWithoutObjects, Plan: plan, Blocked: true},
	},
	"A sink with a ledger stops at an open plan, too, wherever its file ends.": {
		withPlan(ours(5, "", "a", here)), ledgerAt(9, "a", here), here, latest,
		Decision{Offset: -1, Reason: PlanWithoutObjects, Plan: plan, Blocked: true},
	},
	"A sink that does not publish by plan ignores an open plan that does not begin at the committed offset.": {
		withPlan(ours(7, "", "a", here)), noLedger, here, latest,
		Decision{Offset: 7, Lineage: "a", Reason: AtCommitted},
	},
	"Without an open plan, a sink that publishes by plan resumes at the committed offset.": {
		ours(5, "", "a", here), planned, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"A commit with another ledger's id is like any other for a sink that publishes by plan.": {
		ours(5, "theirs", "a", here), planned, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true},
	},
	"If the metadata does not name the topic and the cluster, a sink that publishes by plan commits the offset before the first record.": {
		ours(5, "", "a", sink.Identity{}), planned, here, latest,
		Decision{Offset: 5, Lineage: "a", Reason: AtCommitted, Adopt: true, Commit: true},
	},
	"A sink that publishes by plan commits an external offset before the first record.": {
		external(5), planned, here, latest,
		Decision{Offset: 5, Reason: AtExternal, Adopt: true, Commit: true},
	},
	"Without a commit, the start policy applies to a sink that publishes by plan, and the start is committed before the first record.": {
		nothing, planned, here, earliest,
		Decision{Offset: -1, Start: oldest, Reason: NoCommittedStart, Adopt: true, Commit: true},
	},

	"A start at the end is committed before the first record.": {
		nothing, noLedger, here, latest,
		Decision{Offset: -1, Start: newest, Reason: NoCommittedStart, Commit: true},
	},
	"A start at a time is committed before the first record.": {
		nothing, noLedger, here, startAt(noon),
		Decision{Offset: -1, Start: StartPoint{sarama.OffsetOldest, noon}, Reason: NoCommittedStart, Commit: true},
	},
}

func TestDecideFollowsTheDocumentedRules(t *testing.T) {
	for sentence, c := range decisionCases {
		if got := Decide(c.committed, c.ledger, c.now, c.policy); got != c.want { // the same plan, not an equal one
			t.Errorf("%s\n got %+v\nwant %+v", sentence, got, c.want)
		}
	}
	page, err := os.ReadFile("../../docs/offsets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(page), "\n## Rules\n")
	rules, _, _ = strings.Cut(rules, "\n## ")
	var sentences []string
	for line := range strings.Lines(rules) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "- "); ok {
			sentences = append(sentences, s)
			if _, ok := decisionCases[s]; !ok {
				t.Errorf("no case for the documented rule: %s", s)
			}
		}
	}
	for s := range decisionCases {
		if !slices.Contains(sentences, s) {
			t.Errorf("the rule is not documented: %s", s)
		}
	}
}

// TestDecisionsSurviveACrash: a crash between the steps of a decision, after its flush
// or after its commit, leads to the same offset.
func TestDecisionsSurviveACrash(t *testing.T) {
	for sentence, c := range decisionCases {
		d := c.want
		if d.Blocked {
			continue
		}
		if d.Offset < 0 {
			d.Offset = 3 // the leader has resolved it
		}
		if d.Lineage == "" {
			d.Lineage = "fresh"
		}
		ledger, id := c.ledger, c.ledger.ID
		if d.Copied {
			id = "renamed"
		}
		if d.Adopt && !ledger.Planned {
			ledger = sink.Ledger{ID: id, Position: sink.Position{Next: d.Offset, Lineage: d.Lineage, Topic: c.now}}
		}
		committed := Committed{Offset: d.Offset, ByAgent: true, Meta: Metadata{Ledger: id, Lineage: d.Lineage, Topic: c.now, Partitions: -1}}
		if d.Plan != nil { // it is not committed again
			committed = c.committed
		}
		after := map[string]Decision{"the commit": Decide(committed, ledger, c.now, c.policy)}
		if ledger.ID != "" {
			after["the flush"] = Decide(c.committed, ledger, c.now, c.policy)
		} else if d.Commit {
			committed.Meta.Ledger = ""
		}
		for step, again := range after {
			if again.Offset != d.Offset || again.Copied || again.Plan != d.Plan || again.Commit && ledger.Planned {
				t.Errorf("%s\nafter %s: %+v", sentence, step, again)
			}
		}
	}
}

func TestCommitMetadataIsParsedAsWritten(t *testing.T) {
	full := Metadata{Ledger: "L1", Lineage: "A1", Topic: sink.Identity{Cluster: "a b", Topic: "T-_1"}, Partitions: 6, Awaits: "x.y,z", EarlyStart: true}
	open := Metadata{Lineage: "A1", Partitions: -1, Nonce: "N1", Plan: &sink.Plan{
		Nonce: "N1", First: 5, Next: 9, Epoch: leader.NewEpoch(0), Records: 3, Settings: map[string]string{"key": "{topic}/a b", "url": "s3://b/p"},
	}}
	for text, want := range map[string]Metadata{
		"kcagent/1": {Partitions: -1},
		"kcagent/1 ledger=L1 lineage=A1 cluster=a%20b topic=T-_1 partitions=6 awaits=x.y,z pinned=1": full,
		"kcagent/1 lineage=A1":          {Lineage: "A1", Partitions: -1},
		"kcagent/1 lineage=A1 nonce=N1": {Lineage: "A1", Partitions: -1, Nonce: "N1"},
		"kcagent/1 lineage=A1 nonce=N1 plan=1 plan.first=5 plan.next=9 plan.epoch=0 plan.records=3 plan.key=%7Btopic%7D%2Fa%20b plan.url=s3:%2F%2Fb%2Fp": open,
	} {
		if m, ok := ParseMetadata(text); !ok || !reflect.DeepEqual(m, want) {
			t.Errorf("%q is %+v, %v, want %+v", text, m, ok, want)
		}
		if got := want.String(); got != text {
			t.Errorf("%+v is written as %q, want %q", want, got, text)
		}
	}
	for text, want := range map[string]Metadata{ // read, and never written
		"kcagent/1 later=1 ledger=L1 x":                                    {Ledger: "L1", Partitions: -1},
		"kcagent/1 partitions=-2":                                          {Partitions: -1},
		"kcagent/1 pinned=0":                                               {Partitions: -1},
		"kcagent/1 partitions=99999999999":                                 {Partitions: -1},
		"kcagent/1 cluster=%zz ledger=L1 ledger=":                          {Partitions: -1},
		"kcagent/1 plan.next=9":                                            {Partitions: -1}, // no plan
		"kcagent/1 nonce=N plan=2 plan.first=x":                            {Partitions: -1, Nonce: "N", BadPlan: `version "2"`},
		"kcagent/1 nonce=N plan=1 plan.first=5":                            {Partitions: -1, Nonce: "N", BadPlan: "a key is missing"},
		"kcagent/1 nonce=N plan=1 plan.first=5 plan.next=5 plan.records=0": {Partitions: -1, Nonce: "N", BadPlan: "a key is missing"},
		"kcagent/1 nonce=N plan=1 plan.first=x plan.next=9 plan.records=0": {Partitions: -1, Nonce: "N", BadPlan: `plan.first="x"`},
		"kcagent/1 plan=1 plan.first=5 plan.next=9 plan.records=0":         {Partitions: -1, BadPlan: "a key is missing"}, // no nonce
	} {
		if m, ok := ParseMetadata(text); !ok || !reflect.DeepEqual(m, want) {
			t.Errorf("%q is %+v, %v, want %+v", text, m, ok, want)
		}
	}
	for _, text := range []string{"", " ", "by hand", "kcagent/2 ledger=L1", "kcagent", "xkcagent/1"} {
		if _, ok := ParseMetadata(text); ok {
			t.Errorf("%q is accepted", text)
		}
	}
	var many []string
	for range 50 {
		many = append(many, strings.Repeat("t", 200-len(many))+".long")
	}
	m := Metadata{Awaits: JoinAwaited(many), Partitions: -1}
	if n := len(m.String()); n > maxAwaits+100 || len(m.awaited()) < 8 {
		t.Errorf("%d bytes for %d names", n, len(m.awaited()))
	}
	m.Nonce, m.Plan = "N1", &sink.Plan{Nonce: "N1", Next: 9, Settings: map[string]string{"key": strings.Repeat("k", 2900)}}
	read, ok := ParseMetadata(m.String())
	if n := len(m.String()); !ok || n > maxMetadata || !reflect.DeepEqual(read.Plan, m.Plan) {
		t.Errorf("%d bytes of metadata with a large plan: %+v", n, read)
	}
	if names := read.awaited(); len(names) < 3 || !slices.Equal(names, m.awaited()[:len(names)]) {
		t.Errorf("with a large plan, the metadata names %q", names)
	}
}
