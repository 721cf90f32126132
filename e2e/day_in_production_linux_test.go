package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// dayConfig is the consumers.yaml in the ConfigMap, for the addresses of the brokers, the
// suffix of the groups and the topic. The same text is right for each replica, which has its
// own POD_NAME and volume.
const dayConfig = `
clusters:
  main:
    brokers: [%[1]s]
    session_timeout: 30s
defaults:
  cluster: main
  group: '{name}-%[2]s'
  instance_id: '{name}-${POD_NAME}'
  topics: [%[3]s]
  flush: {interval: 500ms}
consumers:
  - name: orders
    state: running
    sink: {file: {path: '${DATA}/orders/{partition}.jsonl', format: json}}
  - name: audit
    sink: {file: {path: '${DATA}/audit/all.log', format: raw}}
`

const dayPartitions = 10

// A day is a statefulSet whose topic gets records all day long.
type day struct {
	*statefulSet
	topic         string
	disk          string // the volume of kcagent-1
	stop          func() // ends the producer
	produced      func() int
	orders, audit entry
}

func newDay(t *testing.T) *day {
	t.Helper()
	requireTool(t, "bash")
	s := newSceneOn(t, kafkatest.Start(t, kafkatest.Options{}))
	d := &day{statefulSet: &statefulSet{scene: s, partitions: dayPartitions}, disk: mountDisk(t, s.dir, "size=64m")}
	d.topic = s.newTopic(t, "orders", dayPartitions)
	d.orders, d.audit = s.entry("orders", d.topic), s.entry("audit", d.topic)
	d.consumers = []entry{d.orders, d.audit}
	d.configMap = fmt.Sprintf(dayConfig, strings.Join(s.Addrs(), ", "), s.suffix, d.topic)
	d.volumes = []string{d.newFolder(t, "volume-kcagent-0"), d.disk}
	d.stop, d.produced = s.keepProducingEvery(t, time.Second, d.topic, dayPartitions)
	return d
}

// TestDayInProduction follows three replicas through what happens to them in production.
// Records are produced from the first step to the last but one.
func TestDayInProduction(t *testing.T) {
	t.Parallel()
	d := newDay(t)

	step(t, "install: three replicas share the ten partitions of each consumer")
	d.scale(t, 3)
	shares := d.waitDivided(t)
	d.waitReading(t)

	step(t, "edit: every replica applies the new flush interval, without a rebalance")
	d.edit(t, "interval: 500ms", "interval: 200ms")
	d.waitApplied(t)
	d.wantSameDivision(t, shares)

	step(t, "edit: orders is paused and resumed, and audit continues")
	d.edit(t, "state: running", "state: paused")
	d.waitApplied(t)
	d.waitStates(t, "orders", "PAUSED")
	d.waitSomeReading(t, d.replicas, []entry{d.audit})
	d.edit(t, "state: paused", "state: running")
	d.waitApplied(t)
	d.wantSameDivision(t, shares)

	step(t, "bad edit: every replica rejects it, says where the mistake is, and continues")
	good := d.configMap
	d.edit(t, "interval: 200ms", "interval: soon")
	d.waitRejected(t, good, "soon")
	d.wantSameDivision(t, shares)
	d.waitReading(t)

	step(t, "the edit is corrected")
	d.edit(t, "interval: soon", "interval: 200ms")
	d.waitApplied(t)
	d.wantSameDivision(t, shares)

	step(t, "rolling upgrade: one replica after the other restarts with the next version, without a rebalance")
	d.upgrade(t, agenttest.Next(t))
	for _, r := range d.replicas {
		if v := r.Status().Agent.Version; v != agenttest.NextVersion {
			t.Errorf("%s has version %s", r.name, v)
		}
	}
	d.wantSameDivision(t, shares)
	d.waitReading(t)

	step(t, "broker restart: the consumers report it, and recover by themselves")
	d.Stop()
	d.waitStates(t, "orders", "ERROR")
	d.waitStates(t, "audit", "ERROR")
	d.Restart(t)
	d.waitReading(t)
	shares = d.waitDivided(t)

	step(t, "full disk: the consumers of kcagent-1 report it, and those of the other replicas continue")
	fillDisk(t, d.disk)
	for _, e := range d.consumers {
		c := d.replicas[1].WaitState(e.name, "ERROR")
		if !strings.Contains(c.Error(), filepath.Join(d.disk, e.name)) || !strings.Contains(c.Error(), "no space") {
			t.Errorf("the error of %s is %q, want the file and the full disk", e.name, c.Error())
		}
	}
	d.waitSomeReading(t, []*replica{d.replicas[0], d.replicas[2]}, d.consumers)

	step(t, "the disk gets more space: kcagent-1 continues by itself, and no partition has moved")
	resizeDisk(t, d.disk, "64m")
	d.wantSameDivision(t, shares)
	d.waitReading(t)

	step(t, "scale to five: the new replicas take partitions, and no other partition moves")
	d.scale(t, 5)
	five := d.waitDivided(t)
	wantWithin(t, five, shares)
	d.waitReading(t)

	step(t, "scale back to three: after the session timeout the others take the partitions over")
	d.scale(t, 3)
	shares = d.waitDivided(t)
	wantWithin(t, five, shares)
	d.waitReading(t)

	step(t, "night: kcagent-0 is killed, and continues where its files end, without a rebalance")
	d.replicas[0].Kill()
	d.replicas[0] = d.launch(t, 0)
	d.wantSameDivision(t, shares)
	d.waitReading(t)

	step(t, "production ends: everything is committed, and every replica ends with exit code 0")
	d.stop()
	total := int64(dayPartitions * d.produced())
	d.waitGroupCommitted(t, d.orders, total)
	d.waitGroupCommitted(t, d.audit, total)
	for _, r := range d.replicas {
		for _, e := range d.consumers {
			d.wantResets(t, r.Agent, e, 0)
		}
	}
	d.scale(t, 0)

	step(t, "verify: every record is in the files of the five volumes, once")
	d.wantProof(t)
	d.wantSabotageNoticed(t)
}

