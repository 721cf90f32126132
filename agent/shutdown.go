package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/logkey"
)

// shutdown stops all consumers at once and waits for them, within ShutdownTimeout. Its
// error names those that did not end cleanly.
func (a *Agent) shutdown() error {
	a.log.Info("shutting down", logkey.Timeout, a.opts.ShutdownTimeout.String())
	deadline := time.NewTimer(a.opts.ShutdownTimeout)
	defer deadline.Stop()
	alive := a.stopAll()
	a.publish()
	progress := time.NewTicker(50 * time.Millisecond)
	defer progress.Stop()
	var unclean []string
	for len(alive) > 0 {
		select {
		case <-progress.C:
			a.publish()
		case e := <-a.ended:
			delete(alive, e)
			if err := e.runner.Snapshot().EndError; err != nil {
				unclean = append(unclean, fmt.Sprintf("%s: %v", e.name, err))
			}
			a.handleEnd(e)
		case <-a.overdue: // only the deadline of the shutdown counts
		case pong := <-a.pings:
			close(pong)
		case <-deadline.C:
			for e := range alive {
				unclean = append(unclean, e.name+": did not stop in time")
			}
			alive = nil
		}
	}
	a.outages.Close()
	a.clusters.Close()
	a.publish()
	if len(unclean) > 0 {
		slices.Sort(unclean)
		return errors.New("shut down: not every consumer ended cleanly: " + strings.Join(unclean, "; "))
	}
	a.log.Info("shut down cleanly")
	return nil
}

// stopAll stops every consumer that runs. It returns all that have a goroutine, zombies
// included.
func (a *Agent) stopAll() map[*entry]bool {
	alive := make(map[*entry]bool)
	for _, e := range a.entries {
		if e.cancel != nil {
			e.ending = true
			a.discard(e, consumerStops)
			a.stop(e, consumer.StopReason{To: consumer.Terminated, Why: "the agent shuts down", Restarts: true})
			alive[e] = true
		}
	}
	for _, z := range a.zombies {
		alive[z] = true
	}
	return alive
}
