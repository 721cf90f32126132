// Package group runs sarama's consumer group with a client of our own. [Client] gives the
// group one connection, to its coordinator; its metadata is the fetcher's, so that a
// thousand groups need one metadata request. [Config] returns sarama's settings for a
// member, [Offsets] fetches committed offsets, and [JoinWatch] limits how long a join may
// wait.
//
// # Rules
//
//   - sarama does not fetch, because it does not know the assigned partitions: the assignor
//     takes them away, and [Client.Session] returns them. sarama would start seven goroutines
//     for each partition, and a claim that returns would end the generation for all partitions.
//   - All requests to the coordinator must be frames, so sarama must use SaslHandshake v1.
//   - The read deadline does not apply to joins, because a join waits as long as the slowest
//     member's rebalance timeout. Another connection describes the group instead, and closes
//     the join's connection if the coordinator does not respond or does not know of the
//     rebalance. With a deadline, each retry of a join was a new member, for which the group
//     waited, too.
//   - sarama's Close of a connection waits for the operation in progress. Goroutines of
//     their own call it, and only the end of the client waits for them.
//   - After new credentials were applied, the coordinator's connection is retired instead of
//     closed: sarama's Close is abrupt, and a heartbeat or join that fails in flight costs
//     the membership.
//   - The cached coordinator is discarded before its connection is closed, because sarama
//     looks it up again at once and would connect to the unresponsive one again.
package group
