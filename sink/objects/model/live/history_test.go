package live

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/offsets"
	"kcagent/sink"
)

// A history is a sequence of commits of a partition: a reset, and another topic, begin one.
type history struct {
	topic     string // id
	partition int32
	number    int // of the resets of the topic, from 1
}

// An accepted commit is one that the coordinator has accepted of a process.
type accepted struct {
	offset int64
	meta   offsets.Metadata
	by     string
}

// newHistory begins a history of a partition at an offset, or, with -1, where the next commit says.
func (s *scene) newHistory(partition int32, from int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := tp{s.topicID, partition}
	s.resets[id]++
	if from >= 0 {
		s.starts[history{id.topic, partition, s.resets[id] + 1}] = from
	}
}

// A tp is a partition of a topic with an id.
type tp struct {
	topic     string
	partition int32
}

// recordAccepted records a commit that the coordinator has accepted.
func (s *scene) recordAccepted(by string, partition int32, p kmsg.OffsetCommitRequestTopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, _ := offsets.ParseMetadata(*p.Metadata)
	id := tp{m.Topic.Topic, partition}
	h := history{id.topic, partition, s.resets[id] + 1}
	if _, ok := s.starts[h]; !ok {
		s.starts[h] = 0
		if s.start == "latest" {
			s.starts[h] = p.Offset
		}
	}
	s.accepted[h] = append(s.accepted[h], accepted{p.Offset, m, by})
}

// recordPromised records the records of a chunk that a sink has accepted.
func (s *scene) recordPromised(c sink.Chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := c.Data
	if c.Large != nil {
		data = c.Large.Value
	}
	for _, id := range numbers(data) {
		x := s.records[id-1]
		x.promised = s.resets[tp{x.topic, x.partition}] + 1
	}
}

var number = regexp.MustCompile(`#(\d+)# `)

// numbers returns the numbers of the records in data.
func numbers(data []byte) (ids []int) {
	for _, m := range number.FindAllSubmatch(data, -1) {
		id, _ := strconv.Atoi(string(m[1]))
		ids = append(ids, id)
	}
	return ids
}

// A planned range is one whose plan the coordinator has accepted.
type planned struct {
	url, key, zone, ext, decode string
	topic                       string // id
	partition                   int32
	first, next                 int64
	completed                   bool
}

// plannedOf reads a plan.
func plannedOf(h history, p *sink.Plan) planned {
	set := p.Settings
	ext := map[string]string{"gzip": ".gz", "zstd": ".zst"}[set["compression"]]
	if set["format"] == "json" {
		ext = ".jsonl" + ext
	}
	return planned{url: set["url"], key: set["key"], zone: set["tz"], ext: ext, decode: set["decode.value"], topic: h.topic, partition: h.partition, first: p.First, next: p.Next}
}

// keyOf is a second implementation of the template.
func (p *planned) keyOf(x *record) string {
	zone, err := time.LoadLocation(p.zone)
	if err != nil {
		panic(err)
	}
	at := x.at.In(zone)
	return strings.NewReplacer(
		"{topic}", topic, "{topic_id}", p.topic[:8], "{partition}", fmt.Sprint(p.partition),
		"{first}", fmt.Sprintf("%020d", p.first), "{last}", fmt.Sprintf("%020d", p.next-1),
		"{time:04}", at.Format("04"), "{time:2006-01-02T15}", at.Format("2006-01-02T15"),
	).Replace(p.key) + p.ext
}

// plans returns the plans of a history. Each is followed by its own completion, or by the same plan again.
func (s *scene) plans(h history) (plans []planned) {
	for i, c := range s.accepted[h] {
		if c.meta.Plan != nil && (len(plans) == 0 || s.accepted[h][i-1].meta.Nonce != c.meta.Nonce) {
			plans = append(plans, plannedOf(h, c.meta.Plan))
		}
		if i == 0 {
			continue
		}
		before := s.accepted[h][i-1]
		switch {
		case before.meta.Nonce == c.meta.Nonce && before.offset == c.offset:
		case before.meta.Plan == nil && c.offset < before.offset:
			s.Errorf("%v: %s commits %d after %d", h, c.by, c.offset, before.offset)
		case before.meta.Plan != nil && c.offset != before.meta.Plan.Next:
			s.Errorf("%v: %s commits %d with plan %+v after the plan %+v of %s", h, c.by, c.offset, c.meta.Plan, *before.meta.Plan, before.by)
		case before.meta.Plan != nil && c.meta.Plan == nil:
			plans[len(plans)-1].completed = true
		case before.meta.Plan != nil:
			plans[len(plans)-2].completed = true
		}
	}
	return plans
}

