package web

import (
	"cmp"
	"os"
	"slices"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web/fields"
	"kcagent/config"
)

// A Status is everything /status shows.
type Status struct {
	Agent      AgentStatus            `json:"agent" doc:"The agent process."`
	Config     ConfigStatus           `json:"config" doc:"The applied configuration, and the state of the file."`
	Summary    map[consumer.State]int `json:"summary" doc:"Number of consumers by status; a status without consumers is absent."`
	Resources  Resources              `json:"resources" doc:"Resources that the agent process uses."`
	Consumers  []ConsumerStatus       `json:"consumers" doc:"The consumers, in the order of the file; consumers that are being terminated come last."`
	Terminated []Ended                `json:"terminated" doc:"The last 50 consumers that ended."`
}

// AgentStatus identifies the process.
type AgentStatus struct {
	Version   string    `json:"version" doc:"Version of the agent."`
	Hostname  string    `json:"hostname" doc:"Name of the host."`
	PID       int       `json:"pid" doc:"Process id."`
	StartedAt time.Time `json:"started_at" doc:"When the agent started."`
}

// ConfigStatus is the configuration in force, and whether the file differs from it.
type ConfigStatus struct {
	Path       string          `json:"path" doc:"Path of the configuration file."`
	State      string          `json:"state" doc:"synced: the file is applied, and each consumer is in its desired state, or in ERROR with the new configuration. applying: changes are in progress or pending. rejected: the file has problems, and the last valid configuration stays in force."`
	SHA256     string          `json:"sha256" doc:"SHA-256 of the file whose content is in force, in hex; empty before the first valid file."`
	AppliedAt  *time.Time      `json:"applied_at" doc:"When that content was applied; null before the first valid file."`
	FileSHA256 string          `json:"file_sha256" doc:"SHA-256 of the file as last read, in hex; empty if it could not be read."`
	Problems   config.Problems `json:"problems" doc:"Why the file is rejected, in the order of the file; empty if it is valid."`
}

// ConsumerStatus is one consumer. Lag, offsets and high-water marks are those of the
// partitions that are assigned to this member.
type ConsumerStatus struct {
	ID               string            `json:"id" doc:"Identifies this instance of the consumer; it changes with each replace."`
	Name             string            `json:"name" doc:"Name of the consumer."`
	Status           consumer.State    `json:"status" doc:"State of the consumer."`
	Desired          config.State      `json:"desired" doc:"Desired state, as in the file."`
	Brokers          []string          `json:"brokers" doc:"Bootstrap brokers of the cluster."`
	Cluster          string            `json:"cluster" doc:"Name of the cluster in the file; empty if the consumer has brokers of its own."`
	Group            string            `json:"group" doc:"Consumer group."`
	Topics           []string          `json:"topics" doc:"Topics that the consumer reads; for topics_regex, those that match now."`
	TopicsRegex      string            `json:"topics_regex,omitempty" doc:"The pattern, if the consumer has one."`
	Sink             string            `json:"sink" doc:"Kind and target of the sink."`
	MemberIDs        []string          `json:"member_ids" doc:"Id of the member in the group; empty while the consumer is not a member."`
	Generation       int32             `json:"generation" doc:"Generation of the group that the member joined last."`
	CreatedAt        time.Time         `json:"created_at" doc:"When this instance of the consumer was created."`
	StatusSince      time.Time         `json:"status_since" doc:"When the consumer entered its state."`
	RecordsTotal     int64             `json:"records_total" doc:"Records that the sink accepted since created_at."`
	BytesTotal       int64             `json:"bytes_total" doc:"Bytes of the keys and values of those records."`
	RecordsPerSecond float64           `json:"records_per_second" doc:"Records that the sink accepted per second, smoothed over some seconds."`
	Lag              *int64            `json:"lag" doc:"Sum of the lags of the assigned partitions; null if one of them is unknown, or if no partition is assigned."`
	LagSeconds       *float64          `json:"lag_seconds" doc:"Maximum of lag_seconds over the assigned partitions; null if one of them is unknown, or if no partition is assigned."`
	CatchUpSeconds   *float64          `json:"catch_up_seconds" doc:"Catch-up time: seconds until lag is 0, at the rate at which the sum fell in the last 10 s; 0 if lag is 0. null if unknown, or if lag does not fall."`
	RebalancesTotal  int64             `json:"rebalances_total" doc:"Generations of the group that the consumer joined."`
	RestartsTotal    int64             `json:"restarts_total" doc:"Restarts of the consumer after an error."`
	SkippedTotal     int64             `json:"skipped_records_total" doc:"Records that could not be decoded and were not written."`
	DeadLettersTotal int64             `json:"dead_letters_total" doc:"Records that could not be decoded and were written to the dead-letter file."`
	Objects          *ObjectsStatus    `json:"objects" doc:"What an objects sink has published, and what it has not published yet; null for other sinks."`
	LastRecordAt     *time.Time        `json:"last_record_at" doc:"When the sink last accepted a record; null before the first one."`
	LastFlushAt      *time.Time        `json:"last_flush_at" doc:"When the sink was last flushed; null before the first flush."`
	LastError        *string           `json:"last_error" doc:"Cause of the error while the consumer or a partition fails, else null."`
	LastErrorAt      *time.Time        `json:"last_error_at" doc:"When the newest of recent_errors occurred; null if there is none."`
	RecentErrors     []RecentError     `json:"recent_errors" doc:"The last 10 errors of the consumer and its partitions since created_at, newest first. They stay after a recovery."`
	PendingChange    *PendingChange    `json:"pending_change" doc:"A change of the file that is not applied yet, else null."`
	Partitions       []PartitionStatus `json:"partitions" doc:"The partitions that are assigned to this member."`
}

