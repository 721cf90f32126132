package agent

import "kcagent/fetch"

// truncated logs and counts that the log of a partition was truncated, and that
// on_offset_out_of_range moved its position.
func (s *session) truncated(e fetch.TruncatedError) {
	s.stats.offsetResets.Add(1)
	s.stats.truncations.Add(1)
	diverging := any("unknown")
	if e.Diverging >= 0 {
		diverging = e.Diverging
	}
	s.log.Warn("log truncated", "topic", e.Topic, "partition", e.Partition, "from", e.Offset, "to", e.To, "diverging", diverging,
		"epoch", e.Epoch.String(), "leader_epoch", e.Leader.String(), "policy", string(s.consumer.spec.Load().OnOutOfRange))
}
