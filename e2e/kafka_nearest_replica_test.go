package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// A rackScene has three brokers, each in a rack of its own and behind a proxy that counts
// bytes. Brokers 1 and 2 lead all partitions, and the agent is in the rack of broker 3.
type rackScene struct {
	*scene
	proxies []*badnet.Proxy // of the brokers 1, 2 and 3
	topic   string
}

// newRackScene starts the cluster; near are further properties of broker 3.
func newRackScene(t *testing.T, partitions int, near map[string]string) *rackScene {
	t.Helper()
	z := &rackScene{}
	cluster := kafkatest.Start(t, kafkatest.Options{
		Brokers: 3,
		Properties: map[string]string{
			"replica.selector.class":           "org.apache.kafka.common.replica.RackAwareReplicaSelector",
			"offsets.topic.replication.factor": "3", "log.segment.bytes": "1048576", "replica.lag.time.max.ms": "3000",
		},
		PropertiesOf: func(id int) map[string]string {
			props := map[string]string{"broker.rack": fmt.Sprint("rack-", id)}
			if id == 3 {
				maps.Copy(props, near)
			}
			return props
		},
		Advertise: func(addr string) string {
			p := badnet.Start(t, addr)
			z.proxies = append(z.proxies, p)
			return p.Addr()
		},
	})
	z.scene = newSceneOn(t, cluster)
	z.topic = strings.Repeat("long-", 36) + z.suffix // so that records, which contain the name, are long
	replicas := make([][]int32, partitions)
	for p := range replicas {
		leader := int32(1 + p%2)
		replicas[p] = []int32{leader, 3 - leader, 3}
	}
	cluster.CreateAssigned(t, z.topic, replicas, "compression.type=uncompressed")
	return z
}

// configWithRack returns a configuration file with the rack of the agent.
func (z *rackScene) configWithRack(e entry) string {
	text := configText(map[string][]string{"main": z.AdvertisedAddrs()}, e)
	return strings.Replace(text, "{brokers:", "{rack: rack-3, brokers:", 1)
}

// bytesSent returns how many bytes the leaders and the near replica have sent.
func (z *rackScene) bytesSent() (leaders, near int) {
	return z.proxies[0].ResponseBytes() + z.proxies[1].ResponseBytes(), z.proxies[2].ResponseBytes()
}

// TestNearestReplicaIsReadUntilItFails: records come from the replica in the rack of the
// agent. When that fails, the leaders send them, and when it is back, nothing is lost or
// repeated.
func TestNearestReplicaIsReadUntilItFails(t *testing.T) {
	t.Parallel()
	const partitions, chunk, size = 6, 2000, 180 // of a record, at least
	z := newRackScene(t, partitions, nil)
	e := z.entry("near", z.topic)
	z.Coordinator(t, e.group) // creates the topic of committed offsets, for which the consumer would restart
	a := agenttest.Start(t, agenttest.Options{Config: z.configWithRack(e)})
	f := z.newFeed(z.topic, partitions)
	produce := func() {
		t.Helper()
		f.produce(t, chunk)
		a.WaitConsumer("near", "read everything", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.HasLag(0) && c.Committed() >= f.total()
		})
	}
	produce()
	leaders, near := z.bytesSent()
	produce()
	produce()
	nowLeaders, nowNear := z.bytesSent()
	t.Logf("the leaders sent %d bytes, the near replica %d", nowLeaders-leaders, nowNear-near)
	if all := 2 * partitions * chunk * size; nowNear-near < all || nowLeaders-leaders > all/4 {
		t.Errorf("the leaders sent %d bytes, the near replica %d of %d", nowLeaders-leaders, nowNear-near, all)
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		z.Brokers[2].Kill()
	}()
	produce()
	<-killed
	leaders, _ = z.bytesSent()
	produce()
	if nowLeaders, _ = z.bytesSent(); nowLeaders-leaders < partitions*chunk*size {
		t.Errorf("without the near replica the leaders sent %d bytes", nowLeaders-leaders)
	}
	z.Restart(t)
	produce()
	z.waitCommitted(t, a, e, f.total())
	readTrail(t, e.path).wantExact(t, z.topic, partitions, f.produced)
	if n := a.Consumer("near").RestartsTotal; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// TestOutOfRangeAtReplicaIsCheckedWithTheLeader: if the near replica has deleted records
// that the leader still has, the agent checks its position with the leader and reads
// there.
func TestOutOfRangeAtReplicaIsCheckedWithTheLeader(t *testing.T) {
	t.Parallel()
	const records = 40_000 // 8 MB
	z := newRackScene(t, 1, map[string]string{"log.retention.ms": "5000", "log.retention.check.interval.ms": "200"})
	z.proxies[2].Set(badnet.Fault{BytesPerSecond: 400 << 10})
	e := z.entry("near", z.topic).with("max_partition_bytes: 64KiB")
	a := agenttest.Start(t, agenttest.Options{Config: z.configWithRack(e)})
	a.WaitState("near", "RUNNING")
	z.Produce(t, kafkatest.Load{Topic: z.topic, Partitions: 1, Count: records})
	z.waitCommitted(t, a, e, records)
	readTrail(t, e.path).wantExact(t, z.topic, 1, records)
	z.wantResets(t, a, e, 0)
	if log := a.Log(); !strings.Contains(log, "nearest replica failed; fetching from the leader") || !strings.Contains(log, "outside the range") {
		t.Error("the replica never reported the position as out of range")
	}
}
