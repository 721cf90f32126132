// Package generation runs one generation of a group's member: from the assignment of
// partitions to their release. Start with [Generation]; [Env] is what it uses of its
// consumer. The work of a partition takes it through its phases (partition.go, resume.go) to
// the hot path (flow.go). The flusher (flush.go, commit.go) makes records durable and then
// commits their offsets. The watchdog restarts a consumer whose partitions make no progress
// (watchdog.go). Each of them is a [task.Task], which has no goroutine while there is nothing
// to read, to flush or to check.
//
// # Rules
//
//   - No offset is committed before a flush that began after its records were accepted. The
//     snapshot of positions is taken before the flush.
//   - A flush covers only records that were accepted in the same round of the partition. If
//     a partition's sink is reopened during a flush, the flush returns nil although the
//     records that it was to cover were dropped.
//   - With a sink that publishes by plan, the flusher commits what Sink.Plan returns, and calls
//     Sink.Publish only after the coordinator has accepted exactly that. After a commit without a
//     response, it does neither until it has read the committed offsets. A plan that is committed is
//     never committed again or replaced, so each commit has a nonce of its own.
//   - A round that completes a plan reads by the settings of the plan, ends by position, and is
//     followed by a round by the present settings.
//   - While the gate is shut, no goroutine writes to the sink. A chunk that finds the gate
//     shut is dropped, and its partition is rewound.
//   - The chunks in progress are of different partitions. There are at most as many as the
//     process may use cores when the generation starts, and two are always allowed: one
//     partition encodes while another one writes. A partition whose write fails holds none.
//   - Each chunk holds one buffer of up to 160 KiB and, in a compressed file, as much again for
//     its frame. With a memory limit, the buffers of all consumers use an eighth of it together,
//     or 8 KiB each if that is more. Chunks are then shorter and fewer. No consumer waits for
//     the buffer of another one, because an unresponsive sink may hold it.
//   - The watchdog waits for nothing except its consumer's state machine, which receives its
//     reports. When the flusher reported stalls, a commit to an unresponsive coordinator
//     delayed the report by half a minute. The watchdog also closes a connection whose
//     coordinator has not responded for 10 s.
//   - A stall that a restart did not end is remembered for all partitions that were stalled.
//     Otherwise two of them caused restarts in turn.
//   - The generation ends if the pin of the cluster moves: its committed offsets were those
//     of another cluster.
package generation
