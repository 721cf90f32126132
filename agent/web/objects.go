package web

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"kcagent/agent/consumer"
	"kcagent/sink"
)

// ObjectsStatus is what a consumer has published, and what it has not published yet. Open, SpoolBytes and
// OpenPlans are 0 while the consumer is not a member.
type ObjectsStatus struct {
	Total      int64 `json:"objects_total" doc:"Objects that were uploaded since created_at."`
	BytesTotal int64 `json:"object_bytes_total" doc:"Bytes of those objects, as they are stored."`
	Open       int   `json:"open" doc:"Objects that grow in the spool folder: one per partition and window of record time."`
	SpoolBytes int64 `json:"spool_bytes" doc:"Bytes in the spool folder."`
	OpenPlans  int   `json:"open_plans" doc:"Partitions with a range of offsets that is closed and not published yet."`
}

// PartitionObjects are the objects of one partition that grow.
type PartitionObjects struct {
	Open        int        `json:"open" doc:"Objects of the range that grows: one per window of record time."`
	Records     int64      `json:"records" doc:"Records in them."`
	Bytes       int64      `json:"bytes" doc:"Bytes of them, compressed."`
	FirstOffset int64      `json:"first_offset" doc:"First offset of the range."`
	Since       *time.Time `json:"since" doc:"When the range got its first record; null if it has none."`
	DueAt       *time.Time `json:"due_at" doc:"When the range is closed because of its age, and then published; null if it has no record. Size, a pause, a rebalance and a stop close it earlier."`
}

// OpenPlan is a range of one partition that is closed and not published yet.
type OpenPlan struct {
	FirstOffset int64      `json:"first_offset" doc:"First offset of the range."`
	LastOffset  int64      `json:"last_offset" doc:"Last offset of the range."`
	Records     int64      `json:"records" doc:"Records in the range."`
	Objects     int        `json:"objects" doc:"Objects of the range."`
	Uploaded    int        `json:"uploaded" doc:"Objects of them that are uploaded."`
	Planned     bool       `json:"planned" doc:"Whether the plan is committed, so that no other range can be published before this one. Always false with at_least_once."`
	Since       time.Time  `json:"since" doc:"When the range was closed."`
	RetryAt     *time.Time `json:"retry_at" doc:"When the upload that failed is tried again; null if none failed."`
	Error       *string    `json:"error" doc:"Why the last upload failed; null if it did not."`
}

// objectsStatus is nil for a consumer without an objects sink.
func (r *Row) objectsStatus(c *consumer.Snapshot) *ObjectsStatus {
	if r.Spec.Sink.Objects == nil {
		return nil
	}
	plans, _ := openPlans(&c.Unpublished)
	return &ObjectsStatus{
		Total: c.Objects, BytesTotal: c.ObjectBytes,
		Open: c.Unpublished.Open, SpoolBytes: c.Unpublished.Spool, OpenPlans: plans,
	}
}

// openPlans returns the number of open plans, and since when the oldest one is open.
func openPlans(o *sink.Objects) (n int, oldest time.Time) {
	for _, p := range o.Partitions {
		if p.Closed == nil {
			continue
		}
		n++
		if oldest.IsZero() || p.Closed.Since.Before(oldest) {
			oldest = p.Closed.Since
		}
	}
	return n, oldest
}

// addObjects adds what the sink holds of a partition. Both fields stay nil without an objects sink.
func (s *PartitionStatus) addObjects(o *sink.Objects) {
	p, ok := o.Partitions[sink.TopicPartition{Topic: s.Topic, Partition: s.Partition}]
	if !ok {
		return
	}
	s.Objects = &PartitionObjects{
		Open: p.Objects, Records: p.Records, Bytes: p.Bytes, FirstOffset: p.First, Since: orNull(p.Since), DueAt: orNull(p.DueAt),
	}
	c := p.Closed
	if c == nil {
		return
	}
	s.OpenPlan = &OpenPlan{
		FirstOffset: c.First, LastOffset: c.Next - 1, Records: c.Records, Objects: c.Objects, Uploaded: c.Uploaded,
		Planned: c.Planned, Since: c.Since, RetryAt: orNull(c.Retry),
	}
	if text := c.Error; text != "" {
		s.OpenPlan.Error = &text
	}
}

var (
	metricObjects     = describeMetric("objects_total", "Objects that were uploaded.")
	metricObjectBytes = describeMetric("object_bytes_total", "Bytes of the objects that were uploaded, as they are stored.")
	metricUpload      = describeHistogram("object_upload_duration_seconds", "Duration of the upload of an object that succeeded.")
	metricSpool       = describeMetric("spool_bytes", "Bytes in the spool folder: objects that grow, and objects that are not uploaded yet.")
	metricOpenBuckets = describeMetric("open_buckets", "Objects that grow in the spool folder: one per partition and window of record time.")
	metricOpenPlans   = describeMetric("open_plans", "Partitions with a range of offsets that is closed and not published yet.")
	metricPlanAge     = describeMetric("open_plan_age_seconds", "Time since the oldest range that is not published yet was closed; 0 if there is none.")
)

// collectObjects adds the metrics of an objects sink; none for other sinks.
func (r *Row) collectObjects(s *consumer.Snapshot, of []*dto.LabelPair, e *exposition) {
	if r.Spec.Sink.Objects == nil {
		return
	}
	plans, oldest := openPlans(&s.Unpublished)
	age := 0.0
	if plans > 0 {
		age = max(0, time.Since(oldest).Seconds())
	}
	e.add(metricObjects, float64(s.Objects), of...)
	e.add(metricObjectBytes, float64(s.ObjectBytes), of...)
	e.addHistogram(metricUpload, s.UploadSeconds, of...)
	e.add(metricSpool, float64(s.Unpublished.Spool), of...)
	e.add(metricOpenBuckets, float64(s.Unpublished.Open), of...)
	e.add(metricOpenPlans, float64(plans), of...)
	e.add(metricPlanAge, age, of...)
}
