package agent

import (
	"os"
	"time"

	"kcagent/config"
)

// A Status is everything /status shows.
type Status struct {
	Agent      AgentStatus      `json:"agent" doc:"The agent process."`
	Config     ConfigStatus     `json:"config" doc:"The applied configuration, and the state of the file."`
	Summary    map[State]int    `json:"summary" doc:"Number of consumers by status; a status without consumers is absent."`
	Resources  Resources        `json:"resources" doc:"Resources that the agent process uses."`
	Consumers  []ConsumerStatus `json:"consumers" doc:"The consumers, in the order of the file; consumers that are being terminated come last."`
	Terminated []Ended          `json:"terminated" doc:"The last 50 consumers that ended."`
}

// AgentStatus says which process answers.
type AgentStatus struct {
	Version   string    `json:"version" doc:"Version of the agent."`
	Hostname  string    `json:"hostname" doc:"Name of the host."`
	PID       int       `json:"pid" doc:"Process id."`
	StartedAt time.Time `json:"started_at" doc:"When the agent started."`
}

// ConfigStatus says which configuration is in force, and what of the file as
// it is now is not.
type ConfigStatus struct {
	Path       string          `json:"path" doc:"Path of the configuration file."`
	State      string          `json:"state" doc:"synced: the file is applied, and every consumer has converged. applying: changes are in progress or pending. rejected: the file has problems, and the last valid configuration stays in force."`
	SHA256     string          `json:"sha256" doc:"SHA-256 of the file whose content is in force, in hex; empty before the first valid file."`
	AppliedAt  *time.Time      `json:"applied_at" doc:"When that content was applied; null before the first valid file."`
	FileSHA256 string          `json:"file_sha256" doc:"SHA-256 of the file as last read, in hex; empty if it could not be read."`
	Problems   config.Problems `json:"problems" doc:"Why the file is rejected, in the order of the file; empty if it is valid."`
}

// ConsumerStatus is one consumer as it is now. Lag, offsets and high-water
// marks are of the partitions assigned to this member.
type ConsumerStatus struct {
	ID               string            `json:"id" doc:"Identifies this instance of the consumer; it changes with each replace."`
	Name             string            `json:"name" doc:"Name of the consumer."`
	Status           State             `json:"status" doc:"State of the consumer."`
	Desired          config.State      `json:"desired" doc:"State that the file asks for."`
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
	Lag              int64             `json:"lag" doc:"Records between the position and the high-water mark, over the assigned partitions."`
	RebalancesTotal  int64             `json:"rebalances_total" doc:"Generations of the group that the consumer joined."`
	RestartsTotal    int64             `json:"restarts_total" doc:"Restarts of the consumer after an error."`
	LastRecordAt     *time.Time        `json:"last_record_at" doc:"When the sink last accepted a record; null before the first one."`
	LastFlushAt      *time.Time        `json:"last_flush_at" doc:"When the sink was last flushed; null before the first flush."`
	LastError        *string           `json:"last_error" doc:"Cause of the error while the consumer or a partition fails, else null."`
	PendingChange    *PendingChange    `json:"pending_change" doc:"A change of the file that is not applied yet, else null."`
	Partitions       []PartitionStatus `json:"partitions" doc:"The partitions that are assigned to this member."`
}

// A PendingChange is a change that is wanted and tried first, while the
// consumer goes on in its former form.
type PendingChange struct {
	Action    Op         `json:"action" doc:"What the agent will do: replace, resubscribe or reconnect."`
	Fields    []string   `json:"fields" doc:"Keys of the file that cause the change."`
	Since     time.Time  `json:"since" doc:"When the file with the change was read."`
	Tries     int        `json:"tries" doc:"Pre-checks so far, including one in progress."`
	Error     *string    `json:"error" doc:"Why the last pre-check failed; null before its result is known."`
	NextTryAt *time.Time `json:"next_try_at" doc:"When the next pre-check starts; null while one is in progress, or if the change waits for something else."`
}

// PartitionStatus is one assigned partition. CommittedOffset is -1 while the
// group has committed nothing.
type PartitionStatus struct {
	Topic           string `json:"topic" doc:"Topic."`
	Partition       int32  `json:"partition" doc:"Number of the partition."`
	NextOffset      int64  `json:"next_offset" doc:"Position: the offset after the last record that the sink accepted."`
	CommittedOffset int64  `json:"committed_offset" doc:"Committed offset of the group; -1 if there is none."`
	HighWaterMark   int64  `json:"high_water_mark" doc:"End of the log, as the broker reported last."`
	Lag             int64  `json:"lag" doc:"Records between the position and the high-water mark."`
}

// Ended is a consumer that is gone.
type Ended struct {
	Name         string    `json:"name" doc:"Name of the consumer."`
	ID           string    `json:"id" doc:"Id that the consumer had."`
	At           time.Time `json:"at" doc:"When the consumer ended."`
	Clean        bool      `json:"clean" doc:"Whether all records were flushed, all offsets committed, and everything closed in time."`
	RecordsTotal int64     `json:"records_total" doc:"Records that the sink accepted."`
}

// A snapshot is what the loop publishes after each round, so that a status
// never waits for it.
type snapshot struct {
	note       reloads
	config     *config.Config
	rows       []row
	terminated []Ended
	zombies    []zombie
}

