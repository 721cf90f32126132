package agenttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"kcagent/e2e/wait"
)

// A Status holds /status. Its types follow the documented contract and are independent of
// those of the agent, so that a test sees what a program of a user sees.
type Status struct {
	Agent struct {
		Version   string    `json:"version"`
		Hostname  string    `json:"hostname"`
		PID       int       `json:"pid"`
		StartedAt time.Time `json:"started_at"`
	} `json:"agent"`
	Config struct {
		Path       string     `json:"path"`
		State      string     `json:"state"`
		SHA256     string     `json:"sha256"`
		AppliedAt  *time.Time `json:"applied_at"`
		FileSHA256 string     `json:"file_sha256"`
		Problems   []Problem  `json:"problems"`
	} `json:"config"`
	Summary    map[string]int `json:"summary"`
	Resources  Resources      `json:"resources"`
	Consumers  []Consumer     `json:"consumers"`
	Terminated []Terminated   `json:"terminated"`
}

// Resources holds what the process uses.
type Resources struct {
	Goroutines       int     `json:"goroutines"`
	OSThreads        int     `json:"os_threads"`
	OpenFDs          int     `json:"open_fds"`
	RSSBytes         int64   `json:"rss_bytes"`
	HeapBytes        int64   `json:"heap_bytes"`
	MemoryLimitBytes int64   `json:"memory_limit_bytes"`
	CPUSeconds       float64 `json:"cpu_seconds"`
}

// A Problem is a problem of the configuration file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// A Consumer is one consumer in /status.
type Consumer struct {
	ID               string     `json:"id"`
	Name             string     `json:"name"`
	Status           string     `json:"status"`
	Desired          string     `json:"desired"`
	Brokers          []string   `json:"brokers"`
	Cluster          string     `json:"cluster"`
	Group            string     `json:"group"`
	Topics           []string   `json:"topics"`
	Sink             string     `json:"sink"`
	MemberIDs        []string   `json:"member_ids"`
	Generation       int32      `json:"generation"`
	CreatedAt        time.Time  `json:"created_at"`
	StatusSince      time.Time  `json:"status_since"`
	RecordsTotal     int64      `json:"records_total"`
	BytesTotal       int64      `json:"bytes_total"`
	RecordsPerSecond float64    `json:"records_per_second"`
	Lag              *int64     `json:"lag"`
	LagSeconds       *float64   `json:"lag_seconds"`
	CatchUpSeconds   *float64   `json:"catch_up_seconds"`
	RebalancesTotal  int64      `json:"rebalances_total"`
	RestartsTotal    int64      `json:"restarts_total"`
	LastRecordAt     *time.Time `json:"last_record_at"`
	LastFlushAt      *time.Time `json:"last_flush_at"`
	LastError        *string    `json:"last_error"`
	RecentErrors     []struct {
		Text  string `json:"error"`
		Count int    `json:"count"`
	} `json:"recent_errors"`
	PendingChange *Pending    `json:"pending_change"`
	Partitions    []Partition `json:"partitions"`
}

// A Pending is a pending change of a consumer.
type Pending struct {
	Action    string     `json:"action"`
	Fields    []string   `json:"fields"`
	Tries     int        `json:"tries"`
	Error     string     `json:"error"`
	NextTryAt *time.Time `json:"next_try_at"`
}

// A Partition is one assigned partition of a consumer.
type Partition struct {
	Topic           string   `json:"topic"`
	Partition       int32    `json:"partition"`
	NextOffset      int64    `json:"next_offset"`
	CommittedOffset int64    `json:"committed_offset"`
	HighWaterMark   int64    `json:"high_water_mark"`
	Lag             *int64   `json:"lag"`
	LagSeconds      *float64 `json:"lag_seconds"`
	CatchUpSeconds  *float64 `json:"catch_up_seconds"`
}

// A Terminated is a consumer that has ended.
type Terminated struct {
	Name         string    `json:"name"`
	At           time.Time `json:"at"`
	Clean        bool      `json:"clean"`
	RecordsTotal int64     `json:"records_total"`
}

