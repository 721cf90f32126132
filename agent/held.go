package agent

import "kcagent/sink"

// heldPartitions has the partitions that were assigned to a consumer, each with the member
// id at that time. Only the goroutine that keeps the consumer a member of its group uses
// it. The zero value has none.
type heldPartitions map[sink.TopicPartition]string

// hold records that a partition is assigned. It reports whether the consumer has been a
// member without interruption since the partition was last assigned to it. The member id
// shows that, because the coordinator gives a member that it has removed another one.
func (h *heldPartitions) hold(tp sink.TopicPartition, member string) (stayed bool) {
	if *h == nil {
		*h = make(heldPartitions)
	}
	stayed = member != "" && (*h)[tp] == member
	(*h)[tp] = member
	return stayed
}