// StatesByUrgency are the states of listed consumers. States that require an action come first.
// page/assets/columns.js has the same order.
var StatesByUrgency = []consumer.State{
	consumer.Failing, consumer.Stopping, consumer.Starting, consumer.Running, consumer.Paused, consumer.Created,
}

// urgency is less for a consumer that requires an action sooner. A consumer whose pending change
// has failed its pre-check comes directly after those in ERROR.
func (c *ConsumerStatus) urgency() int {
	n := 2 * slices.Index(StatesByUrgency, c.Status)
	if c.PendingChange != nil && c.PendingChange.Error != nil {
		n = min(n, 1)
	}
	return n
}

// CompareUrgency orders consumers by urgency. Consumers that require an action come first.
func CompareUrgency(a, b *ConsumerStatus) int { return cmp.Compare(a.urgency(), b.urgency()) }

// ByUrgency orders consumers by urgency, then by name.
func ByUrgency(a, b *ConsumerStatus) int {
	return cmp.Or(CompareUrgency(a, b), cmp.Compare(a.Name, b.Name))
}

// A RecentError is an error of a consumer, which may have recovered since.
type RecentError struct {
	At    time.Time `json:"at" doc:"When the error occurred last."`
	Text  string    `json:"error" doc:"Cause of the error, at most 1000 bytes of it."`
	Count int       `json:"count" doc:"How often the error occurred, with its retries."`
}

// A PendingChange is a change that waits for its pre-check, while the consumer keeps its
// current configuration.
type PendingChange struct {
	Action    plan.Op    `json:"action" doc:"What the agent will do: replace, resubscribe or reconnect."`
	Fields    []string   `json:"fields" doc:"Keys of the file that cause the change."`
	Since     time.Time  `json:"since" doc:"When the file with the change was read."`
	Tries     int        `json:"tries" doc:"Pre-checks so far, including one in progress."`
	Error     *string    `json:"error" doc:"Why the last pre-check failed; null before its result is known."`
	NextTryAt *time.Time `json:"next_try_at" doc:"When the next pre-check starts; null while one is in progress, or if the change waits for something else."`
}

