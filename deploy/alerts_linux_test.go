package deploy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/loud"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// onlyUnitTests names the alerts that [TestAlertsFireAndClear] does not cause.
var onlyUnitTests = map[string]bool{
	"KcagentFileMayDiffer": true, // needs a restored backup, or a truncated log
	"KcagentPlanOpen":      true, // needs a store that fails for a quarter of an hour
	"KcagentSpoolGrows":    true, // needs an hour
}

// mayBeEmpty names the queries of the dashboard that find nothing in [TestAlertsFireAndClear].
var mayBeEmpty = map[string]bool{
	"Memory B": true, // there is no memory limit
}

// TestAlertsFireAndClear: a real Prometheus scrapes two agents and evaluates the rules, in
// which only the times are shortened. Each alert fires when its cause begins, for the consumer
// or agent that it concerns, and clears when the cause ends. While all fire, each query of the
// dashboard finds data.
func TestAlertsFireAndClear(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	server := program(t, "prometheus")
	s := newScene(t)
	prom := startPrometheus(t, server, strings.TrimPrefix(s.agent.URL, "http://"), s.second)

	wait.For(t, wait.Timeout, "a scrape of the main agent", func() error {
		if len(prom.query(t, `kcagent_consumer_dead_letters_total{consumer="undecodable"}`)) == 0 {
			return errors.New("no series") // an increase needs a sample from before
		}
		return nil
	})
	s.breakMain(t)
	// Two alerts end by themselves, so the test waits for them at once.
	prom.waitFiring(t, "KcagentRecordsNotDecoded", map[string]string{"instance": s.main, "consumer": "undecodable"})
	s.restartSecond(t, prom)
	prom.waitFiring(t, "KcagentRestarting", map[string]string{"instance": s.second})
	s.secondProc.Kill()
	firing := map[string]map[string]string{
		"KcagentDown":               {"instance": s.second},
		"KcagentConfigRejected":     {"instance": s.main},
		"KcagentChangePending":      {"instance": s.main, "consumer": "changing"},
		"KcagentConsumerError":      {"instance": s.main, "consumer": "away"},
		"KcagentConsumerLag":        {"instance": s.main, "consumer": "lagging"},
		"KcagentConsumerLagUnknown": {"instance": s.main, "consumer": "stalled"},
		"KcagentPartitionStalled":   {"instance": s.main, "consumer": "stalled"},
		"KcagentZombie":             {"instance": s.main},
		"KcagentDiskNearlyFull":     {"instance": s.main},
	}
	seen := map[string]bool{"KcagentRecordsNotDecoded": true, "KcagentRestarting": true}
	if s.disk == "" {
		delete(firing, "KcagentDiskNearlyFull")
		seen["KcagentDiskNearlyFull"] = true // the test is skipped at its end
	}
	for _, r := range readRules(t).Groups[0].Rules {
		if firing[r.Alert] == nil && !seen[r.Alert] && !onlyUnitTests[r.Alert] {
			t.Errorf("nothing causes %s", r.Alert)
		}
	}
	for alert, labels := range firing {
		prom.waitFiring(t, alert, labels)
	}
	for _, a := range prom.alerts(t) {
		if a.Labels["consumer"] == "calm" {
			t.Errorf("an alert for the consumer that does not fail: %v", a.Labels)
		}
		if text := fmt.Sprint(a.Annotations); strings.Contains(text, "error expanding") || strings.Contains(text, "no value") {
			t.Errorf("the texts of %s are %s", a.Labels["alertname"], text)
		}
	}
	t.Run("dashboard", func(t *testing.T) { prom.checkDashboard(t) })

	s.repairAll(t)
	wait.For(t, wait.Timeout, "all alerts to clear", func() error {
		for _, a := range prom.alerts(t) {
			if a.State == "firing" {
				return fmt.Errorf("%v still fires", a.Labels)
			}
		}
		return nil
	})
	t.Run("disk", func(t *testing.T) {
		if s.disk == "" {
			loud.Skip(t, "KCAGENT_REQUIRE_MOUNT", "a small disk cannot be mounted (root is required)")
		}
	})
}

