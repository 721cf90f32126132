package fetch

import (
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A rack is an embedded cluster in which broker 0 leads the partition, and broker 1 is the replica in
// the rack "near".
type rack struct {
	*rig
	mu       sync.Mutex
	fetches  [2]int          // that brought records or were held back, by broker
	advice   int             // responses that named the replica
	code     sarama.KError   // of the responses of the replica; 0 means no error
	behind   bool            // the replica has no records
	diverges bool            // its log ends in an older epoch
	always   bool            // the leader advises every client
	advised  int32           // the replica that the leader names; -1: none
	offsets  []int32         // brokers that looked up where the partition begins or ends
	accepted map[string]bool // racks in requests to the leader
	empty    int             // responses of the replica while it is behind
}

func newRack(t *testing.T, set Settings, times leaseTimes) *rack {
	r := &rack{advised: 1, accepted: make(map[string]bool)}
	r.rig = newRig(t, 2, 1, set)
	if err := r.cluster.MoveTopicPartition("t", 0, 0); err != nil {
		t.Fatal(err)
	}
	r.cluster.SetFollowers("t", 0, []int32{1})
	r.fetcher.mu.Lock()
	r.fetcher.leases, r.fetcher.endsInterval = times, time.Hour
	r.fetcher.mu.Unlock()
	r.advise()
	return r
}

// advise makes the leader advise the replica to clients in its rack.
func (r *rack) advise() {
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.offsets = append(r.offsets, r.cluster.CurrentNode())
		return nil, nil, false
	})
	r.rig.onFetch(func(req *kmsg.FetchRequest) (kmsg.Response, error, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		node := r.cluster.CurrentNode()
		if node == 0 {
			r.accepted[req.Rack] = true
		}
		switch {
		case node == 0 && (r.always || req.Rack == "near") && r.advised >= 0:
			r.advice++
			resp := errorResponse(req, 0).(*kmsg.FetchResponse)
			p := &resp.Topics[0].Partitions[0]
			p.PreferredReadReplica, p.HighWatermark, p.LastStableOffset = r.advised, r.end(), r.end()
			return resp, nil, true
		case node == 1 && r.code != 0:
			return errorResponse(req, r.code), nil, true
		case node == 1 && r.diverges:
			resp := errorResponse(req, 0).(*kmsg.FetchResponse)
			e := &resp.Topics[0].Partitions[0].DivergingEpoch
			e.Epoch, e.EndOffset = 0, 5
			return resp, nil, true
		case node == 1 && r.behind:
			r.empty++
			resp := errorResponse(req, 0).(*kmsg.FetchResponse)
			<-time.After(10 * time.Millisecond)
			return resp, nil, true
		}
		r.fetches[node]++
		return nil, nil, false
	})
}

func (r *rack) end() int64 { return r.cluster.PartitionInfo("t", 0).HighWatermark }

// from returns how many fetches the broker answered with records or held back.
func (r *rack) from(node int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetches[node]
}

func (r *rack) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}
