package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kcagent/agent/consumer"
	"kcagent/agent/offsets"
	"kcagent/config"
	"kcagent/e2e/badnet"
	"kcagent/sink/kinds"
)

// twins is a rig with two clusters that advertise the same address, with the topic "t" each.
type twins struct {
	*rig // of cluster A
	*badnet.TwoClusters
	other *rig   // of cluster B
	path  string // of the file
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	cs := badnet.StartTwoClusters(t)
	start := func(c *badnet.ClusterBehind) *rig {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
			kgo.MaxVersions(kversion.V3_6_0()), // topics by name, not by id
			c.Direct())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return &rig{T: t, cluster: c.Cluster, client: client, updates: make(chan config.Update)}
	}
	w := &twins{rig: start(cs.A), TwoClusters: cs, other: start(cs.B), path: filepath.Join(t.TempDir(), "f")}
	w.produce(0, "a0", "a1")
	w.other.produce(0, "b0", "b1", "b2", "b3", "b4")
	cs.B.RecordRequests()
	w.open = kinds.Open
	w.start()
	return w
}

// edit applies a file with the consumer c and these brokers.
func (w *twins) edit(brokers, extra string) {
	w.Helper()
	text := fmt.Sprintf("consumers:\n  - {name: c, brokers: [%s], topics: [t], flush: {interval: 20ms}, sink: {file: {path: %q}}%s}", brokers, w.path, extra)
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		w.Fatal(problems)
	}
	w.updates <- config.Update{Config: c}
}

func (w *twins) wantFile(want ...string) {
	w.Helper()
	w.eventually("the file", func() (bool, any) {
		b, _ := os.ReadFile(w.path)
		return strings.Join(strings.Fields(string(b)), " ") == strings.Join(want, " "), string(b)
	})
}

// wantForeignCluster waits for the error that names both clusters.
func (w *twins) wantForeignCluster() {
	w.Helper()
	w.wantError("broker " + w.Proxy.Addr() + " belongs to cluster cluster-b, but this consumer reads from cluster cluster-a: restore the address, or edit brokers to move to another cluster")
}

// untouched fails if the second cluster received requests other than those that identify it.
func (w *twins) untouched() {
	w.Helper()
	for name := range w.B.Requests() {
		if name != "ApiVersions" && name != "Metadata" {
			w.Errorf("the other cluster received %s", name)
		}
	}
}

// TestOtherClusterAtTheAddressIsNotRead: a consumer reads nothing from a cluster that
// answers at the address of its own cluster, reports that, and resumes once its own is
// back. Its replacement and the pre-check of that stay with the cluster, too. Only an edit
// of brokers moves the consumer.
func TestOtherClusterAtTheAddressIsNotRead(t *testing.T) {
	t.Parallel()
	w := newTwins(t)
	proxy := fmt.Sprintf("%q", w.Proxy.Addr())
	w.edit(proxy, "")
	w.wantFile("a0", "a1")
	w.wantStatus(consumer.Running)
	w.Proxy.Redirect(w.B.Addr, false)
	w.wantForeignCluster()
	w.edit(proxy, ", group: g")
	w.eventually("a failed pre-check", func() (bool, any) {
		p := w.consumer().PendingChange
		return p != nil && p.Error != nil && strings.Contains(*p.Error, "belongs to cluster cluster-b, but this consumer reads from cluster cluster-a"), p
	})
	w.edit(proxy, "")
	w.untouched()
	w.wantFile("a0", "a1")
	w.Proxy.Redirect(w.A.Addr, false)
	w.wantStatus(consumer.Running)
	w.produce(0, "a2")
	w.wantFile("a0", "a1", "a2")
	w.wantCommitted(0, 3)

	id := w.consumer().ID
	w.edit(proxy, ", group: kcagent-c, instance_id: i") // replaced: its fetcher ends
	w.eventually("the replacement", func() (bool, any) {
		c := w.consumer()
		return c.ID != id && c.Status == consumer.Running, c
	})
	w.Proxy.Redirect(w.B.Addr, false)
	w.wantForeignCluster()
	w.untouched()
	w.wantFile("a0", "a1", "a2")

	w.edit(fmt.Sprintf("%q", w.B.Addr), ", instance_id: i")
	w.wantFile("a0", "a1", "a2", "b0", "b1", "b2", "b3", "b4")
	w.wantStatus(consumer.Running)
	id = w.consumer().ID
	w.edit(proxy, ", instance_id: i") // which leads there now
	w.eventually("the move back", func() (bool, any) {
		c := w.consumer()
		return c.ID != id && c.Status == consumer.Running, c
	})
	w.other.produce(0, "b5")
	w.wantFile("a0", "a1", "a2", "b0", "b1", "b2", "b3", "b4", "b5")
	w.wantStatus(consumer.Running)
}

