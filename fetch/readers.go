package fetch

import "slices"

// readers are the subscriptions, by topic and partition, so that what is learned of a
// partition reaches its consumers without a search. f.mu guards them.
type readers map[string]map[int32][]*Subscription

func (r readers) add(s *Subscription) {
	partitions := r[s.spec.Topic]
	if partitions == nil {
		partitions = make(map[int32][]*Subscription)
		r[s.spec.Topic] = partitions
	}
	partitions[s.spec.Partition] = append(partitions[s.spec.Partition], s)
}

func (r readers) remove(s *Subscription) {
	partitions := r[s.spec.Topic]
	rest := partitions[s.spec.Partition]
	if i := slices.Index(rest, s); i >= 0 {
		rest = slices.Delete(rest, i, i+1)
	}
	if partitions[s.spec.Partition] = rest; len(rest) > 0 {
		return
	}
	if delete(partitions, s.spec.Partition); len(partitions) == 0 {
		delete(r, s.spec.Topic)
	}
}
