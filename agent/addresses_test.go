package agent

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/agent/consumer"
	"kcagent/config"
)

// TestOtherClusterAfterARestartIsNotRead: after a restart, no record of a cluster that has
// taken the place of the former one enters the file, and nothing is committed there. After
// an edit of brokers, the file continues.
func TestOtherClusterAfterARestartIsNotRead(t *testing.T) {
	one := newFileRig(t, 1, kfake.ClusterID("one"))
	path := filepath.Join(t.TempDir(), "out.log")
	spec := ", start: latest" + toFile(path)
	one.edit(spec)
	one.wantStatus(consumer.Running)
	one.produce(0, "a", "b")
	one.wantCommitted(0, 2)
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	_, port, _ := net.SplitHostPort(one.cluster.ListenAddrs()[0])
	one.cluster.Close()

	n, _ := strconv.Atoi(port)
	two := newFileRig(t, 1, kfake.ClusterID("two"), kfake.Ports(n))
	two.produce(0, "c", "d", "e")
	for range 2 {
		two.edit(spec)
		two.wantError("resume t/0: brokers 127.0.0.1:" + port +
			" belong to cluster two now, and the file was written from cluster one: restore the former cluster; to read the new one, edit brokers")
		two.wantLines(path, "a", "b")
		if at := two.committed(0); at != -1 {
			t.Errorf("%d is committed", at)
		}
		if n := two.counters().SinkErrors; n != 0 {
			t.Errorf("%d errors of the sink are counted", n)
		}
		if err := two.stop(); err != nil {
			t.Error(err)
		}
		two.start()
	}
	c, problems := config.Parse("consumers.yaml", []byte("consumers:\n  - {name: c, brokers: ['localhost:"+port+"'], topics: [t]"+toFile(path)+"}"), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	two.updates <- config.Update{Config: c}
	two.wantCommitted(0, 3)
	two.wantLines(path, "a", "b", "c", "d", "e")
}