// A row is a consumer in the table, and its wish.
type row struct {
	runner runner
	spec   config.Consumer
	ending bool
	next   *PendingChange
}

type zombie struct {
	name, id string
	since    time.Time
}

// publish makes the round's result visible. Consumers come in the order of
// the file, ones that are ending and no longer in it last.
func (a *Agent) publish() {
	s := &snapshot{note: a.note, config: a.config, terminated: a.terminated[:len(a.terminated):len(a.terminated)]}
	listed := make(map[string]bool, len(a.entries))
	add := func(name string) {
		if e := a.entries[name]; e != nil && !listed[name] {
			listed[name] = true
			s.rows = append(s.rows, row{e.runner, e.spec, e.ending, e.next.pending()})
		}
	}
	if a.config != nil {
		for _, c := range a.config.Consumers {
			add(c.Name)
		}
	}
	for name := range a.entries {
		add(name)
	}
	for _, z := range a.zombies {
		s.zombies = append(s.zombies, zombie{z.name, z.id, z.since})
	}
	a.snapshot.Store(s)
}

// Status says how everything is now. It waits for nobody.
func (a *Agent) Status() Status {
	snap := a.snapshot.Load()
	host, _ := os.Hostname()
	s := Status{
		Agent:      AgentStatus{Version: a.opts.Version, Hostname: host, PID: os.Getpid(), StartedAt: a.started},
		Summary:    make(map[State]int),
		Resources:  readResources(),
		Consumers:  make([]ConsumerStatus, 0, len(snap.rows)),
		Terminated: append([]Ended{}, snap.terminated...),
	}
	changing := false
	for _, r := range snap.rows {
		snap := r.runner.Snapshot()
		c := r.status(&snap)
		s.Summary[c.Status]++
		s.Consumers = append(s.Consumers, c)
		changing = changing || r.changing(&snap)
	}
	s.Config = snap.configStatus(changing)
	return s
}

func (s *snapshot) configStatus(changing bool) ConfigStatus {
	n := s.note
	c := ConfigStatus{Path: n.path, State: "synced", SHA256: n.sha, FileSHA256: n.fileSHA, Problems: n.problems}
	if c.Problems == nil {
		c.Problems = config.Problems{}
	}
	if !n.appliedAt.IsZero() {
		c.AppliedAt = &n.appliedAt
	}
	switch {
	case len(n.problems) > 0:
		c.State = "rejected"
	case changing, s.config == nil:
		c.State = "applying"
	}
	return c
}

// changing reports whether the consumer is on its way to what is wanted. One
// in ERROR is not: it has got the change, and fails at it.
func (r row) changing(s *Snapshot) bool {
	switch {
	case r.next != nil, r.ending || s.State == Starting || s.State == Stopping:
		return true
	case s.State == Failing:
		return false
	}
	if r.spec.State != config.Stopped && s.Resubscribing {
		return true // the same member is to join again
	}
	return s.State != map[config.State]State{
		config.Running: Running, config.Paused: Paused, config.Stopped: Created,
	}[r.spec.State]
}

func (r row) status(s *Snapshot) ConsumerStatus {
	c := ConsumerStatus{
		ID: s.ID, Name: s.Name, Status: s.State, Desired: r.spec.State,
		Brokers: r.spec.Cluster.Brokers, Cluster: r.spec.ClusterName, Group: r.spec.Group,
		Topics: r.spec.Topics, TopicsRegex: r.spec.TopicsRegex, Sink: r.spec.Sink.String(),
		MemberIDs: []string{}, Generation: s.Generation,
		CreatedAt: s.Created, StatusSince: s.Since,
		RecordsTotal: s.Records, BytesTotal: s.Bytes, RecordsPerSecond: s.RecordsPerSecond,
		RebalancesTotal: s.Rebalances, RestartsTotal: s.Restarts,
		LastRecordAt: orNull(s.LastRecord), LastFlushAt: orNull(s.LastFlush),
		PendingChange: r.next, Partitions: make([]PartitionStatus, len(s.Partitions)),
	}
	if r.spec.TopicsRegex != "" {
		c.Topics = append([]string{}, s.Topics...)
	}
	if s.MemberID != "" {
		c.MemberIDs = append(c.MemberIDs, s.MemberID)
	}
	if s.Fault != "" {
		c.LastError = &s.Fault
	}
	for i, p := range s.Partitions {
		c.Lag += p.Lag
		c.Partitions[i] = PartitionStatus(p)
	}
	return c
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Ready reports whether a good configuration was applied and every consumer
// has left STARTING once. Once true it stays so: a consumer that is added
// later, or fails, must not take the whole agent out of service.
func (a *Agent) Ready() bool {
	if a.ready.Load() {
		return true
	}
	snap := a.snapshot.Load()
	if snap.config == nil || len(snap.rows) < len(snap.config.Consumers) {
		return false
	}
	for _, r := range snap.rows {
		if !r.runner.Snapshot().Started && r.spec.State != config.Stopped {
			return false
		}
	}
	a.ready.Store(true)
	return true
}

// Alive reports whether the loop answers within timeout.
func (a *Agent) Alive(timeout time.Duration) bool {
	pong := make(chan struct{})
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case a.pings <- pong:
		return true
	case <-t.C:
		return false
	}
}
