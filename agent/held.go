package agent

import "kcagent/sink"

// heldPartitions are the partitions that were assigned to a member, each with the member
// id that it had then. sarama's goroutine alone uses it.
type heldPartitions map[sink.TopicPartition]string

// hold records that a partition is assigned. It reports whether the consumer has been a
// member without interruption since the partition was last assigned to it: the coordinator
// gives a member that it has removed another id.
func (h *heldPartitions) hold(tp sink.TopicPartition, member string) (stayed bool) {
	if *h == nil {
		*h = make(heldPartitions)
	}
	stayed = member != "" && (*h)[tp] == member
	(*h)[tp] = member
	return stayed
}
