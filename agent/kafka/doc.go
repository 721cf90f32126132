// Package kafka connects consumers to Kafka clusters. It has the settings of sarama, the
// connections to coordinators, and what all consumers of a cluster share; package login has
// the credentials. Start with [Clusters] and [Cluster]. [Dialer] opens the connections of
// one consumer, and [Explain] adds the meaning and the next step to an error.
//
// Consumers share a cluster, and so a fetcher, if their cluster settings are equal apart
// from fetch and rack, which change in place. A pin belongs to a list of brokers, whatever
// its order, and lasts as long as a consumer names that list.
//
// # Rules
//
//   - All connections to a cluster use the credentials that were read first, until new ones
//     have passed a pre-check: a connection that breaks while a credentials file is invalid
//     reconnects with the old ones.
//   - A login that is rejected just after new credentials were applied may have used the
//     old ones. If the rejection counted for the new ones, the login backoff would delay
//     the coordinator's connection until the membership is lost.
//   - A failed heartbeat is retried for ten seconds, and each retry looks up the
//     coordinator again. With fewer retries the restart of a broker costs generations.
//   - sarama fetches the committed offsets of a generation one after the other before it
//     calls Setup. The connection to the coordinator answers these requests itself: with
//     1,000 partitions on a far cluster they took longer than a rebalance may.
package kafka
