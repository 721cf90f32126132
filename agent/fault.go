package agent

import (
	"errors"
	"slices"
	"time"
)

// recovered ends the logging of causes of the present ERROR.
func (l *life) recovered() {
	l.remind.Stop()
	l.kafka.outages.resolve(l.id, true)
}

// fail moves to ERROR with the newest cause, or shows a new cause there. Within one ERROR
// each cause is logged once, and the present one again every few minutes; if it concerns
// the cluster as a whole, for all its consumers together.
func (l *life) fail() {
	err, ok := l.faults[l.latest]
	if !ok {
		origins := make([]string, 0, len(l.faults))
		for o := range l.faults {
			origins = append(origins, o)
		}
		l.latest = slices.Min(origins)
		err = l.faults[l.latest]
	}
	now, every := time.Now(), l.kafka.outages.every
	text := err.Error()
	entered := l.view.Load().State != Failing
	switch v := l.view.Load(); {
	case entered:
		l.causes = causeLog{}
		l.to(Failing, text)
		l.remind.Reset(every)
	case v.Fault != text:
		l.publish(func(v *view) { v.Fault = text })
	}
	spec := l.spec.Load()
	if cause, key, ok := clusterCause(spec, err); ok && !errors.As(err, new(sinkError)) {
		l.kafka.outages.report(l.id, spec, cause, key)
		l.causes.news(key, every, now) // logged by outages
		return
	}
	l.kafka.outages.reportOther(l.id)
	if l.causes.news(faultKey(err), every, now) && !entered {
		l.log.Warn("consumer still fails", "cause", text, "lasts", l.causes.lasts(now))
		l.remind.Reset(every)
	}
}
