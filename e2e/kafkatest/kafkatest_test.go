package kafkatest_test

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kcagent/e2e/kafkatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRestartKeepsData(t *testing.T) {
	c := kafkatest.Start(t, kafkatest.Options{})
	c.CreateTopic(t, "orders", 3)
	c.Produce(t, kafkatest.Load{Topic: "orders", Partitions: 3, Count: 1000})
	checkRecords(t, c, 1000)

	c.Stop()
	if conn, err := net.Dial("tcp", c.Addrs()[0]); err == nil {
		conn.Close()
		t.Error("a stopped broker still listens")
	}
	c.Restart(t)
	checkRecords(t, c, 1000)

	c.Produce(t, kafkatest.Load{Topic: "orders", Partitions: 3, First: 1000, Count: 10})
	c.Kill()
	c.Restart(t)
	checkRecords(t, c, 1010)
}

// checkRecords requires n records in each of the three partitions of orders, in order.
func checkRecords(t *testing.T, c *kafkatest.Cluster, n int) {
	t.Helper()
	got := c.Read(t, "orders")
	if parts := slices.Sorted(maps.Keys(got)); !slices.Equal(parts, []int32{0, 1, 2}) {
		t.Fatalf("records in partitions %v, want 0 to 2", parts)
	}
	for p, records := range got {
		if len(records) != n {
			t.Fatalf("%d records in partition %d, want %d", len(records), p, n)
		}
		for seq, r := range records {
			if want := kafkatest.Value("orders", p, seq); string(r.Value) != string(want) {
				t.Fatalf("record %d of partition %d is %q, want %q", seq, p, r.Value, want)
			}
		}
	}
}

func TestBrokersHaveTheirProperties(t *testing.T) {
	c := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Properties: map[string]string{"num.partitions": "7"}})
	if n := len(c.Addrs()); n != 3 {
		t.Fatalf("%d addresses, want 3", n)
	}
	c.CreateTopic(t, "spread", -1) // as many partitions as the brokers' property says
	if n := len(c.EndOffsets(t, "spread")); n != 7 {
		t.Errorf("%d partitions, want the 7 of the properties", n)
	}
}

func TestPausedBrokerDoesNotRespond(t *testing.T) {
	c := kafkatest.Start(t, kafkatest.Options{})
	responds := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, c.Client())
		return err
	}
	c.Pause()
	conn, err := net.Dial("tcp", c.Addrs()[0])
	if err != nil {
		t.Errorf("a paused broker rejects connections: %v", err)
	} else {
		conn.Close()
	}
	if responds(300*time.Millisecond) == nil {
		t.Error("a paused broker responds")
	}
	c.Continue()
	if err := responds(30 * time.Second); err != nil {
		t.Errorf("a broker that continues does not respond: %v", err)
	}
}

func TestDeniedAndDeletedTopicsAreHidden(t *testing.T) {
	c := kafkatest.Start(t, kafkatest.Options{Properties: kafkatest.Authorizer()})
	c.CreateTopic(t, "secret", 1)
	c.CreateTopic(t, "open", 1)
	codes := func() map[string]int16 {
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), c.Client())
		if err != nil {
			t.Fatal(err)
		}
		codes := make(map[string]int16)
		for _, topic := range resp.Topics {
			codes[*topic.Topic] = topic.ErrorCode
		}
		return codes
	}
	allow := c.Deny(t, "secret")
	if _, seen := codes()["secret"]; seen {
		t.Error("a denied topic is visible")
	}
	allow()
	if _, seen := codes()["secret"]; !seen {
		t.Error("an allowed topic is not visible")
	}
	c.DeleteTopic(t, "secret")
	if _, seen := codes()["secret"]; seen {
		t.Error("a deleted topic is visible")
	}
	if _, seen := codes()["open"]; !seen {
		t.Error("the other topic is not visible")
	}
}

func TestEndOfATestLeavesNothing(t *testing.T) {
	kafkatest.Require(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var addr string
	t.Run("a test with a cluster", func(t *testing.T) {
		addr = kafkatest.Start(t, kafkatest.Options{}).Addrs()[0]
	})
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the broker runs after the end of its test")
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "kcagent-*")); len(left) > 0 {
		t.Errorf("the test left %v", left)
	}
	if _, err := os.Stat(tmp); err != nil {
		t.Fatal(err)
	}
}
