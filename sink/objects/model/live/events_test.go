package live

import (
	"bytes"
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/offsets"
	"kcagent/sink/objects/store"
)

// settings are the settings of the operator's file that decide about keys and records, and the
// rotation.
type settings struct {
	bucket, key, zone, format, compression, decode, rotate string
}

// The settings that an edit chooses from. All keys have the topic id.
var (
	keys = []string{
		"{topic}/minute={time:04}/{partition}-{first}-{last}-{topic_id}",
		"{time:2006-01-02T15}/{topic_id}/{topic}/{partition}-{first}-{last}-{time:04}",
		"{topic}/{topic_id}/{partition}-{first}-{last}",
	}
	zones        = []string{"UTC", "Asia/Kolkata"}
	formats      = []string{"raw", "json", "json"}
	decodings    = []string{"none", "none", "json"} // by format
	compressions = []string{"none", "gzip", "zstd"}
	buckets      = []string{"bucket", "other"}
)

// edits is how many edits there are.
var edits = len(keys) * len(zones) * len(formats) * len(compressions) * len(buckets)

// edit changes settings, as n chooses. 0 is no edit.
func (s *scene) edit(n int) {
	pick := func(of int) int { i := n % of; n /= of; return i }
	x := &s.settings
	x.key, x.zone, x.compression, x.bucket = keys[pick(len(keys))], zones[pick(len(zones))], compressions[pick(len(compressions))], buckets[pick(len(buckets))]
	i := pick(len(formats))
	x.format, x.decode = formats[i], decodings[i]
	s.logf("edit: %+v", *x)
}

// retention removes the records of a partition before an offset.
func (s *scene) retention(partition int, to int64) {
	s.Helper()
	s.rememberVisible()
	to = min(to, s.broker.PartitionInfo(topic, int32(partition)).LastStableOffset)
	s.mu.Lock()
	for _, x := range s.records { // before they are: a sink must not miss one that is due
		if x.topic == s.topicID && x.partition == int32(partition) && x.offset < to {
			x.removed = true
		}
	}
	s.mu.Unlock()
	if err := s.broker.DeleteRecords(topic, int32(partition), to); err != nil {
		s.logf("retention: %v", err)
		return
	}
	s.logf("retention of partition %d up to %d", partition, to)
}

// compaction produces a record that supersedes the n-th one of a partition, which is removed then.
func (s *scene) compaction(partition, n int) {
	s.Helper()
	log := s.log(int32(partition))
	if len(log) == 0 {
		return
	}
	x := log[n%len(log)]
	if x.open || x.aborted || x.removed {
		return
	}
	s.rememberVisible()
	s.mu.Lock()
	x.removed = true
	s.mu.Unlock()
	s.produceWith(s.broker.client, partition, 0, x.id, false)
	s.produce(partition, 1, 0) // the last batch is never compacted
	s.broker.Compact()
	s.logf("record %d at offset %d of partition %d is compacted", x.id, x.offset, partition)
}

// recreate deletes the topic and creates it again. A coordinator deletes its offsets, or keeps them if
// the group is empty. An offset without metadata of this cluster would be used (limit 3 of the protocol).
func (s *scene) recreate(keep bool) {
	s.Helper()
	s.endTransaction(false)
	commits := s.commits()
	if err := s.broker.DeleteTopic(topic); err != nil {
		s.Fatal(err)
	}
	s.createTopic()
	s.broker.client.PurgeTopicsFromClient(topic)
	clear(s.ends)
	keep = keep && s.empty()
	if keep {
		for partition, c := range commits {
			if m, ok := offsets.ParseMetadata(c.text); ok && m.Topic.Cluster == s.broker.id {
				s.commitAsTool(partition, c.offset, c.text)
			}
		}
	}
	s.logf("the topic is recreated as %s, offsets are kept: %v", s.topicID, keep)
}

// mirror moves the consumer to another cluster, whose topic has n records of its own in each partition,
// and the offsets of the group with their metadata. The processes of the former one have crashed.
func (s *scene) mirror(n int) {
	s.Helper()
	s.endTransaction(false)
	commits := s.commits()
	s.startBroker()
	clear(s.ends)
	for partition := range s.partitions {
		s.produce(int(partition), n, 0)
		if c, ok := commits[partition]; ok {
			c.offset = min(c.offset, int64(n))
			s.commitAsTool(partition, c.offset, c.text)
			s.newHistory(partition, c.offset)
		}
	}
	s.logf("the consumer moves to %s with topic %s", s.broker.id, s.topicID)
}

