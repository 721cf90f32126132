// Package fetch reads records for all consumers of one cluster.
//
// sarama's consumer groups keep membership, assignment, heartbeats and commits. The records are
// read here. For each broker, a [Fetcher] has a few lanes. A lane is one connection and one
// goroutine, which sends one request at a time for partitions of many consumers. So a thousand idle
// consumers cost a broker one waiting request.
//
// # What it guarantees
//
//   - A [Subscription] delivers every record from its position on, once and in order, without
//     control records and, under read_committed, without records of aborted transactions. It skips
//     records only by its [Policy], after the leader has reported where the log begins and ends,
//     and reports that.
//   - No records are delivered after Pause or Close has returned, except by a Take that was running
//     already.
//   - A consumer that does not read takes part in no request. Records that were fetched ahead
//     for it are dropped once others need the memory, and fetched again when the consumer reads
//     again. So a slow consumer delays no other.
//   - Requests in flight and parts that are not read yet stay together below lanes × brokers ×
//     max_bytes, and with a memory limit below the fetcher's share of a quarter of it (see
//     [limits.Memory]). A response is decompressed batch by batch as far as the grant of its
//     request allows, and the rest is fetched again. Its partitions are decompressed by up to as
//     many goroutines as the process may use cores if there are more than two. They share the
//     grant, and take their buffers from it before they use them.
//   - The first batch of a response may need more than the grant, compressed or not. It then takes
//     memory for large batches, which all fetchers of the process share. If others hold that
//     memory, the batch is fetched again once there is enough. Until then, the lane serves other
//     partitions. A batch that can never fit is an error of its consumer, which names the next step.
//   - Consumers at the same position of a partition share what is fetched. Those at different
//     positions take turns.
//
// # How it differs from sarama's consumer
//
// There is one request for all partitions of a broker, instead of a loop for each group. Heartbeats
// and commits have other connections. A pause takes effect in the middle of what was fetched. A
// position that is out of range is looked up before it is reset. One metadata response serves all
// consumers.
//
// # Invariants
//
//   - cursor.Next is the position of the consumer. cursor.FetchOffset is where the next request
//     begins, after everything in cursor.Queue. After drop, both are equal.
//   - cursor.NextEpoch and cursor.FetchEpoch are the leader epochs of the last records before them.
//     An offset is never changed without its epoch.
//   - A subscription is in one request at most (request.inFlight). If request.seq has changed
//     meanwhile, the response is discarded.
//   - Only the goroutine that calls Take looks at records, without the lock. It holds the part that
//     it works on (reader.taking), and nothing else drops that.
//   - No lane waits while it holds memory for large batches: what it acquires becomes part of a
//     frame, or is released. A large batch that its consumer does not read is dropped once another
//     one waits for the memory, in any fetcher of the process. Only a consumer whose sink hangs in
//     a system call keeps it. Other large batches then wait, and their consumers report that.
//   - No lock is held while calling out, dialling, or decoding.
//
// # Where to start reading
//
// Start at [Fetcher.Subscribe] and [Subscription.Take], then follow a request through lane.go
// (nextJob, execute), request.go (planFetch) and response.go (handleResponse). What the lanes of a
// broker may do for a subscription is its state, in subscription_state.go.
//
// The packages below do not know subscriptions: batch decodes record batches, dial and wire connect
// to brokers and send requests, metadata looks up topics, leaders and coordinators, and partition
// has the state of a partition.
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
	"kcagent/logkey"
	"kcagent/retry"
)

// Options describe the cluster that a Fetcher fetches from.
type Options struct {
	// Name is the name of the cluster in logs, and the label "fetcher" of the goroutines.
	Name string
	// Brokers are the addresses of the first brokers to ask, host:port.
	Brokers []string
	// Config returns sarama's settings: TLS, SASL and version. It is called for each new
	// connection, from several goroutines at once, and its result is copied. Settings of
	// sarama's consumer are not used.
	Config func() (*sarama.Config, error)
	// Failed is called with the error of each connection that could not be opened with these
	// settings, from several goroutines at once. Subscriptions report an error that repeats only
	// once. It may be nil.
	Failed func(error)
	// Lookup returns the addresses of a host. Nil means the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Pin is the cluster that Brokers lead to. Nil means a new pin.
	Pin *dial.Pin
	// Log gets events that no consumer reports. Nil means no log.
	Log *slog.Logger
	// Memory is shared with the fetchers of other clusters. Nil means [limits.Records].
	Memory *limits.Memory

	Settings
}

// Settings may change while the fetcher runs.
type Settings struct {
	Lanes    int           // connections per broker, at least 1
	MaxBytes int           // bytes of memory per lane and broker
	MaxWait  time.Duration // how long a broker may hold back a response without records
	Rack     string        // of the consumers, so that leaders advise the nearest replica; "" if it is unknown
}

const (
	// laneLinger is how long a lane without a partition keeps its connection.
	laneLinger = 10 * time.Second
	// defaultEndsInterval is Fetcher.endsInterval, except in tests.
	defaultEndsInterval = 5 * time.Second
	// endLasts is Fetcher.endLasts, except in tests. A broker that responds reports the end of
	// each partition sooner: after the longest long poll (10 s), the time within which it must
	// respond (10 s), and an interval of the lookups.
	endLasts = 30 * time.Second
	// minMaxBytes is the least memory with which a lane can request anything.
	minMaxBytes = 64 << 10
)

