package agent

import (
	"cmp"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/config"
)

// outageSettle is how long an outage lasts before it is logged, so that the first line
// counts all consumers that lose the cluster together.
const outageSettle = 5 * time.Second

// outages logs which clusters fail for how many consumers. Each consumer's own lines say
// when it goes to ERROR and back; what happens between the two concerns the cluster, and
// is logged once for all its consumers. An outage outlives the cluster's fetcher, which
// ends while all its consumers wait for their next retry.
type outages struct {
	log    *slog.Logger
	settle time.Duration // tests shorten both
	every  time.Duration

	mu   sync.Mutex
	open []*outage
}

// An outage is one cluster that fails for at least one consumer. outages.mu guards it.
type outage struct {
	reach     config.Cluster // how to reach it, see reachOf
	name      string
	failing   map[*consumer]clusterFault // zero: in ERROR for another cause by now
	recovered bool                       // a consumer has left ERROR since
	causes    causeLog
	looked    bool // a report has been due
	announced bool // it was logged
	timer     *time.Timer
}

type clusterFault struct{ cause, key string }

func newOutages(log *slog.Logger) *outages {
	return &outages{log: log, settle: outageSettle, every: remindEvery}
}

// fails records that c is in ERROR because its cluster fails.
func (os *outages) fails(c *consumer, spec *config.Consumer, f clusterFault) {
	reach := reachOf(spec.Cluster)
	os.mu.Lock()
	defer os.mu.Unlock()
	i := slices.IndexFunc(os.open, func(o *outage) bool { return reflect.DeepEqual(o.reach, reach) })
	if i < 0 {
		o := &outage{reach: reach, name: cmp.Or(spec.ClusterName, strings.Join(spec.Cluster.Brokers, ",")), failing: make(map[*consumer]clusterFault)}
		o.causes.since = time.Now()
		o.causes.logged = make(map[string]struct{})
		o.timer = time.AfterFunc(os.settle, func() { os.look(o) })
		i, os.open = len(os.open), append(os.open, o)
	}
	os.open[i].failing[c] = f
}

// elsewhere records that c is in ERROR for another cause now. Until a consumer recovers
// the outage may go on: while brokers restart, causes of the cluster alternate with others.
func (os *outages) elsewhere(c *consumer) {
	os.change(c, func(o *outage) { o.failing[c] = clusterFault{} })
}

// over records that c is no longer in ERROR. recovered is false if it was stopped.
func (os *outages) over(c *consumer, recovered bool) {
	os.change(c, func(o *outage) {
		delete(o.failing, c)
		o.recovered = o.recovered || recovered
	})
}

// change changes the outage of c, if there is one, and logs its end.
func (os *outages) change(c *consumer, change func(*outage)) {
	os.mu.Lock()
	i := slices.IndexFunc(os.open, func(o *outage) bool { _, ok := o.failing[c]; return ok })
	if i < 0 {
		os.mu.Unlock()
		return
	}
	o := os.open[i]
	change(o)
	ends := len(o.failing) == 0 || o.recovered && o.consumers() == 0
	if ends {
		o.failing = nil // the timer may run already
		o.timer.Stop()
		os.open = slices.Delete(os.open, i, i+1)
	}
	logs := ends && o.announced && o.recovered
	os.mu.Unlock()
	if logs {
		os.log.Info("connections to the cluster work again", "cluster", o.name, "lasted", o.causes.lasts(time.Now()))
	}
}

// consumers is for how many the cluster fails.
func (o *outage) consumers() (n int) {
	for _, f := range o.failing {
		if f != (clusterFault{}) {
			n++
		}
	}
	return n
}

// look logs what is new of an outage, and the reminder when it is due.
func (os *outages) look(o *outage) {
	os.mu.Lock()
	var lines [][]any
	if now := time.Now(); len(o.failing) > 0 {
		lines = o.lines(os.every, now)
		o.timer.Reset(os.settle)
	}
	os.mu.Unlock()
	for _, attrs := range lines {
		os.log.Warn("connections to the cluster fail", attrs...)
	}
}

// lines returns the attributes of each line to log.
func (o *outage) lines(every time.Duration, now time.Time) (lines [][]any) {
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
		news := o.causes.news(key, every, now)
		if !many && !o.looked {
			continue // the consumer's own line has it
		}
		if news || many && !o.announced {
			o.announced, o.causes.last = true, now
			lines = append(lines, append(o.who(), "cause", cause[key], "lasts", o.causes.lasts(now)))
		}
	}
	o.looked = true
	return lines
}

// who returns the attributes that name the affected consumers.
func (o *outage) who() []any {
	n := o.consumers()
	attrs := []any{"cluster", o.name, "consumers", n}
	for c, f := range o.failing {
		if n == 1 && f != (clusterFault{}) {
			attrs = append(attrs, "consumer", c.name)
		}
	}
	return attrs
}