// A scene is two agents: the main one with a consumer for each failure, and a second one that
// is restarted and killed.
type scene struct {
	agent        *agenttest.Agent
	main, second string // addresses of the agents
	secondConfig string
	secondProc   *process.Process

	dir, disk string // of data; of a small disk, "" if it cannot be mounted
	cluster   *kfake.Cluster
	client    *kgo.Client
	away      *badnet.TwoClusters
	stalling  *kfake.Cluster
	stalled   atomic.Bool // stalling returns no records
	stdout    *os.File    // nobody reads it
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir(), away: badnet.StartTwoClusters(t)}
	if dir := mountDisk(t, filepath.Join(s.dir, "data"), "64m"); dir != "" {
		s.dir = dir // the disk of this machine may be nearly full
	}
	s.disk = mountDisk(t, filepath.Join(s.dir, "disk"), "1m")
	topics := []string{"calm", "changing", "lagging", "stuck", "full", "undecodable"}
	s.cluster = newCluster(t, topics...)
	s.stalling = newCluster(t, "stalled")
	s.stallFetches() // from the start, so that no record is read, and the lag time is unknown
	s.stalled.Store(true)
	stalling := newClient(t, s.stalling)
	for range 3 {
		s.produce(t, stalling, time.Now(), "stalled", "{}")
	}
	s.client = newClient(t, s.cluster)
	s.produce(t, s.client, time.Now(), "calm", "{}")
	s.produce(t, s.client, time.Now(), "full", "{}")
	s.produce(t, s.client, time.Now().Add(-time.Hour), "lagging", "old")
	s.produce(t, s.client, time.Now(), "stuck", strings.Repeat("x", 500_000))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	defer writer.Close()
	s.stdout = reader
	s.agent = agenttest.Start(t, agenttest.Options{Config: s.config(scenario{stuck: true}), Stdout: writer})
	s.main = strings.TrimPrefix(s.agent.URL, "http://")
	s.agent.WaitConsumer("lagging", "write a record", func(c agenttest.Consumer) bool { return c.Committed() == 1 })
	s.agent.WaitState("away", "RUNNING")
	wait.For(t, wait.Timeout, "standard output to be full", func() error {
		if n := fill(t, reader); n < 32<<10 {
			return fmt.Errorf("it holds %d bytes", n)
		}
		return nil
	})
	s.second = fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	s.secondConfig = filepath.Join(s.dir, "second.yaml")
	if err := os.WriteFile(s.secondConfig, []byte("consumers: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// A scenario is what differs between the configuration files of the main agent.
type scenario struct{ stuck, paused, changed bool }

func (s *scene) config(sc scenario) string {
	state, other := "running", ""
	if sc.paused {
		state = "paused"
	}
	if sc.changed {
		other = ", brokers: ['127.0.0.1:1']"
	}
	full := s.disk
	if full == "" {
		full = s.dir
	}
	text := fmt.Sprintf(`
defaults: {brokers: [%[1]q], flush: {interval: 200ms}, sink: {file: {path: '%[2]s/{name}.log'}}}
consumers:
  - {name: calm, topics: [calm]}
  - {name: lagging, topics: [lagging], state: %[3]s}
  - {name: changing, topics: [changing]%[4]s}
  - {name: full, topics: [full], sink: {file: {path: '%[5]s/full.log'}}}
  - {name: away, topics: [t], brokers: [%[6]q]}
  - {name: lake, topics: [t], state: stopped, sink: {objects: {url: 'file://%[2]s/objects'}}}
  - {name: stalled, topics: [stalled], brokers: [%[7]q], stall_timeout: 1s}
  - {name: undecodable, topics: [undecodable], decode: {value: json}, on_error: {dead_letter: {file: {path: '%[2]s/dead.jsonl'}}}, sink: {file: {format: json}}}
`, s.cluster.ListenAddrs()[0], s.dir, state, other, full, s.away.Proxy.Addr(), s.stalling.ListenAddrs()[0])
	if sc.stuck {
		text += "  - {name: stuck, topics: [stuck], sink: {stdout: {}}}\n"
	}
	return text
}

// breakMain causes the alerts of the main agent.
func (s *scene) breakMain(t *testing.T) {
	t.Helper()
	s.away.Proxy.Set(badnet.Fault{Refuse: true})
	if s.disk != "" {
		if err := os.WriteFile(s.junk(), make([]byte, 1_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.agent.Write(s.config(scenario{paused: true, changed: true})) // and stuck is removed
	s.agent.WaitState("lagging", "PAUSED")
	s.agent.WaitConsumer("changing", "have a pending change", func(c agenttest.Consumer) bool { return c.PendingChange != nil })
	s.produce(t, s.client, time.Now().Add(-time.Hour), "lagging", "another")
	s.produce(t, s.client, time.Now(), "undecodable", "not JSON")
	s.agent.Write("nonsense\n")
}

// repairAll ends all causes.
func (s *scene) repairAll(t *testing.T) {
	t.Helper()
	s.startSecond(t)
	s.stalled.Store(false)
	s.away.Proxy.Set(badnet.Fault{})
	if s.disk != "" {
		if err := os.Remove(s.junk()); err != nil {
			t.Fatal(err)
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 64<<10)
		for {
			if _, err := s.stdout.Read(buf); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { s.stdout.Close(); <-drained })
	s.agent.Write(s.config(scenario{}))
}

func (s *scene) junk() string { return filepath.Join(s.disk, "junk") }

// restartSecond starts the second agent and restarts it three times. Each start has been
// scraped before the next.
func (s *scene) restartSecond(t *testing.T, prom *prometheusServer) {
	t.Helper()
	var last string
	for i := range 4 {
		if i > 0 {
			s.secondProc.Kill()
		}
		s.startSecond(t)
		wait.For(t, wait.Timeout, "a scrape of the second agent", func() error {
			now := prom.query(t, fmt.Sprintf("process_start_time_seconds{instance=%q}", s.second))
			if len(now) == 0 || now[0].Value[1] == last {
				return fmt.Errorf("the start time is %v", now)
			}
			last = now[0].Value[1].(string)
			return nil
		})
	}
}

func (s *scene) startSecond(t *testing.T) {
	t.Helper()
	cmd := exec.Command(agenttest.Binary(t), "run", "--config", s.secondConfig, "--listen", s.second, "--log-level", "error")
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	s.secondProc = p
	t.Cleanup(p.Kill)
}

// stallFetches makes a broker report records and return none, while stalled is set.
func (s *scene) stallFetches() {
	s.stalling.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		s.stalling.KeepControl()
		req := k.(*kmsg.FetchRequest)
		if !s.stalled.Load() || len(req.Topics) == 0 {
			return nil, nil, false
		}
		<-time.After(20 * time.Millisecond) // a long poll, shortened
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, 3, 3
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
}

func newCluster(t *testing.T, topics ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newClient(t *testing.T, c *kfake.Cluster) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.MaxVersions(kversion.V3_6_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (s *scene) produce(t *testing.T, client *kgo.Client, at time.Time, topic, value string) {
	t.Helper()
	r := &kgo.Record{Topic: topic, Value: []byte(value), Timestamp: at}
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// mountDisk mounts a disk of a size until the end of the test. It returns "" where the permission is
// missing.
func mountDisk(t *testing.T, dir, size string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		return ""
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill returns how many bytes a pipe holds.
func fill(t *testing.T, pipe *os.File) (n int) {
	t.Helper()
	conn, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = conn.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return n
}
