// Package systemd reports the state of the agent to systemd by the protocol of sd_notify(3):
// READY, STATUS, RELOADING, STOPPING and the pings of the watchdog. Without NOTIFY_SOCKET it
// does nothing.
//
// Start reading with [Notifier.Run].
package systemd

import (
	"context"
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
	// repeatInterval is the pause after a message that the socket has not accepted.
	repeatInterval = time.Second
)

// Run reports until ended is done. The agent has to stop when stop is done, and ended is done
// after that. Run sends
//   - READY when the first file is accepted: an outage of Kafka does not delay the start;
//   - STATUS when the text has changed, which Run checks each second;
//   - RELOADING and READY around a reload by SIGHUP;
//   - WATCHDOG at a quarter of the interval of systemd's watchdog, each time after the agent's
//     loop has responded;
//   - STOPPING when stop is done.
//
// While the socket accepts no message, Run repeats each second what systemd has not received.
func (n *Notifier) Run(stop, ended context.Context, o Options) {
	if n.send == nil {
		return
	}
	r := run{Notifier: n, Options: o, next: time.NewTimer(0)}
	defer r.next.Stop()
	alive := make(chan bool)
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
		case r.ping = <-alive:
		case <-r.next.C:
			r.look()
		}
		r.report()
	}
}

// A state is what systemd knows about the agent.
type state struct {
	phase  string // READY=1, RELOADING=1 or STOPPING=1, with its further variables; "" before READY
	status string // the text of STATUS; "" before READY
}

// A run is the state of Run. Only its goroutine uses the fields below the options.
type run struct {
	*Notifier
	Options

	next      *time.Timer // of look
	want      state       // what systemd has to know
	sent      state       // what the socket has accepted
	ping      bool        // the loop has responded, and the ping for it was not accepted yet
	reloading time.Time   // when the reload began; zero without one
	stopped   bool
	failing   bool // the socket did not accept the last message
}

// watch checks at a quarter of the watchdog's interval that the agent's loop responds, and sends
// the result to alive. If the loop does not respond, Run sends no ping, and systemd kills the
// agent. After a lost ping, or a loop that hung for less than three quarters of the interval, the
// next ping is still in time.
func (r *run) watch(ended context.Context, alive chan<- bool) {
	interval := r.watchdog / 4
	ping := time.NewTicker(interval)
	defer ping.Stop()
	for {
		select {
		case <-ping.C:
		case <-ended.Done():
			return
		}
		select {
		case alive <- r.Agent.Alive(interval):
		case <-ended.Done():
			return
		}
	}
}

// look compares the agent with what systemd has to know.
func (r *run) look() {
	if r.stopped {
		return
	}
	r.next.Reset(verdictInterval)
	s := r.Agent.Summary()
	if r.want.phase == "" && s.Config.SHA256 == "" {
		return
	}
	if r.reloading.IsZero() || r.sent.phase == r.want.phase && r.decided(&s) {
		r.want.phase, r.reloading = "READY=1", time.Time{}
		r.next.Reset(statusInterval)
	}
	r.want.status = Text(&s)
}

// decided reports whether the agent has accepted or rejected the file as it is now, or the
// reload has lasted too long.
func (r *run) decided(s *web.Status) bool {
	sum, _ := filewatch.SumFile(r.File) // "" if it cannot be read, as in the status
	return s.Config.FileSHA256 == sum || time.Since(r.reloading) > maxReload
}

// reload begins a reload, unless systemd still waits for the start. It ends once systemd has
// received its beginning, and the agent has accepted or rejected the file as it is then.
func (r *run) reload() {
	if r.sent.phase == "" || r.stopped {
		return
	}
	r.reloading = time.Now()
	r.want.phase = "RELOADING=1\n" + monotonicUsec()
	r.next.Reset(verdictInterval)
}

// stop reports that the agent stops. It extends systemd's timeout to what --shutdown-timeout
// permits.
func (r *run) stop() {
	r.stopped = true
	r.want = state{
		phase:  "STOPPING=1\nEXTEND_TIMEOUT_USEC=" + strconv.FormatInt(r.StopTime.Microseconds(), 10),
		status: "shutting down",
	}
}

// report sends in one message what systemd does not know yet. If the socket does not accept it,
// report logs the first of several errors, and is called again after repeatInterval.
func (r *run) report() {
	var changes []string
	if r.want.phase != r.sent.phase {
		changes = append(changes, r.want.phase)
	}
	if r.want.status != r.sent.status {
		changes = append(changes, "STATUS="+r.want.status)
	}
	if r.ping {
		changes = append(changes, "WATCHDOG=1")
	}
	if len(changes) == 0 {
		return
	}
	if err := r.send(strings.Join(changes, "\n")); err != nil {
		if !r.failing {
			r.Log.Warn("systemd does not receive the state of the agent", logkey.Error, err)
		}
		r.failing = true
		r.next.Reset(repeatInterval)
		return
	}
	r.sent, r.ping, r.failing = r.want, false, false
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
