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

// outageSettle is how long consumers that lose a cluster together are given to notice,
// so that one line counts them.
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
	failing   map[*consumer]clusterFault
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

// over records that c is no longer in ERROR because of its cluster. recovered is false if
// c was stopped, or has another cause now.
func (os *outages) over(c *consumer, recovered bool) {
	os.mu.Lock()
	var ended *outage
	for i, o := range os.open {
		if _, ok := o.failing[c]; !ok {
			continue
		}
		if delete(o.failing, c); len(o.failing) == 0 {
			o.timer.Stop()
			os.open = slices.Delete(os.open, i, i+1)
			if o.announced && recovered {
				ended = o
			}
		}
		break
	}
	os.mu.Unlock()
	if ended != nil {
		os.log.Info("connections to the cluster work again", "cluster", ended.name, "lasted", ended.causes.lasts(time.Now()))
	}
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
		count[f.key]++
		if was, ok := cause[f.key]; !ok || f.cause < was {
			cause[f.key] = f.cause
		}
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	many := len(o.failing) > 1
	for _, key := range keys {
		news := o.causes.news(key, every, now)
		if !many && !o.looked {
			continue // the consumer's own line says it
		}
		if news || many && !o.announced {
			o.announced, o.causes.last = true, now
			lines = append(lines, append(o.who(), "cause", cause[key], "lasts", o.causes.lasts(now)))
		}
	}
	o.looked = true
	return lines
}

// who returns the attributes that say for whom the cluster fails.
func (o *outage) who() []any {
	attrs := []any{"cluster", o.name, "consumers", len(o.failing)}
	if len(o.failing) == 1 {
		for c := range o.failing {
			attrs = append(attrs, "consumer", c.name)
		}
	}
	return attrs
}
