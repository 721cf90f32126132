package outage

import (
	"cmp"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/agent/kafka"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/logkey"
)

// outageDelay is how long an outage lasts before it is logged, so that the first line
// counts all consumers that lose the cluster together.
const outageDelay = 5 * time.Second

// A Log logs which clusters fail for how many consumers: one line for a cluster and a
// cause, instead of one for each consumer. Each consumer logs only when it goes to ERROR
// and back. An outage outlives the cluster's fetcher, which ends while all its consumers
// wait for their next retry. Its methods are safe for concurrent use.
type Log struct {
	*condition.Log // reminders of what concerns single consumers

	log   *slog.Logger
	Delay time.Duration // tests shorten it

	mu   sync.Mutex
	open []*outage
}

// An outage is one cluster that fails for at least one consumer. Log.mu guards it.
type outage struct {
	reach     config.Cluster // see [kafka.ReachOf]
	name      string
	failing   map[string]clusterFault // by consumer id; zero: in ERROR for another cause by now
	recovered bool                    // a consumer has left ERROR since
	causes    CauseLog
	due       bool // lines have been due once
	announced bool // a line was logged
	timer     *time.Timer
}

// A clusterFault is why a cluster fails for one consumer.
type clusterFault struct{ consumer, cause, key string }

// NewLog returns a log of outages that writes to log.
func NewLog(log *slog.Logger) *Log {
	return &Log{Log: condition.NewLog(log), log: log, Delay: outageDelay}
}

// Report records that the consumer with this id is in ERROR because its cluster fails; see
// [ClusterCause] for cause and key.
func (l *Log) Report(id string, spec *config.Consumer, cause, key string) {
	reach := kafka.ReachOf(spec.Cluster)
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.open, func(o *outage) bool { return reflect.DeepEqual(o.reach, reach) })
	if i < 0 {
		o := &outage{reach: reach, name: cmp.Or(spec.ClusterName, strings.Join(spec.Cluster.Brokers, ",")), failing: make(map[string]clusterFault)}
		o.causes.since = time.Now()
		o.causes.logged = make(map[string]struct{})
		o.timer = time.AfterFunc(l.Delay, func() { l.write(o) })
		i, l.open = len(l.open), append(l.open, o)
	}
	l.open[i].failing[id] = clusterFault{spec.Name, cause, key}
}

// ReportOther records that the consumer is in ERROR for another cause now. Until a consumer
// recovers the outage may continue: while brokers restart, causes of the cluster alternate
// with others.
func (l *Log) ReportOther(id string) {
	l.change(id, func(o *outage) { o.failing[id] = clusterFault{} })
}

// Resolve records that the consumer is no longer in ERROR. recovered is false if it was
// stopped.
func (l *Log) Resolve(id string, recovered bool) {
	l.change(id, func(o *outage) {
		delete(o.failing, id)
		o.recovered = o.recovered || recovered
	})
}

// change changes the outage of the consumer, if there is one, and logs its end.
func (l *Log) change(id string, change func(*outage)) {
	l.mu.Lock()
	i := slices.IndexFunc(l.open, func(o *outage) bool { _, ok := o.failing[id]; return ok })
	if i < 0 {
		l.mu.Unlock()
		return
	}
	o := l.open[i]
	change(o)
	ends := len(o.failing) == 0 || o.recovered && o.consumers() == 0
	if ends {
		o.failing = nil // the timer may run already
		o.timer.Stop()
		l.open = slices.Delete(l.open, i, i+1)
	}
	logs := ends && o.announced && o.recovered
	l.mu.Unlock()
	if logs {
		l.log.Info("connections to the cluster work again", logkey.Cluster, o.name, logkey.Lasted, o.causes.Lasts(time.Now()))
	}
}

// consumers returns for how many consumers the cluster fails.
func (o *outage) consumers() (n int) {
	for _, f := range o.failing {
		if f != (clusterFault{}) {
			n++
		}
	}
	return n
}

// write logs the new causes of an outage, and the reminder when it is due.
func (l *Log) write(o *outage) {
	l.mu.Lock()
	var lines []outageLine
	if now := time.Now(); len(o.failing) > 0 {
		lines = o.lines(l.Every, now)
		o.timer.Reset(l.Delay)
	}
	l.mu.Unlock()
	for _, line := range lines {
		attrs := []any{logkey.Cluster, o.name, logkey.Consumers, line.consumers}
		if line.consumer != "" {
			attrs = append(attrs, logkey.Consumer, line.consumer)
		}
		attrs = append(attrs, logkey.Cause, line.cause, logkey.Lasts, line.lasts)
		l.log.Warn("connections to the cluster fail", attrs...)
	}
}

// An outageLine is what is logged of an outage at one time.
type outageLine struct {
	consumers    int
	consumer     string // the name of the consumer, if there is only one
	cause, lasts string
}

// lines returns what is to be logged now.
func (o *outage) lines(every time.Duration, now time.Time) (lines []outageLine) {
	count := make(map[string]int)
	cause := make(map[string]string)
	for _, f := range o.failing {
		if f == (clusterFault{}) {
			continue
		}
		count[f.key]++
		if was, ok := cause[f.key]; !ok || f.cause < was {
			cause[f.key] = f.cause
		}
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	many := o.consumers() > 1
	for _, key := range keys {
		news := o.causes.News(key, every, now)
		if !many && !o.due {
			continue // the consumer has logged it
		}
		if news || many && !o.announced {
			o.announced, o.causes.last = true, now
			lines = append(lines, outageLine{o.consumers(), o.onlyConsumer(), cause[key], o.causes.Lasts(now)})
		}
	}
	o.due = true
	return lines
}

// onlyConsumer returns the name of the consumer for which the cluster fails; "" if there are
// several.
func (o *outage) onlyConsumer() string {
	if o.consumers() == 1 {
		for _, f := range o.failing {
			if f != (clusterFault{}) {
				return f.consumer
			}
		}
	}
	return ""
}