// Threads holds /threads.
type Threads struct {
	Goroutines int `json:"goroutines"`
	OSThreads  int `json:"os_threads"`
	Threads    []struct {
		Consumer   *string `json:"consumer"`
		Recognized bool    `json:"recognized"`
		Count      int     `json:"count"`
		Function   string  `json:"function"`
		State      string  `json:"state"`
	} `json:"threads"`
	Consumers map[string]int `json:"consumers"`
	Zombies   []struct {
		Consumer   string    `json:"consumer"`
		Since      time.Time `json:"since"`
		Goroutines int       `json:"goroutines"`
		Functions  []string  `json:"functions"`
	} `json:"zombies"`
}

// Error returns last_error, or "" if there is none.
func (c Consumer) Error() string {
	if c.LastError == nil {
		return ""
	}
	return *c.LastError
}

// HasLag reports whether the lag is known to be n records.
func (c Consumer) HasLag(n int64) bool { return c.Lag != nil && *c.Lag == n }

// Committed returns the sum of the committed offsets of its partitions.
func (c Consumer) Committed() int64 {
	var n int64
	for _, p := range c.Partitions {
		n += max(0, p.CommittedOffset)
	}
	return n
}

// Consumer returns a consumer by name.
func (s Status) Consumer(name string) (Consumer, bool) {
	i := slices.IndexFunc(s.Consumers, func(c Consumer) bool { return c.Name == name })
	if i < 0 {
		return Consumer{}, false
	}
	return s.Consumers[i], true
}

// Ended returns the consumer with a name that ended last.
func (s Status) Ended(name string) (Terminated, bool) {
	for _, e := range slices.Backward(s.Terminated) {
		if e.Name == name {
			return e, true
		}
	}
	return Terminated{}, false
}

// JSON decodes a page into v.
func (a *Agent) JSON(path string, v any) {
	a.t.Helper()
	code, body := a.Get(path)
	if code != http.StatusOK {
		a.t.Fatalf("GET %s: code %d: %s", path, code, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		a.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// Status reads /status.
func (a *Agent) Status() Status {
	a.t.Helper()
	var s Status
	a.JSON("/status", &s)
	return s
}

// Threads reads /threads.
func (a *Agent) Threads() Threads {
	a.t.Helper()
	var th Threads
	a.JSON("/threads", &th)
	return th
}

// Consumer reads one consumer, which must exist.
func (a *Agent) Consumer(name string) Consumer {
	a.t.Helper()
	var c Consumer
	a.JSON("/status/"+name, &c)
	return c
}

// WaitStatus waits until ok holds for the status, and returns that status.
func (a *Agent) WaitStatus(what string, ok func(Status) bool) Status {
	a.t.Helper()
	var s Status
	wait.For(a.t, wait.Timeout, what, func() error {
		if s = a.Status(); ok(s) {
			return nil
		}
		return errors.New("the status is " + brief(s))
	})
	return s
}

// WaitConsumer waits until ok holds for a consumer, and returns it.
func (a *Agent) WaitConsumer(name, what string, ok func(Consumer) bool) Consumer {
	a.t.Helper()
	var found Consumer
	wait.For(a.t, wait.Timeout, name+" to "+what, func() error {
		var is bool
		if found, is = a.Status().Consumer(name); !is {
			return fmt.Errorf("consumer %s not found", name)
		}
		if ok(found) {
			return nil
		}
		text, err := json.Marshal(found)
		return errors.Join(fmt.Errorf("it is %s", text), err)
	})
	return found
}

// WaitState waits until a consumer has a status, such as RUNNING.
func (a *Agent) WaitState(name, status string) Consumer {
	a.t.Helper()
	return a.WaitConsumer(name, "be "+status, func(c Consumer) bool { return c.Status == status })
}

// brief returns the part of a status that explains why a wait continues.
func brief(s Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "config %s sha256 %.8s file %.8s problems %v; summary %v", s.Config.State, s.Config.SHA256, s.Config.FileSHA256, s.Config.Problems, s.Summary)
	for _, c := range s.Consumers[:min(len(s.Consumers), 8)] {
		fmt.Fprintf(&b, "; %s is %s, desired %s %s", c.Name, c.Status, c.Desired, c.Error())
	}
	return b.String()
}