// TestRebuiltClusterIsReadOnceTheFileWasMovedAway: once no consumer has the brokers, and
// the file was moved away, a consumer reads from the cluster that is there now.
func TestRebuiltClusterIsReadOnceTheFileWasMovedAway(t *testing.T) {
	w := newTwins(t)
	proxy := fmt.Sprintf("%q", w.Proxy.Addr())
	w.edit(proxy, "")
	w.wantFile("a0", "a1")
	w.wantStatus(consumer.Running)
	w.Proxy.Redirect(w.B.Addr, false)
	w.wantForeignCluster()
	none, _ := config.Parse("consumers.yaml", []byte("consumers: []"), os.LookupEnv)
	w.updates <- config.Update{Config: none}
	w.eventually("the end", func() (bool, any) { s := w.agent.Status(); return len(s.Terminated) == 1, s })
	for _, f := range []string{w.path, w.path + "+checkpoint"} {
		if err := os.Rename(f, f+".former"); err != nil {
			t.Fatal(err)
		}
	}
	w.edit(proxy, "")
	w.wantFile("b0", "b1", "b2", "b3", "b4")
}

// TestWrongClusterAtTheStartIsNotRead: an agent that is started while another cluster
// answers at the address reads nothing from it, because the checkpoint names the former
// one, and resumes once that is back. Nothing of the responses of the wrong cluster counts
// then, and nothing is committed there, even if its connections live on.
func TestWrongClusterAtTheStartIsNotRead(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%v", keep), func(t *testing.T) {
			w := newTwins(t)
			proxy := fmt.Sprintf("%q", w.Proxy.Addr())
			w.edit(proxy, "")
			w.wantFile("a0", "a1")
			if err := w.stop(); err != nil {
				t.Error(err)
			}
			w.other.commitExternally(0, 4, "")
			w.Proxy.Redirect(w.B.Addr, false)
			w.start()
			w.edit(proxy, ", on_offset_out_of_range: latest")
			w.wantError("belong to cluster cluster-b now, and the file was written from cluster cluster-a")
			w.produce(0, "a2", "a3", "a4", "a5")
			w.Proxy.Redirect(w.A.Addr, keep)
			if keep { // as in half a minute
				f := w.agent.clusters.Open()[0].Fetcher
				f.Reconnect()
				if err := f.Refresh(t.Context(), []string{"t"}); err != nil {
					t.Error(err)
				}
			}
			w.wantFile("a0", "a1", "a2", "a3", "a4", "a5")
			w.wantStatus(consumer.Running)
			w.wantCommitted(0, 6)
			if n, _ := w.other.commitOf(0); n != 4 {
				t.Errorf("the other cluster has %d committed", n)
			}
			for _, r := range []offsets.Reason{offsets.AtExternal, offsets.AtExternalReset, offsets.AtOtherClient, offsets.AtMirrored, offsets.AtMismatch, offsets.TopicRecreated} {
				if strings.Contains(w.log.String(), r.Message) {
					t.Errorf("the log says: %s", r.Message)
				}
			}
		})
	}
}

// TestPartitionsOfTheWrongClusterAreNotRead: a file has no entry for a partition that the
// former cluster did not have. Nevertheless it gets nothing from the other cluster, and the
// former one is used once it is back.
func TestPartitionsOfTheWrongClusterAreNotRead(t *testing.T) {
	t.Parallel()
	w := newTwins(t)
	proxy := fmt.Sprintf("%q", w.Proxy.Addr())
	w.edit(proxy, "")
	w.wantFile("a0", "a1")
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "t", 3
	req.Topics = append(req.Topics, topic)
	if resp, err := req.RequestWith(t.Context(), w.other.client); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	w.Proxy.Redirect(w.B.Addr, false)
	w.start()
	w.edit(proxy, "")
	w.eventually("ERROR with three partitions", func() (bool, any) {
		c := w.consumer()
		return c.Status == consumer.Failing && len(c.Partitions) == 3, c
	})
	w.Proxy.Redirect(w.A.Addr, false)
	w.produce(0, "a2")
	w.wantFile("a0", "a1", "a2")
	w.wantStatus(consumer.Running)
	if got := w.B.Requests(); got["ListOffsets"] || got["Fetch"] {
		t.Errorf("the other cluster received %v", got)
	}
}
