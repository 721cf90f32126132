package offsets

import (
	"kcagent/sink"
)

// Held has the partitions that were assigned to a consumer, each with the member
// id at that time. Only the goroutine that keeps the consumer a member of its group uses
// it. The zero value has none.
type Held map[sink.TopicPartition]string

// Hold records that a partition is assigned. It reports whether the consumer has been a
// member without interruption since the partition was last assigned to it. The member id
// shows that, because the coordinator gives a member that it has removed another one.
func (h *Held) Hold(tp sink.TopicPartition, member string) (stayed bool) {
	if *h == nil {
		*h = make(Held)
	}
	stayed = member != "" && (*h)[tp] == member
	(*h)[tp] = member
	return stayed
}