// step begins a part of the day. The log of a test that fails ends with the step that failed.
func step(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s  %s", time.Now().Format(time.TimeOnly), what)
}

// waitRejected waits until every replica reports the file as rejected, by status and metrics,
// while the good one stays in force.
func (d *day) waitRejected(t *testing.T, good, mistake string) {
	t.Helper()
	for _, r := range d.replicas {
		s := r.WaitStatus("the file to be rejected", func(s agenttest.Status) bool {
			return s.Config.State == "rejected" && s.Config.FileSHA256 == agenttest.Sum(d.configMap)
		})
		line := 1 + strings.Count(d.configMap[:strings.Index(d.configMap, mistake)], "\n")
		if p := s.Config.Problems; len(p) != 1 || p[0].Line != line || !strings.Contains(p[0].Message, mistake) {
			t.Errorf("%s reports the problems %+v, want one in line %d", r.name, p, line)
		}
		if s.Config.SHA256 != agenttest.Sum(good) {
			t.Errorf("%s does not have the last valid configuration", r.name)
		}
		if v, ok := r.Metrics().Value("kcagent_config_last_reload_successful"); !ok || v != 0 {
			t.Errorf("the metrics of %s do not report the rejected file", r.name)
		}
	}
}

// verify runs kcagent verify on the files of the consumer orders in all volumes.
func (d *day) verify(t *testing.T) (output string, err error) {
	t.Helper()
	args := []string{"verify"}
	for _, volume := range d.volumes {
		args = append(args, filepath.Join(volume, "orders"))
	}
	out, err := exec.Command(agenttest.Binary(t), args...).CombinedOutput()
	return string(out), err
}

// wantProof requires that every record is in the files of each consumer, once: those in the
// JSON format by kcagent verify, the others by their numbers.
func (d *day) wantProof(t *testing.T) {
	t.Helper()
	if len(d.volumes) != 5 {
		t.Fatalf("%d volumes, want 5", len(d.volumes))
	}
	n := d.produced()
	out, err := d.verify(t)
	if err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
	// topic, partition, first, last, records, missing, repeated, late
	row := regexp.MustCompile(`(?m)^ *` + d.topic + ` +\d+ +0 +` + strconv.Itoa(n-1) + ` +` + strconv.Itoa(n) + ` +0 +0 +0 *$`)
	if found := row.FindAllString(out, -1); len(found) != dayPartitions {
		t.Errorf("verify proves %d partitions with %d records, want %d:\n%s", len(found), n, dayPartitions, out)
	}
	var raw []string
	for _, volume := range d.volumes {
		raw = append(raw, filepath.Join(volume, "audit", "all.log"))
	}
	readTrail(t, raw...).sorted().wantExact(t, d.topic, dayPartitions, n)
}

// wantSabotageNoticed requires that the proof fails if one record is removed from a file, or
// is in it twice.
func (d *day) wantSabotageNoticed(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.volumes[2], "orders", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("kcagent-2 has the files %v: %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(whole, []byte("\n"))
	half := len(all) / 2
	for what, text := range map[string][]byte{
		"missing before": slices.Concat(slices.Concat(all[:half]...), slices.Concat(all[half+1:]...)),
		"repeated at":    slices.Concat(whole, all[half]),
	} {
		if err := os.WriteFile(files[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := d.verify(t); err == nil || !strings.Contains(out, what) {
			t.Errorf("verify does not report a record that is %s: %v\n%s", what, err, out)
		}
	}
}
