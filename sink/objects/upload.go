package objects

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/objects/store"
)

const (
	// callTimeout bounds calls of a store that does not respond.
	callTimeout = time.Minute
	// slowestUpload is how many bytes a second an upload needs at least.
	slowestUpload = 64 << 10
)

func isReopen(err error) bool { return errors.Is(err, sink.ErrReopen) }

// startProbe looks up the keys of a closed range. The caller holds mu.
func (p *partition) startProbe(r *offsetRange) { p.startJob(r, p.sink.probes, p.probe, &r.probed) }

// startUpload uploads a range whose plan is committed, or with at_least_once any closed range. The
// caller holds mu.
func (p *partition) startUpload(r *offsetRange) { p.startJob(r, p.sink.uploads, p.upload, &r.uploaded) }

// startJob runs a job until it has succeeded, and sets done then, or until the range is dropped. Only
// one job of a range is in progress.
func (p *partition) startJob(r *offsetRange, q *queue, job func(r *offsetRange) error, done *bool) {
	if r.job {
		return
	}
	r.job = true
	var run func() bool
	run = func() bool {
		if r.ctx.Err() != nil {
			return true
		}
		err := job(r)
		if p.ended(r, err, done, func() { q.add(run) }) {
			p.sink.due()
		}
		return err == nil || r.ctx.Err() != nil
	}
	q.add(run)
}

// ended records the result of a job, and schedules its retry. It reports whether a flush is due.
func (p *partition) ended(r *offsetRange, err error, done *bool, again func()) (due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.ctx.Err() != nil: // it was dropped
		return false
	case err == nil:
		*done, r.job, r.fault, r.retryAt = true, false, nil, time.Time{}
		r.backoff.Reset()
		return true
	case isReopen(err):
		p.lost = err
		return true
	}
	if _, denied := errors.AsType[*store.PermissionError](err); denied {
		r.backoff.Slow()
	}
	wait := r.backoff.Next()
	due = r.fault == nil || r.fault.Error() != err.Error()
	r.fault, r.retryAt = err, p.sink.options.Now().Add(wait)
	time.AfterFunc(wait, again)
	return due
}

// probe checks that no key of a range is used by an object with other records. While no plan is open,
// editing the template or the url still helps.
func (p *partition) probe(r *offsetRange) error {
	id := r.identity(p)
	for _, o := range r.objects {
		key, err := r.key(p, o)
		if err != nil {
			return err
		}
		if _, err := r.find(id, key); err != nil {
			return err
		}
	}
	return nil
}

// find reports whether an object has the records of a range. It returns an error if it has others.
func (r *offsetRange) find(id identity, key string) (found bool, err error) {
	ctx, cancel := r.limited(key, callTimeout)
	defer cancel()
	o, err := r.store.Head(ctx, key)
	switch err = timedOut(ctx, err); {
	case errors.Is(err, store.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	o.Key = key
	return true, id.check(o, r.url)
}

// upload uploads the objects of a range that are not in the store yet.
func (p *partition) upload(r *offsetRange) error {
	id := r.identity(p)
	for _, o := range r.objects {
		if o.uploaded { // only this job sets it
			continue
		}
		key, err := r.key(p, o)
		if err != nil {
			return err
		}
		if err := p.uploadObject(r, o, id, key); err != nil {
			return err
		}
		p.mu.Lock()
		o.uploaded = true
		p.mu.Unlock()
	}
	if r.adopted {
		p.reportCompleted(r)
	}
	return nil
}

// uploadObject uploads an object, unless the store has it. The lookup before the upload makes a retry
// cheap, and protects the object on stores without conditional writes.
func (p *partition) uploadObject(r *offsetRange, o *object, id identity, key string) error {
	found, err := r.find(id, key)
	if found || err != nil {
		return err
	}
	if r.adopted {
		if err := p.abortUploads(r, key); err != nil {
			return err
		}
	}
	body, err := o.file.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	ctx, cancel := r.limited(key, callTimeout+time.Duration(body.Size()/slowestUpload)*time.Second)
	defer cancel()
	began := time.Now()
	err = r.store.Put(ctx, key, body, body.Size(), r.attributes(p.sink.metadata(id, o.records, len(r.objects))))
	switch {
	case err == nil:
		if p.sink.options.Uploaded != nil {
			p.sink.options.Uploaded(body.Size(), time.Since(began))
		}
		return nil
	case body.Lost() != nil:
		return body.Lost()
	case !errors.Is(err, store.ErrExists):
		return timedOut(ctx, err)
	}
	if found, err := r.find(id, key); found || err != nil {
		return err
	}
	return fmt.Errorf("upload %s: an object was created at the same time, and is not found now", key)
}

// abortUploads aborts what a crash has left of an upload. Without the permission for it, the records
// are still uploaded, and a lifecycle rule of the bucket can remove unfinished uploads.
func (p *partition) abortUploads(r *offsetRange, key string) error {
	ctx, cancel := r.limited(key, callTimeout)
	defer cancel()
	err := r.store.AbortUploads(ctx, key)
	if denied, ok := errors.AsType[*store.PermissionError](err); ok {
		p.sink.options.Log.Warn("unfinished uploads are not aborted", logkey.Topic, p.tp.Topic, logkey.Partition, p.tp.Partition, logkey.Error, denied)
		return nil
	}
	return timedOut(ctx, err)
}

// limited returns a context for one call of the store.
func (r *offsetRange) limited(key string, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.ctx, limit, fmt.Errorf("upload %s: the store has not responded within %s; check the network and the store", key, limit))
}

// timedOut returns the cause of ctx for the error of a call that ctx has ended.
func timedOut(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// reportCompleted reports that the records of a plan are published, or that Kafka had only some of
// them.
func (p *partition) reportCompleted(r *offsetRange) {
	log := p.sink.options.Log.With(logkey.Topic, p.tp.Topic, logkey.Partition, p.tp.Partition, logkey.From, r.first, logkey.To, r.end()-1)
	if r.records < r.plan.Records {
		log.Warn("records of an open plan were removed from Kafka before their upload", logkey.Records, r.records, logkey.Planned, r.plan.Records)
	}
	log.Info("open plan completed", logkey.Records, r.records)
}
