package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Log is the log of the topics in Kafka, as the consumer reads it.
type Log interface {
	// Topic returns the ids of a topic and of its cluster, as the metadata of objects has them; "" if
	// they are unknown. They are those of the topic that exists now, not of an earlier call.
	Topic(ctx context.Context, topic string) (cluster, id string, exists bool, err error)

	// Read calls found for each offset from from to to, both included, whose record the consumer
	// writes. The log says nothing about the offsets before first, which retention has removed, or from
	// next on, which are beyond its end, or follow an error.
	Read(ctx context.Context, topic string, partition int32, from, to int64, found func(offset int64)) (first, next int64, err error)
}

// A Gap is a run of offsets that are in no range. A range without any record has no object, so only
// the log can tell it from a missing object.
type Gap struct {
	Run
	Missing int64  `json:"missing"` // offsets whose record is in the log
	Unknown int64  `json:"unknown"` // offsets about which the log says nothing
	Reason  string `json:"reason"`  // why it says nothing; "" if it says something about all of them
}

// unread is the reason of a gap before the log is read.
const unread = "only the log can explain it"

func newGap(from, to int64, at string) *Gap {
	return &Gap{Run: Run{from, to, at}, Unknown: to - from + 1, Reason: unread}
}

func (g *Gap) explained() bool { return g.Missing == 0 && g.Unknown == 0 }

// String says what the log has there.
func (g *Gap) String() string {
	var parts []string
	if g.Missing > 0 {
		parts = append(parts, fmt.Sprintf("missing: the log has %d %s there", g.Missing, plural(g.Missing, "record")))
	}
	switch {
	case g.Reason == unread:
		parts = append(parts, g.Reason)
	case g.Unknown == g.To-g.From+1:
		parts = append(parts, "unknown: "+g.Reason)
	case g.Unknown > 0:
		parts = append(parts, fmt.Sprintf("%d %s unknown: %s", g.Unknown, plural(g.Unknown, "offset"), g.Reason))
	case g.Missing == 0:
		parts = append(parts, "explained: the log has no record there that the consumer writes")
	}
	return strings.Join(parts, "; ")
}

