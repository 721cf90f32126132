package agent

import (
	"os"
	"time"

	"kcagent/config"
)

// A Status is everything /status shows.
type Status struct {
	Agent      AgentStatus      `json:"agent"`
	Config     ConfigStatus     `json:"config"`
	Summary    map[State]int    `json:"summary"`
	Resources  Resources        `json:"resources"`
	Consumers  []ConsumerStatus `json:"consumers"`
	Terminated []Ended          `json:"terminated"`
}

// AgentStatus says which process answers.
type AgentStatus struct {
	Version   string    `json:"version"`
	Hostname  string    `json:"hostname"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
}

// ConfigStatus says which configuration is in force, and what of the file as
// it is now is not.
type ConfigStatus struct {
	Path       string          `json:"path"`
	State      string          `json:"state"` // synced, applying or rejected
	SHA256     string          `json:"sha256"`
	AppliedAt  *time.Time      `json:"applied_at"`
	FileSHA256 string          `json:"file_sha256"`
	Problems   config.Problems `json:"problems"`
}

// ConsumerStatus is one consumer as it is now. Lag, offsets and high-water
// marks are of the partitions assigned to this member.
type ConsumerStatus struct {
	ID               string            `json:"id"`
	Name             string            `json:"name"`
	Status           State             `json:"status"`
	Desired          config.State      `json:"desired"`
	Brokers          []string          `json:"brokers"`
	Cluster          string            `json:"cluster"`
	Group            string            `json:"group"`
	Topics           []string          `json:"topics"` // of topics_regex: those that match
	TopicsRegex      string            `json:"topics_regex,omitempty"`
	Sink             string            `json:"sink"`
	MemberIDs        []string          `json:"member_ids"`
	Generation       int32             `json:"generation"`
	CreatedAt        time.Time         `json:"created_at"`
	StatusSince      time.Time         `json:"status_since"`
	RecordsTotal     int64             `json:"records_total"`
	BytesTotal       int64             `json:"bytes_total"`
	RecordsPerSecond float64           `json:"records_per_second"`
	Lag              int64             `json:"lag"`
	RebalancesTotal  int64             `json:"rebalances_total"`
	RestartsTotal    int64             `json:"restarts_total"`
	LastRecordAt     *time.Time        `json:"last_record_at"`
	LastFlushAt      *time.Time        `json:"last_flush_at"`
	LastError        *string           `json:"last_error"`     // the cause while something fails, else null
	PendingChange    *PendingChange    `json:"pending_change"` // a wanted change that waits, else null
	Partitions       []PartitionStatus `json:"partitions"`
}

// A PendingChange is a change that is wanted and tried first, while the
// consumer goes on in its former form.
type PendingChange struct {
	Action    Op         `json:"action"`      // replace, resubscribe or reconnect
	Fields    []string   `json:"fields"`      // of the file
	Since     time.Time  `json:"since"`       // when it was asked for
	Tries     int        `json:"tries"`       // probes so far, one under way included
	Error     *string    `json:"error"`       // why it cannot be made yet; null before that is known
	NextTryAt *time.Time `json:"next_try_at"` // null while a probe is under way, or what it waits for needs none
}

// PartitionStatus is one assigned partition. CommittedOffset is -1 while the
// group has committed nothing.
type PartitionStatus struct {
	Topic           string `json:"topic"`
	Partition       int32  `json:"partition"`
	NextOffset      int64  `json:"next_offset"`
	CommittedOffset int64  `json:"committed_offset"`
	HighWaterMark   int64  `json:"high_water_mark"`
	Lag             int64  `json:"lag"`
}

// Ended is a consumer that is gone.
type Ended struct {
	Name         string    `json:"name"`
	ID           string    `json:"id"`
	At           time.Time `json:"at"`
	Clean        bool      `json:"clean"` // everything was flushed, committed and closed in time
	RecordsTotal int64     `json:"records_total"`
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
	c      *consumer
	spec   config.Consumer
	ending bool
	next   *PendingChange
}

type zombie struct {
	c     *consumer
	since time.Time
}

// publish makes the round's result visible. Consumers come in the order of
// the file, ones that are ending and no longer in it last.
func (a *Agent) publish() {
	s := &snapshot{note: a.note, config: a.config, terminated: a.terminated[:len(a.terminated):len(a.terminated)]}
	listed := make(map[string]bool, len(a.entries))
	add := func(name string) {
		if e := a.entries[name]; e != nil && !listed[name] {
			listed[name] = true
			s.rows = append(s.rows, row{e.c, e.spec, e.ending, e.next.pending()})
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
		s.zombies = append(s.zombies, zombie{z.c, z.since})
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
		c := r.status()
		s.Summary[c.Status]++
		s.Consumers = append(s.Consumers, c)
		changing = changing || r.changing(c.Status)
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
func (r row) changing(now State) bool {
	switch {
	case r.next != nil, r.ending || now == Starting || now == Stopping:
		return true
	case now == Failing:
		return false
	}
	if v := r.c.view.Load(); r.spec.State != config.Stopped && v.Wish != nil && !sameTopics(v.Wish, &r.spec) {
		return true // the same member is to join again
	}
	return now != map[config.State]State{
		config.Running: Running, config.Paused: Paused, config.Stopped: Created,
	}[r.spec.State]
}

func (r row) status() ConsumerStatus {
	v, st := r.c.view.Load(), &r.c.stats
	s := ConsumerStatus{
		ID: r.c.id, Name: r.c.name, Status: v.State, Desired: r.spec.State,
		Brokers: r.spec.Cluster.Brokers, Cluster: r.spec.ClusterName, Group: r.spec.Group,
		Topics: r.spec.Topics, TopicsRegex: r.spec.TopicsRegex, Sink: r.spec.Sink.String(),
		MemberIDs: []string{}, Generation: v.Generation,
		CreatedAt: r.c.created, StatusSince: v.Since,
		RecordsTotal: st.records.Load(), BytesTotal: st.bytes.Load(), RecordsPerSecond: st.perSecond(),
		RebalancesTotal: st.rebalances.Load(), RestartsTotal: st.restarts.Load(),
		LastRecordAt: timeOf(st.lastRecord.Load()), LastFlushAt: timeOf(st.lastFlush.Load()),
		PendingChange: r.next, Partitions: make([]PartitionStatus, 0, len(v.Partitions)),
	}
	if r.spec.TopicsRegex != "" {
		s.Topics = append([]string{}, v.Topics...)
	}
	if v.MemberID != "" {
		s.MemberIDs = append(s.MemberIDs, v.MemberID)
	}
	if v.Fault != "" {
		s.LastError = &v.Fault
	}
	for _, p := range v.Partitions {
		lag := p.lag()
		s.Lag += lag
		s.Partitions = append(s.Partitions, PartitionStatus{
			Topic: p.Topic, Partition: p.Partition, NextOffset: p.next(),
			CommittedOffset: p.committedOffset(), HighWaterMark: p.highWaterMark(), Lag: lag,
		})
	}
	return s
}

func timeOf(nano int64) *time.Time {
	if nano == 0 {
		return nil
	}
	t := time.Unix(0, nano)
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
		if v := r.c.view.Load(); !v.Started && r.spec.State != config.Stopped {
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
