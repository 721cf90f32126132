package e2e

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// A zone is a cluster of three brokers, each in a rack of its own and behind a proxy that
// counts what it sends. Brokers 1 and 2 lead all partitions, and the agent is in the rack
// of broker 3.
type rackScene struct {
	*scene
	proxies []*badnet.Proxy // of the brokers 1, 2 and 3
	topic   string
}

func newRackScene(t *testing.T, partitions int, near map[string]string) *rackScene {
	s := newScene(t)
	z := &rackScene{topic: strings.Repeat("long-", 36) + s.suffix} // so are the records
	cluster := kafkatest.Start(t, kafkatest.Options{
		Brokers: 3,
		Properties: map[string]string{
			"replica.selector.class":           "org.apache.kafka.common.replica.RackAwareReplicaSelector",
			"offsets.topic.replication.factor": "3", "log.segment.bytes": "1048576", "replica.lag.time.max.ms": "3000",
		},
		PropertiesOf: func(id int) map[string]string {
			props := map[string]string{"broker.rack": fmt.Sprint("rack-", id)}
			if id == 3 {
				for name, value := range near {
					props[name] = value
				}
			}
			return props
		},
		Advertise: func(addr string) string {
			p := badnet.Start(t, addr)
			z.proxies = append(z.proxies, p)
			return p.Addr()
		},
	})
	z.scene = &scene{Cluster: cluster, dir: s.dir, suffix: s.suffix}
	replicas := make([][]int32, partitions)
	for p := range replicas {
		leader := int32(1 + p%2)
		replicas[p] = []int32{leader, 3 - leader, 3}
	}
	cluster.CreateAssigned(t, z.topic, replicas, "compression.type=uncompressed")
	return z
}

func (z *rackScene) configWithRack(e entry) string {
	text := configText(map[string][]string{"main": z.AdvertisedAddrs()}, e)
	return strings.Replace(text, "{brokers:", "{rack: rack-3, brokers:", 1)
}

// answered is how many bytes the leaders and the near replica have sent.
func (z *rackScene) bytesSent() (leaders, near int) {
	return z.proxies[0].Answered() + z.proxies[1].Answered(), z.proxies[2].Answered()
}

// TestNearestReplicaIsReadUntilItFails: records come from the replica in the rack of the agent. When it
// dies, the leaders send them, and when it is back, nothing is lost or repeated either.
func TestNearestReplicaIsReadUntilItFails(t *testing.T) {
	t.Parallel()
	const partitions, chunk, size = 6, 2000, 180 // of a record, at least
	z := newRackScene(t, partitions, nil)
	e := z.entry("near", z.topic)
	a := agenttest.Start(t, agenttest.Options{Config: z.configWithRack(e)})
	made := 0
	produce := func() {
		t.Helper()
		z.Produce(t, kafkatest.Load{Topic: z.topic, Partitions: partitions, First: made, Count: chunk})
		made += chunk
		a.WaitConsumer("near", "read what there is", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.Lag == 0 && c.Committed() >= int64(partitions*made)
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
	flowing := make(chan struct{})
	go func() {
		defer close(flowing)
		z.Brokers[2].Kill()
	}()
	produce()
	<-flowing
	leaders, _ = z.bytesSent()
	produce()
	if nowLeaders, _ = z.bytesSent(); nowLeaders-leaders < partitions*chunk*size {
		t.Errorf("without the near replica the leaders sent %d bytes", nowLeaders-leaders)
	}
	z.Restart(t)
	produce()
	z.waitCommitted(t, a, e, int64(partitions*made))
	readTrail(t, e.path).wantExact(t, z.topic, partitions, made)
	if n := a.Consumer("near").RestartsTotal; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// TestOutOfRangeAtReplicaIsCheckedWithTheLeader: the near replica has removed records that the leader still
// has. The agent checks the position with the leader, and reads on there.
func TestOutOfRangeAtReplicaIsCheckedWithTheLeader(t *testing.T) {
	t.Parallel()
	const records = 40_000 // 8 MB
	z := newRackScene(t, 1, map[string]string{"log.retention.ms": "5000", "log.retention.check.interval.ms": "200"})
	z.proxies[2].Set(badnet.Fault{BytesASecond: 400 << 10})
	e := z.entry("near", z.topic).with("max_partition_bytes: 64KiB")
	a := agenttest.Start(t, agenttest.Options{Config: z.configWithRack(e)})
	a.WaitState("near", "RUNNING")
	z.Produce(t, kafkatest.Load{Topic: z.topic, Partitions: 1, Count: records})
	z.waitCommitted(t, a, e, records)
	readTrail(t, e.path).wantExact(t, z.topic, 1, records)
	if n, _ := a.Metrics().Value("kcagent_consumer_offset_resets_total", "consumer=near"); n != 0 {
		t.Errorf("%v resets are counted", n)
	}
	if log := a.Log(); !strings.Contains(log, "nearest replica failed; fetching from the leader") || !strings.Contains(log, "outside the range") {
		t.Error("the replica never said that the position is out of range")
	}
}