// PartitionStatus is one assigned partition. CommittedOffset is -1 while the
// group has committed nothing. Objects and OpenPlan are nil without
// an objects sink.
type PartitionStatus struct {
	Topic           string            `json:"topic" doc:"Topic."`
	Partition       int32             `json:"partition" doc:"Number of the partition."`
	NextOffset      int64             `json:"next_offset" doc:"Position: the offset after the last record that the sink accepted."`
	CommittedOffset int64             `json:"committed_offset" doc:"Committed offset of the group; -1 if there is none."`
	HighWaterMark   int64             `json:"high_water_mark" doc:"End of the log, as the broker reported last."`
	Lag             *int64            `json:"lag" doc:"Records between the position and the high-water mark or, with read_committed, the last stable offset; null if either is unknown, or if no broker has reported the end for 30 s."`
	LagSeconds      *float64          `json:"lag_seconds" doc:"Lag time: 0 if lag is 0, else the age of the next record to be written, as far as its timestamp is known; an upper bound. null if unknown."`
	CatchUpSeconds  *float64          `json:"catch_up_seconds" doc:"Catch-up time: seconds until lag is 0, at the rate at which it fell in the last 10 s; 0 if lag is 0. null if unknown, or if lag does not fall."`
	Objects         *PartitionObjects `json:"objects" doc:"Objects that grow; null for other sinks than objects, and until the partition has begun."`
	OpenPlan        *OpenPlan         `json:"open_plan" doc:"The range of offsets that is closed and not published yet; null if there is none."`
}

// Ended is a consumer that was terminated.
type Ended struct {
	Name         string    `json:"name" doc:"Name of the consumer."`
	ID           string    `json:"id" doc:"Id that the consumer had."`
	At           time.Time `json:"at" doc:"When the consumer ended."`
	Clean        bool      `json:"clean" doc:"Whether all records were flushed, all offsets committed, and everything closed in time."`
	RecordsTotal int64     `json:"records_total" doc:"Records that the sink accepted."`
}

// Status returns the current status of everything. It does not block.
func (a *API) Status() Status { return a.status(a.o.Snapshot(), everything) }

// Summary returns the parts config and summary of Status. It reads no partition.
func (a *API) Summary() Status { return a.status(a.o.Snapshot(), query{fields: summaryFields}) }

// status returns the parts that a client requests; the others are not computed.
func (a *API) status(snap *Snapshot, q query) Status {
	var s Status
	if q.fields.Has("agent") {
		host, _ := os.Hostname()
		s.Agent = AgentStatus{Version: a.o.Version, Hostname: host, PID: os.Getpid(), StartedAt: a.o.Started}
	}
	if q.fields.Has("resources") {
		s.Resources = readResources()
	}
	if q.fields.Has("terminated") {
		s.Terminated = append([]Ended{}, snap.Terminated...)
	}
	all := q.fields.Has("config") || q.fields.Has("summary")
	var changing bool
	s.Consumers, s.Summary, changing = snap.consumers(q, q.fields.Below("consumers"), all)
	s.Config = snap.configStatus(changing)
	return s
}

// consumers reads the requested consumers with their selected fields, none if selected is
// nil. If all is set, it reads the others, too: summary has the number of consumers by
// status, and changing says whether one has not reached its desired state yet.
func (s *Snapshot) consumers(q query, selected *fields.Selection, all bool) (list []ConsumerStatus, summary map[consumer.State]int, changing bool) {
	from, to := 0, 0
	if selected != nil {
		from, to = q.page(len(s.Rows))
	}
	list, summary = make([]ConsumerStatus, 0, to-from), make(map[consumer.State]int)
	for i := range s.Rows {
		listed := from <= i && i < to
		if !listed && !all {
			continue
		}
		row := &s.Rows[i]
		var of *fields.Selection
		if listed {
			of = selected
		}
		c := row.read(of)
		summary[c.State]++
		changing = changing || row.changing(&c)
		if listed {
			list = append(list, row.status(&c))
		}
	}
	return list, summary, changing
}

// read returns the state of the consumer as far as the selected fields need it. The partitions
// are almost all of the work.
func (r *Row) read(selected *fields.Selection) consumer.Snapshot {
	if selected.Has("partitions") {
		return r.Consumer.Snapshot()
	}
	c := r.Consumer.Brief()
	if selected.Has("lag") || selected.Has("lag_seconds") || selected.Has("catch_up_seconds") {
		c.Lag = r.Consumer.TotalLag()
	}
	if selected.Has("objects") && r.Spec.Sink.Objects != nil {
		c.Unpublished = r.Consumer.SinkObjects()
	}
	return c
}

