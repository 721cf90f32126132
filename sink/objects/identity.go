package objects

import (
	"fmt"
	"maps"
	"strconv"

	"kcagent/sink/objects/store"
)

// An identity says which records an object has.
type identity struct {
	cluster, topicID, topic string
	partition               int32
	first, last             int64 // of the plan
}

// Names in the metadata of objects.
const (
	metaCluster   = "kcagentcluster"
	metaTopicID   = "kcagenttopicid"
	metaTopic     = "kcagenttopic"
	metaPartition = "kcagentpartition"
	metaFirst     = "kcagentfirst"
	metaLast      = "kcagentlast"
	metaCount     = "kcagentcount"   // records of the object
	metaObjects   = "kcagentobjects" // objects of the range; kcagent verify finds one that is missing
	metaVersion   = "kcagentversion"
	metaConsumer  = "kcagentconsumer"
)

// meta returns the metadata of the identity.
func (i identity) meta() map[string]string {
	return map[string]string{
		metaCluster: i.cluster, metaTopicID: i.topicID, metaTopic: i.topic,
		metaPartition: strconv.Itoa(int(i.partition)), metaFirst: strconv.FormatInt(i.first, 10), metaLast: strconv.FormatInt(i.last, 10),
	}
}

// check returns an error if the metadata of an object has another identity.
func (i identity) check(o store.Object, url string) error {
	for name, want := range i.meta() {
		if o.Meta[name] != want {
			return &otherError{url: url, key: o.Key, found: describe(o.Meta)}
		}
	}
	return nil
}

// describe returns the records of an object, by its metadata, as text for errors.
func describe(meta map[string]string) string {
	if meta[metaFirst] == "" {
		return "no object of an objects sink"
	}
	return fmt.Sprintf("offsets %s to %s of %s/%s, topic id %s, cluster %s",
		meta[metaFirst], meta[metaLast], meta[metaTopic], meta[metaPartition], orUnknown(meta[metaTopicID]), orUnknown(meta[metaCluster]))
}

func orUnknown(id string) string {
	if id == "" {
		return "unknown"
	}
	return id
}

// An otherError says that the key of an object is used by an object with other records.
type otherError struct{ url, key, found string }

func (e *otherError) Error() string {
	return fmt.Sprintf("upload %s below %s: the key is used by another object (%s); move that object away, or, while no plan is open, change sink.objects.key", e.key, e.url, e.found)
}

// metadata returns the metadata of an object: its identity, and what helps a person who looks at the
// object. Empty values are left out.
func (s *objectsSink) metadata(i identity, records int64, objects int) map[string]string {
	meta := i.meta()
	meta[metaCount], meta[metaObjects] = strconv.FormatInt(records, 10), strconv.Itoa(objects)
	meta[metaVersion], meta[metaConsumer] = s.options.Version, s.options.Consumer
	maps.DeleteFunc(meta, func(_, value string) bool { return value == "" })
	return meta
}
