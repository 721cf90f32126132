package fetch

import "time"

// A budget keeps what is asked for and what is fetched and not yet read within
// lanes × brokers × max_bytes. f.mu guards it.
type budget struct {
	lanes    int64 // that there may be
	limit    int64
	grant    int64 // what a lane asks for
	promised int64 // to requests in flight
	kept     int64 // in answers of which a part is still to be read
	most     int64 // the largest sum of the two there has been
}

// promise sets memory aside for a request; 0 if there is too little.
func (b *budget) promise() int64 {
	free := b.limit - b.promised - b.kept
	if free < b.grant/4 {
		return 0
	}
	n := min(b.grant, free)
	b.promised += n
	b.most = max(b.most, b.promised+b.kept)
	return n
}

func (b *budget) keep(size int64) {
	b.kept += size
	b.most = max(b.most, b.promised+b.kept)
}

// unref gives one part of a frame back.
func (f *Fetcher) unref(fr *Frame) {
	if fr == nil {
		return
	}
	if !fr.Unref() {
		return
	}
	f.budget.kept -= fr.Size()
	fr.release()
	for _, b := range f.brokers {
		for _, l := range b.lanes {
			if l.short {
				l.short = false
				l.wake.Set()
			}
		}
	}
}

const (
	// leftLying is how long what was fetched ahead may wait for its consumer
	// when somebody else needs the memory. It is also how long a consumer may
	// be away to have records fetched ahead at all.
	leftLying = 100 * time.Millisecond
	// shortRetry is how often a lane without memory looks for such parts.
	shortRetry = 20 * time.Millisecond
)

// reclaim drops what consumers have left lying.
func (f *Fetcher) reclaim(now time.Time) {
	for s := range f.subs {
		if len(s.queue) > 0 && !s.busy && now.Sub(s.queue[0].since) > leftLying {
			s.drop(s.next)
			s.eager = false
		}
	}
}
