// Package fetch reads records for all consumers of one cluster.
//
// sarama's consumer groups keep membership, assignment, heartbeats and commits.
// The records come through here: each leader has a few lanes, which are one
// goroutine and one connection each, and a lane asks with one request for
// partitions of many consumers, whoever they belong to. A thousand idle
// consumers cost a broker one waiting request.
//
// # What it guarantees
//
//   - A [Subscription] hands over every record from its position on, once and in
//     order, without control records and, under read_committed, without those
//     of aborted transactions. It skips records only by its [Policy], after the
//     leader itself has said where the partition begins and ends, and says so.
//   - Nothing is handed over after Pause or Close has returned, but by a Read
//     that was at it already.
//   - A consumer that does not read takes part in no request. What was fetched
//     for it ahead is dropped as soon as somebody else needs the memory, and
//     fetched again when it comes back. So a slow one delays nobody.
//   - What is fetched and not read yet, and what is asked for, stay together
//     below lanes × brokers × max_bytes, and with a memory limit below the
//     fetcher's share of a quarter of it (see [limits.Memory]). An answer is
//     decompressed batch by batch as far as what the request was granted allows,
//     and the rest is fetched again.
//   - The first batch of an answer may need more than the grant, on the wire or
//     decompressed. It takes the difference from the memory for large batches,
//     which all fetchers of the process share. If others hold that, the batch is
//     fetched again once there is enough: until then the lane serves other
//     partitions, and no lane waits. A batch that could never fit is an error of its
//     consumer, which names the next step.
//   - Consumers at the same position of a partition share what is fetched; those
//     at different positions take turns.
//
// # How it differs from sarama's consumer
//
// There is one request for all partitions of a leader that have room rather
// than one loop per group, the connections are not those of heartbeats and
// commits, a pause takes effect in the middle of what was fetched, a position
// out of range is checked before it is believed, and a leader's move is learned
// for all consumers at once.
//
// # Invariants
//
//   - pos is where the next request begins, behind all that is queued; next is
//     where the consumer stands. After drop they are equal.
//   - nextEpoch and posEpoch are the leader epochs of the last records before next and
//     pos. Whatever moves one moves the other.
//   - A subscription is in one request at most (inFlight). When seq has changed
//     meanwhile, the answer is thrown away.
//   - Only Read's own goroutine looks at records, without the lock; it holds the
//     part that it works on (busy), and nobody drops that.
//   - No lane waits while it holds memory for large batches: what is acquired goes
//     into a frame or back. A large batch that its consumer does not read is dropped as
//     soon as another one waits for the memory, in whichever fetcher. A consumer that
//     pauses, or whose sink fails, holds none; one whose sink hangs in a system call does,
//     and then other large batches wait, and their consumers report that.
//   - No lock is held while calling out, dialling, or decoding.
package fetch

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
	"kcagent/fetch/metadata"
	"kcagent/fetch/wire"
	"kcagent/limits"
	"kcagent/retry"
)

// Options describe the cluster that a Fetcher fetches from.
type Options struct {
	// Name is the cluster's, for logs and for the label "fetcher" of the
	// goroutines.
	Name string
	// Brokers are the addresses, host:port, to ask for the others.
	Brokers []string
	// Config returns sarama's settings: TLS, SASL, version, dialer. It is called
	// for each new connection, from several goroutines at once, and its result
	// is copied. What concerns fetching in it is not used.
	Config func() (*sarama.Config, error)
	// Lookup returns the addresses of a host. Nil is the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Pin is the cluster that Brokers lead to. Nil is a pin of this fetcher's own.
	Pin *dial.Pin
	// Log gets a line for each trouble that no consumer sees. Nil is silence.
	Log *slog.Logger
	// Memory is shared with the fetchers of other clusters. Nil is that of the process.
	Memory *limits.Memory

	Settings
}

// Settings may change while the fetcher runs.
type Settings struct {
	Lanes    int           // connections per broker, at least 1
	MaxBytes int           // bytes of memory per lane and broker
	MaxWait  time.Duration // how long a broker may hold back an answer without records
	Rack     string        // where the consumers are, so that leaders advise the nearest replica; "" if that is unknown
}

// How the fetcher deals with time.
const (
	// hiddenFor is how long a trouble that ends by itself, such as a move of a
	// leader, is not shown as an error.
	hiddenFor = time.Second
	// laneLinger is how long a lane without a partition keeps its connection.
	laneLinger = 10 * time.Second
)

// A Fetcher fetches records for all consumers of one cluster. All methods are
// safe for concurrent use; only Run blocks.
type Fetcher struct {
	o         Options
	log       *slog.Logger
	memory    *limits.Memory
	share     *limits.Share // of memory
	endsEvery time.Duration // how often the end is asked for of partitions in no request; tests shorten it
	times     leaseTimes
	audit     func(*broker) // called after each plan; nil but in tests

	wake retry.Signal // to Run: lanes may be missing

	dialer   *dial.Dialer
	opener   *wire.Opener
	metadata *metadata.Client

	mu      sync.Mutex // guards all below and the state of subscriptions, brokers and lanes
	set     Settings
	ended   bool
	served  uint64 // the number of the newest answer
	subs    map[*Subscription]struct{}
	lost    map[*Subscription]struct{} // whose leaders are to be looked up
	readers readers
	brokers map[int32]*broker
	addrs   map[int32]string // of all brokers of the cluster
	budget  budget
}

