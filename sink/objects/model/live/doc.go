// Package live runs the events of the model of the plan protocol against the program itself: real
// consumers with the objects sink, embedded Kafka brokers, and stores in memory with faults. It
// consists of tests.
//
// A process is a consumer that can crash: from then on none of its requests has an effect. Each call
// of the store and each commit has a fate: it fails before its effect, or after it, it arrives late, or
// the process crashes there. TestEveryCrashIsRepaired tries each call in turn, with each fate, and with
// each other event between the crash and the successor. TestEventsDuringEachCall lets the event happen
// while a call waits. TestRandomFaultsRepeatAndLoseNothing draws the fates of three processes, and the
// events.
//
// # The events of the model
//
//	produce          scene.produce, with two windows, and with records that decode.value rejects
//	endTransaction   scene.beginTransaction and endTransaction, committed or aborted
//	retention        scene.retention, by DeleteRecords
//	compaction       scene.compaction: a later record has the same key, and the broker compacts
//	edit             scene.edit: url, key, time zone, format, compression and decoding
//	recreate         scene.recreate; a coordinator that keeps the offsets has them committed again
//	mirror           scene.mirror: another broker with another cluster id, and copied metadata
//	reset            scene.reset, with and without the metadata
//	expire           scene.expire, by DeleteGroups
//	otherGroup       scene.otherGroup
//	crash, start     process.dies and scene.launch
//	rejoin           scene.rejoin: two processes with one instance id
//	rebalance        each start and end of a process
//	assign, step     the consumer itself
//	arrive, drop     fates late, hangs and fails, and scene.arrive
//	timeOut          fates fails, loses and late
//	earlyFetch       no event: the consumer always reads the committed offsets after the join
//
// The invariants are the same as in the model; see scene.check. It knows the commits that the coordinator has
// accepted, and in which order. So it also requires that each plan is followed by its own completion.
//
// # What is not driven here
//
// The embedded broker does not truncate its log: TestTruncatedPlanIsAnError in package agent. It has no
// leader elections that lose records, and its offsets do not expire by themselves. A process that stops
// to respond, and continues later, is tested by its requests that arrive late. A member that continues
// with the token of a former generation (rule 5) cannot be had from outside: the consumer ends its work
// before it joins again, see TestRejectedPlanIsNotPublished in package agent. As in the model, uploads
// that may be late are not combined with retention on stores without conditional writes, nor a reset or
// an expiry with an open plan.
package live