func plural(n int64, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// addGap adds a gap. If there are too many to list, explained gaps are left out first.
func (r *Ranges) addGap(g *Gap) {
	r.GapOffsets += g.To - g.From + 1
	r.Unknown += g.Unknown
	if len(r.Gaps) == shownRuns {
		if g.explained() {
			return
		}
		for i := range slices.Backward(r.Gaps) {
			if r.Gaps[i].explained() {
				r.Gaps = slices.Delete(r.Gaps, i, i+1)
				break
			}
		}
	}
	if len(r.Gaps) < shownRuns {
		r.Gaps = append(r.Gaps, *g)
	}
}

// lose adds an offset whose record is in the log and in no object.
func (r *Ranges) lose(offset int64, at string) {
	r.Missing++
	if n := len(r.MissingRuns); n > 0 && r.MissingRuns[n-1].To == offset-1 && r.MissingRuns[n-1].At == at {
		r.MissingRuns[n-1].To = offset
	} else if n < shownRuns {
		r.MissingRuns = append(r.MissingRuns, Run{offset, offset, at})
	}
}

// An origin is the topic that an object or a log is of.
type origin struct {
	cluster, topicID string // "" if unknown
	absent           bool   // there is no such topic
}

// originOf returns the origin of the objects of a range, and false if they do not have one.
func originOf(open []*content) (o origin, ok bool) {
	for _, c := range open {
		if len(c.head.Meta) > 0 {
			return origin{cluster: c.head.Meta[metaCluster], topicID: c.head.Meta[metaTopicID]}, true
		}
	}
	return o, false
}

// explainBefore looks up in the log what is in the gap before a range; nil if there is none.
func (p *proof) explainBefore(ctx context.Context, tp topicPartition, open []*content, gap *Gap) (err error) {
	r := p.partitions[tp]
	before := r.last
	after, ok := originOf(open)
	r.last = after
	switch {
	case gap == nil || p.of.Log == nil:
		return nil
	case !ok:
		gap.Reason = "the objects after the gap have no metadata"
		return nil
	case before != after:
		gap.Reason = "the topic was recreated, the objects before and after the gap are of different topics"
		return nil
	}
	gap.Missing, gap.Unknown, gap.Reason, err = p.readLog(ctx, tp, after, gap.Run)
	return err
}

// explainUnused looks up in the log what is at offsets of a range that no object has. Once an object
// cannot be read to its end, that is not known.
func (p *proof) explainUnused(ctx context.Context, tp topicPartition, open []*content, unused Run) error {
	of, ok := originOf(open)
	if p.of.Log == nil || !ok || unused.From > unused.To || slices.ContainsFunc(open, func(c *content) bool { return c.failed }) {
		return nil
	}
	_, unknown, reason, err := p.readLog(ctx, tp, of, unused)
	r := p.partitions[tp]
	r.unusedAsked += unused.To - unused.From + 1
	r.UnusedUnknown += unknown
	if r.unusedReason == "" {
		r.unusedReason = reason
	}
	return err
}

// readLog looks up which records the log has at offsets that no object of the topic has. It returns
// how many there are, how many offsets the log says nothing about, and why. The error is that of ctx;
// one of the log ends the use of the log.
func (p *proof) readLog(ctx context.Context, tp topicPartition, of origin, run Run) (missing, unknown int64, reason string, err error) {
	all := run.To - run.From + 1
	log, err := p.logOf(ctx, tp.topic.Name)
	if err == nil && p.logErr == nil {
		if reason = log.differs(of); reason != "" {
			return 0, all, reason, nil
		}
		var first, next int64
		r := p.partitions[tp]
		r.reads++
		first, next, err = p.of.Log.Read(ctx, tp.topic.Name, tp.partition, run.From, run.To, func(offset int64) {
			missing++
			r.lose(offset, run.At)
		})
		if err != nil && ctx.Err() == nil {
			if now, askErr := p.askLog(ctx, tp.topic.Name); askErr == nil && now.differs(of) != "" {
				return 0, all, now.differs(of), nil // the topic was recreated, so this is no error
			}
		}
		unknown = all - max(0, min(next, run.To+1)-first)
		switch {
		case err != nil:
		case first > run.From:
			return missing, unknown, fmt.Sprintf("removed by retention, the log begins at offset %d", first), nil
		case next <= run.To:
			return missing, unknown, fmt.Sprintf("beyond the end of the log, which is offset %d", next), nil
		default:
			return missing, 0, "", nil
		}
		all = unknown
	}
	if ctx.Err() != nil {
		return missing, all, "", err
	}
	if p.logErr == nil {
		p.logErr = err
	}
	return missing, all, unreadable, nil
}

// unreadable is the reason after an error of the log.
const unreadable = "the log cannot be read"

// confirm looks up the topic of the log again, after the log was read for a range and the gap before it.
// If the topic was recreated meanwhile, that may have been another log, and says nothing. Nor does a log
// that could not be read to its end, because its topic is not confirmed. former is the
// state before. The error is that of ctx.
func (p *proof) confirm(ctx context.Context, tp topicPartition, open []*content, gap *Gap, former Ranges) error {
	r := p.partitions[tp]
	if r.reads == former.reads {
		return nil
	}
	reason := unreadable
	if p.logErr == nil {
		of, _ := originOf(open)
		now, err := p.askLog(ctx, tp.topic.Name)
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			p.logErr = err
		default:
			reason = now.differs(of)
		}
	}
	if reason == "" {
		return nil
	}
	r.Missing, r.MissingRuns = former.Missing, former.MissingRuns
	if asked := r.unusedAsked - former.unusedAsked; asked > 0 {
		r.UnusedUnknown = former.UnusedUnknown + asked
		r.unusedReason = cmp.Or(former.unusedReason, reason)
	}
	if gap != nil {
		gap.Missing, gap.Unknown, gap.Reason = 0, gap.To-gap.From+1, reason
	}
	return nil
}

// logOf returns the topic of the log, as it was known last.
func (p *proof) logOf(ctx context.Context, topic string) (o origin, err error) {
	if p.logErr != nil {
		return o, nil
	}
	o, known := p.logs[topic]
	if known {
		return o, nil
	}
	return p.askLog(ctx, topic)
}

// askLog looks up the topic of the log.
func (p *proof) askLog(ctx context.Context, topic string) (o origin, err error) {
	var exists bool
	if o.cluster, o.topicID, exists, err = p.of.Log.Topic(ctx, topic); err == nil {
		o.absent = !exists
		p.logs[topic] = o
	}
	return o, err
}

// differs says why a log explains nothing about an object; "" if it is of the same topic.
func (o origin) differs(object origin) string {
	known := func(id string) string {
		if id == "" {
			return "unknown"
		}
		return id
	}
	switch {
	case o.absent:
		return "the topic does not exist"
	case o.cluster != object.cluster:
		return fmt.Sprintf("the objects are of the cluster %s, the log is of the cluster %s", printable(known(object.cluster)), printable(known(o.cluster)))
	case o.topicID != object.topicID:
		return fmt.Sprintf("the topic was recreated, the objects are of the topic id %s, the log is of the topic id %s", printable(known(object.topicID)), printable(known(o.topicID)))
	}
	return ""
}
