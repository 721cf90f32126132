// Package systemd reports the state of the agent to systemd by the protocol of sd_notify(3):
// READY, STATUS, RELOADING, STOPPING and the pings of the watchdog. Without NOTIFY_SOCKET it
// does nothing.
//
// Start reading with [Notifier.Run].
package systemd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/config/filewatch"
	"kcagent/logkey"
)

// An Agent has the state that the notifier reports.
type Agent interface {
	// Alive reports whether the agent's loop responds within timeout. Once the agent has ended,
	// it returns false without waiting.
	Alive(timeout time.Duration) bool
	// Summary returns at least the configuration and the number of consumers by status.
	Summary() web.Status
}

// Options are what a notifier reports. All of them are required.
type Options struct {
	Agent Agent
	File  string          // the configuration file
	Hup   <-chan struct{} // the agent was asked to read its files at once
	// StopTime is the maximum time from the end of the context to the end of the process.
	StopTime time.Duration
	Log      *slog.Logger
}

const (
	// statusInterval is how often the text of the status is compared with the last one.
	// Consumers change their states without the agent's loop, so nothing signals a change.
	statusInterval = time.Second
	// verdictInterval is how often the notifier checks whether a file was accepted, while
	// systemd waits for it.
	verdictInterval = 50 * time.Millisecond
	// maxReload is how long a reload lasts at most. A file that is written all the time is
	// never the one that the agent has read.
	maxReload = 10 * time.Second
)

// Run reports until ended is done. The agent has to stop when stop is done, and ended is done
// after that. Run sends
//   - READY when the first file is accepted: an outage of Kafka does not delay the start;
//   - STATUS with each change of the text, at most once a second;
//   - RELOADING and READY around a reload by SIGHUP;
//   - WATCHDOG at half of the interval of systemd's watchdog, each time after the agent's loop
//     has responded;
//   - STOPPING when stop is done.
func (n *Notifier) Run(stop, ended context.Context, o Options) {
	if n.send == nil {
		return
	}
	r := run{Notifier: n, Options: o, next: time.NewTimer(0)}
	defer r.next.Stop()
	alive := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	if n.watchdog > 0 {
		watching.Go(func() { r.watch(ended, alive) })
	}
	stopping := stop.Done()
	for {
		select {
		case <-ended.Done():
			return
		case <-stopping:
			stopping = nil
			r.stop()
		case <-o.Hup:
			r.reload()
		case <-alive:
			r.report("WATCHDOG=1")
		case <-r.next.C:
			r.update()
		}
	}
}

// A run is the state of Run. Only its goroutine uses the fields below the options.
type run struct {
	*Notifier
	Options

	next      *time.Timer // of update
	ready     bool        // READY was sent
	reloading time.Time   // when the reload began; zero without one
	stopped   bool        // STOPPING was sent
	status    string      // sent last
	failing   bool        // the last message was not sent
}

// watch checks at half of the watchdog's interval that the agent's loop responds, and sends each
// response to alive. Without a response there is no ping, and systemd kills the agent.
func (r *run) watch(ended context.Context, alive chan<- struct{}) {
	interval := r.watchdog / 2
	ping := time.NewTicker(interval)
	defer ping.Stop()
	for {
		select {
		case <-ping.C:
		case <-ended.Done():
			return
		}
		if r.Agent.Alive(interval) {
			select {
			case alive <- struct{}{}:
			case <-ended.Done():
				return
			}
		}
	}
}

// update sends what has changed.
func (r *run) update() {
	if r.stopped {
		return
	}
	s := r.Agent.Summary()
	var changes []string
	switch {
	case !r.ready && s.Config.SHA256 == "":
		r.next.Reset(verdictInterval)
		return
	case !r.ready:
		r.ready = true
		changes = append(changes, "READY=1")
	case !r.reloading.IsZero() && (s.Config.FileSHA256 == sumOf(r.File) || time.Since(r.reloading) > maxReload):
		r.reloading = time.Time{}
		changes = append(changes, "READY=1")
	}
	if text := Text(&s); text != r.status {
		r.status = text
		changes = append(changes, "STATUS="+text)
	}
	if len(changes) > 0 {
		r.report(changes...)
	}
	r.next.Reset(statusInterval)
	if !r.reloading.IsZero() {
		r.next.Reset(verdictInterval)
	}
}

// reload begins a reload. It ends once the agent has accepted or rejected the file as it is
// then.
func (r *run) reload() {
	if !r.ready || r.stopped {
		return
	}
	r.reloading = time.Now()
	r.report("RELOADING=1", monotonicUsec())
	r.next.Reset(0)
}

// stop reports that the agent stops. It extends systemd's timeout to what --shutdown-timeout
// permits.
func (r *run) stop() {
	r.stopped = true
	r.report("STOPPING=1", "STATUS=shutting down", "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(r.StopTime.Microseconds(), 10))
}

// report sends a message, and logs the first of several errors.
func (r *run) report(assignments ...string) {
	err := r.send(strings.Join(assignments, "\n"))
	if err != nil && !r.failing {
		r.Log.Warn("systemd does not receive the state of the agent", logkey.Error, err)
	}
	r.failing = err != nil
}

// sumOf returns the SHA-256 of a file as /status shows it: "" if the file cannot be read.
func sumOf(path string) string {
	data, _, err := filewatch.ReadFile(path)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// words has the names of the states in the status text.
var words = map[consumer.State]string{
	consumer.Failing: "in error", consumer.Stopping: "stopping", consumer.Starting: "starting",
	consumer.Running: "running", consumer.Paused: "paused", consumer.Created: "stopped",
}

// Text is the status as one short line, such as
// "3 consumers: 1 in error, 2 running; configuration accepted".
func Text(s *web.Status) string {
	var parts []string
	total := 0
	for _, state := range web.StatesByUrgency {
		if n := s.Summary[state]; n > 0 {
			total += n
			parts = append(parts, strconv.Itoa(n)+" "+words[state])
		}
	}
	return count(total, "consumer") + separate(": ", strings.Join(parts, ", ")) + "; configuration " + verdict(&s.Config)
}

func verdict(c *web.ConfigStatus) string {
	if n := len(c.Problems); n > 0 {
		return fmt.Sprintf("rejected: %s, the previous one is in force", count(n, "problem"))
	}
	return "accepted"
}

// separate puts a separator before a text that is not empty.
func separate(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}
