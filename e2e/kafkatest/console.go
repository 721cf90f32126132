package kafkatest

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// toolsPom lists Kafka's command line tools, which the broker does not need.
const toolsPom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kcagent</groupId><artifactId>kafka-tools-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>%s</version></dependency>
  </dependencies>
</project>
`

// Console returns the lines that Kafka's console consumer prints for the first n records of
// a partition. Properties configure its formatter, such as print.timestamp=true.
func (c *Cluster) Console(t testing.TB, topic string, partition, n int, properties ...string) []string {
	t.Helper()
	broker := c.Brokers[0]
	dir, err := jarFolder("tools-" + c.version)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := fetchOnce(dir, strings.Replace(toolsPom, "%s", c.version, 1), "-DexcludeTransitive=true")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-cp", filepath.Join(tools, "*") + ":" + filepath.Join(broker.jars, "*"),
		"org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.Addr(),
		"--topic", topic, "--partition", strconv.Itoa(partition), "--offset", "earliest",
		"--max-messages", strconv.Itoa(n), "--timeout-ms", "30000",
	}
	for _, p := range properties {
		args = append(args, "--property", p)
	}
	cmd := broker.java(args...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the console consumer: %v\n%s", err, errors.String())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) < n {
		t.Fatalf("the console consumer printed %d lines, want %d:\n%s\n%s", len(lines), n, out, errors.String())
	}
	return lines[len(lines)-n:] // newer versions first print a warning about --property
}

// ProduceBatch writes one record batch to a partition of a cluster with one broker, after
// it has set the length and the checksum of the batch.
func (c *Cluster) ProduceBatch(t testing.TB, topic string, partition int32, b kmsg.RecordBatch) {
	t.Helper()
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	// Newer versions of the request name topics by id.
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatalf("create kafka client: %v", err)
	}
	defer client.Close()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, raw
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	resp, err := client.Broker(1).Request(ctx, req)
	if err != nil {
		t.Fatalf("produce a batch to %s: %v", topic, err)
	}
	for _, rt := range resp.(*kmsg.ProduceResponse).Topics {
		for _, rp := range rt.Partitions {
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				t.Fatalf("produce a batch to %s: %v", topic, err)
			}
		}
	}
}