// reset sets a committed offset of a group without members. A tool that copies offsets keeps the
// metadata: then the plan is not completed. Otherwise the event requires that none is open.
func (s *scene) reset(partition int32, n int, keep bool) {
	s.Helper()
	c, ok := s.commits()[partition]
	if !ok || !s.empty() || c.open != keep {
		return
	}
	p := s.broker.PartitionInfo(topic, partition)
	to := p.LogStartOffset + int64(n)%(p.LastStableOffset-p.LogStartOffset+1)
	text := ""
	if keep {
		if text = c.text; to == c.offset {
			return
		}
	}
	s.commitAsTool(partition, to, text)
	s.newHistory(partition, to)
	s.logf("the offset of partition %d is set from %d to %d, its metadata is kept: %v", partition, c.offset, to, keep)
}

// expire deletes the offsets of a group without members and open plans.
func (s *scene) expire() {
	s.Helper()
	for _, c := range s.commits() {
		if c.open {
			return
		}
	}
	if !s.empty() {
		return
	}
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{groupID}
	if _, err := req.RequestWith(context.Background(), s.broker.client); err != nil {
		s.Fatal(err)
	}
	for partition := range s.partitions {
		s.newHistory(partition, -1)
	}
	s.logf("the committed offsets expire")
}

// otherGroup puts objects of another group, with the same prefix and settings. They have the n records
// from the committed offset on.
func (s *scene) otherGroup(partition int32, n int) {
	s.Helper()
	if s.settings.format != "raw" || s.settings.compression != "none" || s.settings.decode != "none" {
		return
	}
	first := max(0, s.commits()[partition].offset)
	p := planned{url: "s3://" + s.settings.bucket + "/prefix", key: s.settings.key, zone: s.settings.zone, topic: s.topicID, partition: partition, first: first, next: first + int64(n)}
	if p.next > s.broker.PartitionInfo(topic, partition).LastStableOffset {
		return
	}
	objects := make(map[string][]byte)
	for _, x := range s.log(partition) {
		if x.offset >= p.first && x.offset < p.next && !x.aborted && !x.removed {
			objects[p.keyOf(x)] = append(append(objects[p.keyOf(x)], x.value()...), '\n')
		}
	}
	for key, data := range objects {
		meta := map[string]string{
			"kcagentcluster": s.broker.id, "kcagenttopicid": s.topicID, "kcagenttopic": topic, "kcagentpartition": strconv.Itoa(int(partition)),
			"kcagentfirst": strconv.FormatInt(p.first, 10), "kcagentlast": strconv.FormatInt(p.next-1, 10),
		}
		st := s.stores[p.url]
		if _, _, exists := st.Content(key); exists {
			continue
		}
		s.mu.Lock()
		s.foreign[p.url+" "+key] = true
		s.mu.Unlock()
		if err := st.Put(context.Background(), key, bytes.NewReader(data), int64(len(data)), store.Attributes{Meta: meta}); err != nil {
			s.Fatal(err)
		}
		s.logf("another group puts %s", key)
	}
}

// rejoin starts a process with the instance id of another one, which continues: it does not notice
// until the coordinator rejects its requests.
func (s *scene) rejoin(p *process) *process {
	s.Helper()
	s.logf("another process takes the instance id %s", p.name)
	return s.launchAs(p.name, p.fate)
}

// A commit is what the group has committed of a partition.
type commit struct {
	offset int64
	open   bool // with a plan
	text   string
}

// commits returns what the group has committed.
func (s *scene) commits() map[int32]commit {
	commits := make(map[int32]commit)
	g := s.broker.GroupInfo(groupID)
	if g == nil {
		return commits
	}
	for partition, c := range g.Commits[topic] {
		m, _ := offsets.ParseMetadata(c.Metadata)
		commits[partition] = commit{c.Offset, m.Plan != nil, c.Metadata}
	}
	return commits
}

// empty reports whether the group has no member.
func (s *scene) empty() bool {
	g := s.broker.GroupInfo(groupID)
	return g == nil || len(g.Members) == 0
}

// commitAsTool commits an offset as an administration tool does, without a member.
func (s *scene) commitAsTool(partition int32, offset int64, text string) {
	s.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = groupID, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.Metadata = partition, offset, &text
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(context.Background(), s.broker.client)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		s.Fatal(err, resp)
	}
}