// expected returns the records of a plan, by the keys of its objects with the url.
func (s *scene) expected(p *planned) map[string][]*record {
	objects := make(map[string][]*record)
	for _, x := range s.records {
		if x.topic == p.topic && x.partition == p.partition && x.offset >= p.first && x.offset < p.next && !x.aborted && !x.open && (x.json || p.decode != "json") {
			key := p.url + " " + p.keyOf(x)
			objects[key] = append(objects[key], x)
		}
	}
	return objects
}

// check checks the invariants of the model. With end, the fresh process has finished.
func (s *scene) check(end bool) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	visible := s.visible()
	planned := make(map[string][]*record) // of all objects with an accepted plan
	for h := range s.accepted {
		seen := make(map[int]string)
		for _, p := range s.plans(h) {
			objects := s.expected(&p)
			maps.Copy(planned, objects)
			for key, records := range objects {
				ids, exists := visible[key]
				if !exists && p.completed && slices.ContainsFunc(records, func(x *record) bool { return !x.removed }) {
					s.Errorf("%s does not exist, and the range [%d,%d) is completed", key, p.first, p.next)
				}
				for _, id := range ids {
					if other, ok := seen[id]; ok && other != key {
						s.Errorf("record %d is in %s and in %s", id, other, key)
					}
					seen[id] = key
				}
			}
		}
		if end {
			s.checkLost(h, seen)
		}
	}
	for key, before := range s.remembered {
		for _, id := range before {
			if !slices.Contains(visible[key], id) {
				s.Errorf("%s does not have record %d any more", key, id)
			}
		}
	}
	for key, ids := range visible {
		if records, ok := planned[key]; ok {
			s.checkObject(key, ids, records)
		} else if !s.foreign[key] {
			s.Errorf("%s is of no plan that was accepted", key)
		}
	}
}

// checkLost: each record from the start of the history on is visible, and each one that a sink has
// accepted, unless it was removed from the log, or rejected by decode.value.
func (s *scene) checkLost(h history, seen map[int]string) {
	if h.number != s.resets[tp{h.topic, h.partition}]+1 || h.topic != s.topicID {
		return
	}
	for _, x := range s.records {
		due := x.offset >= s.starts[h] || x.promised == h.number
		if x.topic != h.topic || x.partition != h.partition || !due || x.aborted || x.removed || !x.json && s.decoded {
			continue
		}
		if _, ok := seen[x.id]; !ok {
			s.Errorf("record %d at offset %d of partition %d is in no object", x.id, x.offset, x.partition)
		}
	}
}

// checkObject: an object has exactly the records of its plan that the log still had.
func (s *scene) checkObject(key string, ids []int, records []*record) {
	for _, x := range records {
		if !x.removed && !slices.Contains(ids, x.id) {
			s.Errorf("%s lacks record %d", key, x.id)
		}
	}
	for i, id := range ids {
		if !slices.Contains(records, s.records[id-1]) || slices.Contains(ids[:i], id) {
			s.Errorf("%s has record %d, aborted: %v", key, id, s.records[id-1].aborted)
		}
	}
}

// visible returns the records of all objects, by url and key.
func (s *scene) visible() map[string][]int {
	all := make(map[string][]int)
	for url, st := range s.stores {
		for _, key := range st.Keys() {
			_, data, _ := st.Content(key)
			all[url+" "+key] = numbers(s.unpack(key, data))
		}
	}
	return all
}

// rememberVisible remembers what is visible before records are removed from the log: it stays visible.
func (s *scene) rememberVisible() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.remembered, s.visible())
}

// unpack returns the content of an object without its compression.
func (s *scene) unpack(key string, data []byte) []byte {
	var in io.Reader = bytes.NewReader(data)
	var err error
	switch {
	case strings.HasSuffix(key, ".gz"):
		in, err = gzip.NewReader(in)
	case strings.HasSuffix(key, ".zst"):
		in, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	}
	if err == nil {
		data, err = io.ReadAll(in)
	}
	if err != nil {
		s.Errorf("%s: %v", key, err)
	}
	return data
}
