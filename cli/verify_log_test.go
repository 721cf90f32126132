package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/cli/command"
)

// TestVerifyAsksTheLog: with --deep, the log of the cluster of the consumer, or of --brokers, explains a
// gap by an aborted transaction, and finds a record that no object has.
func TestVerifyAsksTheLog(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"), kfake.ClusterID("lake"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	addr := cluster.ListenAddrs()[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("orders"), kgo.TransactionalID("tx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} { // records 0, 2, 4 and markers 1, 3, 5
		err := errors.Join(client.BeginTransaction(), client.ProduceSync(context.Background(), &kgo.Record{Value: []byte("v")}).FirstErr(), client.EndTransaction(context.Background(), commit))
		if err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	url := func(name string) string { return "file://" + filepath.Join(root, name) }
	ids := map[string]string{"kcagentcluster": "lake", "kcagenttopicid": sarama.Uuid(cluster.TopicInfo("orders").TopicID).String()}
	for name, ranges := range map[string][][2]int{"explained": {{0, 0}, {4, 4}}, "all": {{0, 0}, {4, 4}}, "missing": {{0, 0}, {5, 5}}} {
		for _, r := range ranges {
			putObjectOf(t, url(name), 0, r[0], r[1], "", ids)
		}
	}
	file := filepath.Join(root, "consumers.yaml")
	text := fmt.Sprintf("defaults: {brokers: ['%s'], topics: [orders]}\nconsumers:\n- {name: explained, sink: {objects: {url: '%s'}}}\n- {name: all, isolation: read_uncommitted, sink: {objects: {url: '%s'}}}\n",
		addr, url("explained"), url("all"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{url("explained"), "--deep"}, command.Failure, "gap of offsets 1 to 3 before "},
		{[]string{url("explained"), "--deep", "--brokers", addr}, command.Success, "explained: the log has no record there"},
		{[]string{"--config", file, "explained", "--deep"}, command.Success, "explained: the log has no record there"},
		{[]string{"--config", file, "explained"}, command.Failure, "only the log can explain it"},
		{[]string{"--config", file, "all", "--deep"}, command.Failure, "orders/0: offset 2 is missing at orders/"},
		{[]string{url("missing"), "--deep", "--brokers", addr, "--allow-holes"}, command.Failure, "orders/0: offset 4 is missing at orders/"},
		{[]string{url("missing"), "--deep", "--brokers", addr, "--output", "json"}, command.Failure, `"missing_offsets": [`},
	} {
		code, out, stderr := kcagent(t, append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out, tt.out) {
			t.Errorf("verify %v exits with %d, want %d\nstdout:\n%s\nstderr:\n%s", tt.args, code, tt.code, out, stderr)
		}
	}
}