// New makes a fetcher that does nothing before Run.
func New(o Options) *Fetcher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Pin == nil {
		o.Pin = dial.NewPin("")
	}
	if o.Memory == nil {
		o.Memory = &limits.Records
	}
	f := &Fetcher{
		memory: o.Memory, share: o.Memory.Join(),
		o: o, log: o.Log.With("cluster", o.Name), set: o.sane(), endsEvery: 5 * time.Second, times: defaultLease,
		wake: retry.NewSignal(), dialer: dial.NewDialer(o.Pin, o.Lookup),
		subs: make(map[*Subscription]struct{}), lost: make(map[*Subscription]struct{}), readers: make(readers),
		brokers: make(map[int32]*broker),
	}
	f.opener = wire.NewOpener(f.dialer, o.Config)
	f.opener.SetMaxWait(f.set.MaxWait)
	f.metadata = metadata.NewClient(f.opener, o.Brokers, leaderLookup{f})
	return f
}

// leastMaxBytes is what a lane needs to ask for anything.
const leastMaxBytes = 64 << 10

func (s Settings) sane() Settings {
	s.Lanes, s.MaxBytes = max(s.Lanes, 1), max(s.MaxBytes, leastMaxBytes)
	s.MaxWait = max(s.MaxWait, time.Millisecond)
	return s
}

// Run fetches until ctx ends, which is the only error it returns. It is called
// once. When it returns, every connection is closed and every goroutine of the
// fetcher has ended. Its goroutines carry the fetcher's label and none of the
// caller's, whoever subscribed first.
func (f *Fetcher) Run(ctx context.Context) error {
	pprof.Do(context.Background(), pprof.Labels("fetcher", f.o.Name), func(context.Context) {
		var wg sync.WaitGroup
		wg.Go(func() { f.metadata.Run(ctx) })
		for ctx.Err() == nil {
			for _, l := range f.missingLanes() {
				wg.Go(func() { l.run(ctx) })
			}
			select {
			case <-f.wake:
			case <-f.share.Squeezed():
				f.reclaimLarge(time.Now())
			case <-ctx.Done():
			}
		}
		wg.Wait()
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.share.Want(0)
	for s := range f.subs {
		s.ready.Set()
	}
	return ctx.Err()
}

// missingLanes makes the lanes that should run and do not.
func (f *Fetcher) missingLanes() []*lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []*lane
	now := time.Now()
	for _, b := range f.brokers {
		for i := range b.laneCount(f.set, now) {
			if len(b.subs) == 0 || b.lane(i) != nil {
				continue
			}
			l := &lane{f: f, b: b, index: i, wake: retry.NewSignal()}
			b.lanes = append(b.lanes, l)
			missing = append(missing, l)
		}
	}
	f.sizeBudget()
	return missing
}

// sizeBudget follows the number of brokers that are asked. Half of it may be
// asked for, so that what consumers hold can't keep all lanes from asking.
func (f *Fetcher) sizeBudget() {
	brokers := 0
	for _, b := range f.brokers {
		if len(b.lanes) > 0 {
			brokers++
		}
	}
	f.budget.lanes = int64(f.set.Lanes) * int64(brokers)
	if !f.ended {
		f.share.Want(f.budget.lanes * int64(f.set.MaxBytes))
	}
	f.fitBudget()
}

// fitBudget adjusts the budget to what the fetchers of other clusters use of the memory of
// the process.
func (f *Fetcher) fitBudget() {
	lanes := f.budget.lanes
	f.budget.limit = max(f.share.Limit(), lanes*leastMaxBytes)
	f.budget.grant = min(int64(f.set.MaxBytes), f.budget.limit/max(lanes, 1)) / 2
}

// Update changes the settings, from the next request on.
func (f *Fetcher) Update(s Settings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s = s.sane()
	if s == f.set {
		return
	}
	longer, moved := s.MaxWait > f.set.MaxWait, s.Rack != f.set.Rack
	f.set = s
	f.opener.SetMaxWait(s.MaxWait)
	if moved {
		f.resetRacks()
	}
	f.sizeBudget()
	for _, b := range f.brokers {
		for _, l := range b.lanes {
			l.stale = l.stale || longer // the connection may not wait so long for an answer
			l.wake.Set()
		}
	}
	f.wake.Set()
}

// Reconnect makes every connection anew, each after its request in flight, so
// that changed secrets and certificates apply.
func (f *Fetcher) Reconnect() {
	f.metadata.Reconnect()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.brokers {
		b.redial()
	}
}

// Redial makes the lanes of the partition's leader reconnect, each after its request in
// flight, and looks up the leader over a new connection. The lanes of other brokers keep
// their connections.
func (s *Subscription) Redial() {
	s.f.metadata.Reconnect()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.broker != nil {
		for _, l := range s.broker.lanes {
			l.stale = true
			l.wake.Set()
		}
	}
}

// A calls collects what is to be called once f.mu is free.
type calls []func()

func (c *calls) add(fn func()) {
	if fn != nil {
		*c = append(*c, fn)
	}
}

func (c calls) run() {
	for _, fn := range c {
		fn()
	}
}