// A Fetcher fetches records for all consumers of one cluster. All methods are safe for
// concurrent use.
type Fetcher struct {
	options      Options
	log          *slog.Logger
	memory       *limits.Memory
	share        *limits.Share // of memory
	endsInterval time.Duration // how often the end of a partition that is in no request is looked up; tests shorten it
	endLasts     time.Duration // how long the end of a partition counts as known; tests shorten it
	leases       leaseTimes
	audit        func(*broker) // is called after each plan; nil except in tests

	wake retry.Signal // lanes may be missing

	dialer   *dial.Dialer
	opener   *wire.Opener
	metadata *metadata.Client

	mu          sync.Mutex // guards all fields below, and subscriptions, brokers and lanes
	settings    Settings
	ended       bool   // Run has returned
	responses   uint64 // number of the newest response
	subs        map[*Subscription]struct{}
	lost        map[*Subscription]struct{} // those whose leaders have to be looked up
	byPartition partitionIndex
	brokers     map[int32]*broker // in use, by id
	brokerAddrs map[int32]string  // addresses of all brokers of the cluster, host:port, by id
	budget      budget
}

// New returns a fetcher that does nothing before Run.
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
		options: o, log: o.Log.With(logkey.Cluster, o.Name), settings: o.normalized(), endsInterval: defaultEndsInterval, endLasts: endLasts, leases: defaultLeases,
		wake: retry.NewSignal(), dialer: dial.NewDialer(o.Pin, o.Lookup),
		subs: make(map[*Subscription]struct{}), lost: make(map[*Subscription]struct{}), byPartition: make(partitionIndex),
		brokers: make(map[int32]*broker),
	}
	f.opener = wire.NewOpener(f.dialer, o.Config, o.Failed)
	f.opener.SetMaxWait(f.settings.MaxWait)
	f.metadata = metadata.NewClient(f.opener, o.Brokers, leaderLookup{f})
	return f
}

// normalized returns the settings within their bounds.
func (s Settings) normalized() Settings {
	s.Lanes, s.MaxBytes = max(s.Lanes, 1), max(s.MaxBytes, minMaxBytes)
	s.MaxWait = max(s.MaxWait, time.Millisecond)
	return s
}

// Run fetches until ctx is done, and returns the error of ctx. It is called once. When it returns,
// all connections are closed, and all goroutines of the fetcher have ended. They have the label
// "fetcher", and no labels of the caller.
func (f *Fetcher) Run(ctx context.Context) error {
	pprof.Do(context.Background(), pprof.Labels("fetcher", f.options.Name), func(context.Context) {
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
	var later callbacks
	defer func() { later.run() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.share.Want(0)
	for s := range f.subs {
		s.signal(&later)
	}
	return ctx.Err()
}

// missingLanes creates the lanes that should run and do not.
func (f *Fetcher) missingLanes() []*lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []*lane
	now := time.Now()
	for _, b := range f.brokers {
		for i := range b.wantedLanes(f.settings, now) {
			if len(b.subs) == 0 || b.laneAt(i) != nil {
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

// sizeBudget adapts the budget to the number of lanes, with f.mu held.
func (f *Fetcher) sizeBudget() {
	brokers := 0
	for _, b := range f.brokers {
		if len(b.lanes) > 0 {
			brokers++
		}
	}
	f.budget.lanes = int64(f.settings.Lanes) * int64(brokers)
	if !f.ended {
		f.share.Want(f.budget.lanes * int64(f.settings.MaxBytes))
	}
	f.fitBudget()
}

// fitBudget adapts the budget to this fetcher's current share of the memory of the process. Half
// of the budget may be granted to requests, so that parts that consumers do not read cannot keep
// all lanes from fetching. f.mu is held.
func (f *Fetcher) fitBudget() {
	lanes := f.budget.lanes
	f.budget.limit = max(f.share.Limit(), lanes*minMaxBytes)
	f.budget.grant = min(int64(f.settings.MaxBytes), f.budget.limit/max(lanes, 1)) / 2
}

// Update changes the settings, from the next request on.
func (f *Fetcher) Update(s Settings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s = s.normalized()
	if s == f.settings {
		return
	}
	longer, otherRack := s.MaxWait > f.settings.MaxWait, s.Rack != f.settings.Rack
	f.settings = s
	f.opener.SetMaxWait(s.MaxWait)
	if otherRack {
		f.resetRacks()
	}
	f.sizeBudget()
	for _, b := range f.brokers {
		for _, l := range b.lanes {
			l.reconnect = l.reconnect || longer // the timeout of the connection is too short
			l.wake.Set()
		}
	}
	f.wake.Set()
}

// Reconnect replaces all connections, each after its request in flight, so that changed
// credentials and certificates apply.
func (f *Fetcher) Reconnect() {
	f.metadata.Reconnect()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.brokers {
		b.reconnect()
	}
}

// callbacks are functions of the caller to run once f.mu is free.
type callbacks []func()

func (c *callbacks) add(fn func()) {
	if fn != nil {
		*c = append(*c, fn)
	}
}

func (c callbacks) run() {
	for _, fn := range c {
		fn()
	}
}