func (s *Snapshot) configStatus(changing bool) ConfigStatus {
	r := &s.Reloads
	c := ConfigStatus{
		Path: r.Path, State: "synced", SHA256: r.SHA256, FileSHA256: r.FileSHA256,
		AppliedAt: orNull(r.AppliedAt), Problems: r.Problems,
	}
	if c.Problems == nil {
		c.Problems = config.Problems{}
	}
	switch {
	case len(r.Problems) > 0:
		c.State = "rejected"
	case changing, s.Config == nil:
		c.State = "applying"
	}
	return c
}

// steadyState is the state of a consumer that has reached its desired state.
var steadyState = map[config.State]consumer.State{
	config.Running: consumer.Running, config.Paused: consumer.Paused, config.Stopped: consumer.Created,
}

// changing reports whether the consumer has not reached its desired state yet. A consumer
// in ERROR is not changing: it has applied the change, and fails.
func (r *Row) changing(c *consumer.Snapshot) bool {
	switch {
	case r.Pending != nil, r.Ending, c.State == consumer.Starting, c.State == consumer.Stopping:
		return true
	case c.State == consumer.Failing:
		return false
	case r.Spec.State != config.Stopped && c.Resubscribing:
		return true
	}
	return c.State != steadyState[r.Spec.State]
}

func (r *Row) status(c *consumer.Snapshot) ConsumerStatus {
	s := ConsumerStatus{
		ID: c.ID, Name: c.Name, Status: c.State, Desired: r.Spec.State,
		Brokers: r.Spec.Cluster.Brokers, Cluster: r.Spec.ClusterName, Group: r.Spec.Group,
		Topics: r.Spec.Topics, TopicsRegex: r.Spec.TopicsRegex, Sink: r.Spec.Sink.String(),
		MemberIDs: []string{}, Generation: c.Generation,
		CreatedAt: c.Created, StatusSince: c.Since,
		RecordsTotal: c.Records, BytesTotal: c.Bytes, RecordsPerSecond: c.RecordsPerSecond,
		Lag: c.Lag.Records, LagSeconds: c.Lag.Seconds, CatchUpSeconds: c.Lag.CatchUp,
		RebalancesTotal: c.Rebalances, RestartsTotal: c.Restarts,
		SkippedTotal: c.SkippedKeys + c.SkippedValues, DeadLettersTotal: c.DeadLetters,
		LastRecordAt: orNull(c.LastRecord), LastFlushAt: orNull(c.LastFlush),
		Objects: r.objectsStatus(c), PendingChange: r.Pending, Partitions: make([]PartitionStatus, len(c.Partitions)),
	}
	if r.Spec.TopicsRegex != "" {
		s.Topics = append([]string{}, c.Topics...)
	}
	if c.MemberID != "" {
		s.MemberIDs = append(s.MemberIDs, c.MemberID)
	}
	if fault := c.Fault; fault != "" {
		s.LastError = &fault
	}
	s.RecentErrors = make([]RecentError, len(c.Errors))
	for i, e := range c.Errors {
		s.RecentErrors[i] = RecentError(e)
		if i == 0 {
			s.LastErrorAt = orNull(e.At)
		}
	}
	for i, p := range c.Partitions {
		s.Partitions[i] = PartitionStatus{
			Topic: p.Topic, Partition: p.Partition, NextOffset: p.NextOffset, CommittedOffset: p.CommittedOffset, HighWaterMark: p.HighWaterMark,
			Lag: p.Lag.Records, LagSeconds: p.Lag.Seconds, CatchUpSeconds: p.Lag.CatchUp,
		}
		s.Partitions[i].addObjects(&c.Unpublished)
	}
	return s
}

// orNull is nil for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	at := t // t itself would be allocated for the zero time, too
	return &at
}

// Ready reports whether a configuration was applied and every consumer has left STARTING
// once. It stays true from then on: a consumer that is added later, or fails, must not
// take the whole agent out of service.
func (a *API) Ready() bool {
	if a.ready.Load() {
		return true
	}
	snap := a.o.Snapshot()
	if snap.Config == nil || len(snap.Rows) < len(snap.Config.Consumers) {
		return false
	}
	for i := range snap.Rows {
		row := &snap.Rows[i]
		if row.Spec.State != config.Stopped && !row.Consumer.Brief().Started {
			return false
		}
	}
	a.ready.Store(true)
	return true
}
