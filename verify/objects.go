package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"kcagent/sink/objects/store"
	"kcagent/sink/template"
)

// Objects are the objects below one URL, which one consumer has written. Their keys name the ranges
// of offsets that the consumer has published.
type Objects struct {
	Store store.Store
	// Keys are the templates of the keys, without their extensions. An object has the key of the
	// first one that matches: a consumer whose template was edited has objects of several.
	Keys []*template.Template
	// Deep reads the contents, too.
	Deep bool
	// Log, if not nil, explains with Deep the offsets that no object has.
	Log Log
	// Until is the time of the start. Objects that were stored later are left out: while an agent
	// publishes, the list may have a range, and lack the one before it. The zero value means no limit.
	Until time.Time
	// Ignore, if not nil, reports keys of objects that never hold records.
	Ignore func(key string) bool
}

// A Topic is a topic with its id: a topic that was recreated has another id.
type Topic struct {
	Name string
	ID   string // the beginning of Kafka's id of the topic; "" if the keys do not have it
}

// An object is what its key says, and its metadata if the key does not name the last offset.
type object struct {
	key, stem   string // the stem is the key without extensions
	first, last int64  // both ends included
	values      template.Values
	template    *template.Template
}

// errOrder says that the list is not in the order of the keys.
var errOrder = errors.New("the list is not in the order of its keys")

// prove lists the objects and adds them to the proof. Where the keys order the ranges of a partition,
// it keeps only the present one. Otherwise, as with {time:LAYOUT} before {first}, it keeps all keys.
func (o *Objects) prove(ctx context.Context) (*proof, error) {
	p, err := o.list(ctx, len(o.Keys) == 1 && firstBeforeTime(o.Keys[0]))
	if errors.Is(err, errOrder) {
		p, err = o.list(ctx, false)
	}
	return p, err
}

func firstBeforeTime(t *template.Template) bool {
	names := t.Placeholders()
	at := slices.Index(names, template.Time)
	return at < 0 || slices.Index(names, template.First) < at
}

func (o *Objects) list(ctx context.Context, ordered bool) (*proof, error) {
	p := &proof{of: o, partitions: make(map[topicPartition]*Ranges), logs: make(map[string]origin)}
	pending := make(map[topicPartition][]object) // with ordered, of one range for each partition
	for listed, err := range o.Store.List(ctx, "") {
		if err != nil {
			return p, err
		}
		one, ok, err := o.read(ctx, listed, p)
		if err != nil {
			return p, err
		}
		if !ok {
			continue
		}
		tp := topicPartition{Topic{one.values.Topic, one.values.TopicID}, one.values.Partition}
		last := pending[tp]
		if ordered && len(last) > 0 && (last[0].first != one.first || last[0].last != one.last) {
			if one.first < last[0].first {
				return p, errOrder
			}
			if err := p.add(ctx, tp, last); err != nil {
				return p, err
			}
			last = last[:0]
		}
		pending[tp] = append(last, one)
	}
	for _, tp := range slices.SortedFunc(maps.Keys(pending), compare) {
		if err := p.addAll(ctx, tp, pending[tp]); err != nil {
			return p, err
		}
		delete(pending, tp)
	}
	return p, nil
}

// addAll adds the objects of a partition, whose ranges are in any order.
func (p *proof) addAll(ctx context.Context, tp topicPartition, objects []object) error {
	slices.SortFunc(objects, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last), cmp.Compare(a.key, b.key))
	})
	for len(objects) > 0 {
		n := 1
		for n < len(objects) && objects[n].first == objects[0].first && objects[n].last == objects[0].last {
			n++
		}
		if err := p.add(ctx, tp, objects[:n]); err != nil {
			return err
		}
		objects = objects[n:]
	}
	return nil
}

// read returns what the key of a listed object says, and false for one that is left out.
func (o *Objects) read(ctx context.Context, listed store.Object, p *proof) (one object, ok bool, err error) {
	if o.Ignore != nil && o.Ignore(listed.Key) {
		return one, false, nil
	}
	if !o.Until.IsZero() && listed.Modified.After(o.Until) {
		p.later++
		return one, false, nil
	}
	one, ok = o.parse(listed.Key)
	switch {
	case !ok && hasOffset(listed.Key):
		p.problem(listed.Key, "key does not match the template, but contains an offset; set the template with --key, or verify the URL below which the objects of one consumer are")
		return one, false, nil
	case !ok:
		p.unknown++
		if len(p.ignored) < shownRuns {
			p.ignored = append(p.ignored, listed.Key)
		}
		return one, false, nil
	}
	if !one.template.Has(template.Last) {
		if one.last, err = o.lastOf(ctx, listed.Key); err != nil {
			return one, false, err
		}
	}
	if one.last < one.first {
		p.problem(listed.Key, "neither the key nor the metadata "+metaLast+" names a last offset that is not below the first one")
		return one, false, nil
	}
	return one, true, nil
}

// lastOf returns the last offset that the metadata of an object names; -1 if it names none.
func (o *Objects) lastOf(ctx context.Context, key string) (int64, error) {
	head, err := o.Store.Head(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return -1, err
	}
	last, err := strconv.ParseInt(head.Meta[metaLast], 10, 64)
	if err != nil {
		last = -1
	}
	return last, nil
}

// parse returns what a key says. The extensions depend on the format and the compression, so it tries
// the key without them first.
func (o *Objects) parse(key string) (one object, ok bool) {
	short := key
	for _, extension := range []string{".zst", ".gz"} {
		short = strings.TrimSuffix(short, extension)
	}
	for _, t := range o.Keys {
		for _, stem := range []string{strings.TrimSuffix(short, ".jsonl"), short, key} {
			if v, ok := t.Match(stem); ok {
				return object{key, stem, v.First, v.Last, v, t}, true
			}
		}
	}
	return object{}, false
}

// hasOffset reports whether a key contains 20 digits, the length of {first} and {last}.
func hasOffset(key string) bool {
	digits := 0
	for i := range len(key) {
		if '0' <= key[i] && key[i] <= '9' {
			digits++
			continue
		}
		if digits == offsetDigits {
			return true
		}
		digits = 0
	}
	return digits == offsetDigits
}

const offsetDigits = 20

// A topicPartition is a partition of a [Topic].
type topicPartition struct {
	topic     Topic
	partition int32
}

func compare(a, b topicPartition) int {
	return cmp.Or(cmp.Compare(a.topic.Name, b.topic.Name), cmp.Compare(a.topic.ID, b.topic.ID), cmp.Compare(a.partition, b.partition))
}

func (tp topicPartition) String() string {
	return fmt.Sprintf("%s/%d", printable(tp.topic.Name), tp.partition)
}
