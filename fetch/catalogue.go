package fetch

import (
	"context"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// A catalogue is which topics the cluster has, its internal ones aside.
type catalogue struct {
	at     time.Time       // zero: nobody has asked
	topics map[string]bool // false: the newest list lacked it, and the one before did not
}

// Topics lists the topics of the cluster, sorted, without its internal ones. The
// list is no older than maxAge, so that a thousand callers at a time cost one
// request. A topic is left out only when two lists have lacked it: one broker
// may not have heard of it yet.
func (f *Fetcher) Topics(ctx context.Context, maxAge time.Duration) ([]string, error) {
	since := time.Now().Add(-maxAge)
	f.mu.Lock()
	fresh := f.all.at.After(since)
	f.mu.Unlock()
	if !fresh {
		if err := f.put(ctx, &ask{since: since}); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	names := make([]string, 0, len(f.all.topics))
	for name := range f.all.topics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// list asks which topics there are, unless that was done since.
func (r *router) list(ctx context.Context, since time.Time) error {
	r.f.mu.Lock()
	fresh := r.f.all.at.After(since)
	r.f.mu.Unlock()
	if fresh {
		return nil
	}
	var meta *sarama.MetadataResponse
	err := r.ask(ctx, func(c *conn) (err error) {
		req := sarama.NewMetadataRequest(c.conf.Version, nil)
		req.AllowAutoTopicCreation = false
		meta, err = c.metadata(req, r.f.o.Pin)
		return err
	})
	if err != nil {
		return err
	}
	topics := index(meta)
	var told calls
	defer func() { told.run() }()
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	// It has all there is to know of the topics in use.
	r.f.learn(meta, slices.DeleteFunc(topics, func(t found) bool { return r.f.topics[t.Name] == nil }), r.conn.broker.Addr(), &told)
	before := r.f.all.topics
	r.f.all = catalogue{at: time.Now(), topics: make(map[string]bool, len(meta.Topics))}
	for _, t := range meta.Topics {
		if !t.IsInternal && (t.Err == sarama.ErrNoError || t.Err == sarama.ErrLeaderNotAvailable) {
			r.f.all.topics[t.Name] = true
		}
	}
	for name, there := range before {
		if there && !r.f.all.topics[name] {
			r.f.all.topics[name] = false
		}
	}
	return nil
}
