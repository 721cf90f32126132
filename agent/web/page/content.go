package page

import (
	"fmt"
	"strconv"
	"time"
)

// Unknown is shown for a figure that is not known.
const Unknown = "–"

// Content is what the page shows before its scripts run, and without them.
type Content struct {
	Version, Host string
	At            time.Time // when the content was read
	Config        Config
	Summary       []Count    // in the order in which states are sorted
	Consumers     []Consumer // the first ones by urgency
	Total         int        // all consumers
}

// Config is the state of the configuration.
type Config struct {
	Path      string
	State     string // synced, applying or rejected
	AppliedAt *time.Time
	Problems  []Problem
}

// A Problem is a located problem of the file.
type Problem struct{ Place, Path, Message, Hint string }

// A Count is the number of consumers in a state.
type Count struct {
	State string
	Count int
}

// A Consumer is one row.
type Consumer struct {
	Name, State, Group, Sink string
	Since                    time.Time
	Lag, LagTime, CatchUp    string
	Rate, Records            string
	Note                     string // the error, or what a pending change waits for
}

// count returns the number of consumers in a state.
func (l *Content) count(state string) int {
	for _, c := range l.Summary {
		if c.State == state {
			return c.Count
		}
	}
	return 0
}

// Title is the title of the page: the state of the agent, as the scripts show it.
func (l *Content) Title() string {
	name := "kcagent " + l.Host
	switch n := l.count("ERROR"); {
	case l.Config.State == "rejected" && n > 0:
		return fmt.Sprintf("(rejected, %d ERROR) %s", n, name)
	case l.Config.State == "rejected":
		return "(rejected) " + name
	case n > 0:
		return fmt.Sprintf("(%d ERROR) %s", n, name)
	case l.Config.State == "applying":
		return "(applying) " + name
	}
	return name
}

// Icon is the name of the asset that shows the state of the agent.
func (l *Content) Icon() string {
	switch {
	case l.Config.State == "rejected" || l.count("ERROR") > 0:
		return "error"
	case l.Config.State == "applying":
		return "change"
	}
	return "ok"
}

// Verdict says in a sentence which configuration is in force.
func (c *Config) Verdict() string {
	if c.AppliedAt == nil {
		return "No configuration is in force yet."
	}
	applied := "configuration applied at " + c.AppliedAt.Format(time.DateTime)
	switch c.State {
	case "rejected":
		return "The file has problems. The " + applied + " stays in force."
	case "applying":
		return "The " + applied + " is in force. Not every consumer has converged yet."
	}
	return "The " + applied + " is in force."
}

// Range says which consumers the page shows.
func (l *Content) Range() string {
	if len(l.Consumers) < l.Total {
		return fmt.Sprintf("the first %d of %d consumers", len(l.Consumers), l.Total)
	}
	return strconv.Itoa(l.Total) + " consumers"
}

// Duration returns a time span with one unit, such as 12 s, 5 min, 3 h or 4 d.
func Duration(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " d"
}
