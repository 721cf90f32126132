package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/s3test"
)

const (
	lakePartitions = 2
	lakeRotation   = "rotate: {size: 64KiB, every: 1s}"
)

// A lake is the environment of a consumer that writes objects: a topic, and a proxy before the
// store. Its methods are for the goroutine of the test.
type lake struct {
	*scene
	entry
	*feed
	server         *s3test.Server
	proxy          *s3test.Proxy
	bucket, folder string // folder has the spool and the files with the credentials
	pad            int    // further bytes of each record
}

// newLake returns a lake on a server.
func (s *scene) newLake(t *testing.T, server *s3test.Server, name string) *lake {
	t.Helper()
	l := &lake{scene: s, server: server, proxy: server.Proxy(t), bucket: server.Bucket, folder: filepath.Join(s.dir, name)}
	if err := os.Mkdir(l.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	l.credentials(t, server.AccessKey, server.SecretKey, "none")
	topic := s.newTopic(t, name, lakePartitions)
	l.entry, l.feed = s.entry(name, topic), s.newFeed(topic, lakePartitions)
	l.configure(lakeRotation)
	return l
}

// credentials replaces the files with the credentials.
func (l *lake) credentials(t *testing.T, access, secret, token string) {
	t.Helper()
	replaceFile(t, l.folder, "access_key", []byte(access+"\n"))
	replaceFile(t, l.folder, "secret_key", []byte(secret+"\n"))
	replaceFile(t, l.folder, "token", []byte(token+"\n"))
}

// configure sets the keys of the sink. more are those without a default here.
func (l *lake) configure(more string) {
	l.objects = fmt.Sprintf("url: 's3://%s/%s', region: %s, endpoint: '%s', path_style: true, format: raw, compression: none, "+
		"credentials: {access_key_file: %[5]s/access_key, secret_key_file: %[5]s/secret_key}, "+
		"key: '{topic}/{partition}-{first}-{last}-{topic_id}', spool: %[5]s/spool, %s",
		l.bucket, l.name, s3test.Region, l.proxy.Endpoint, l.folder, more)
}

// large makes the records so large that 40 of one partition are an upload in parts.
func (l *lake) large() {
	l.pad, l.partitions = 950_000, 1
	l.configure("rotate: {size: 33MiB, every: 1h}")
}

// produce produces count further records to each partition.
func (l *lake) produce(t *testing.T, count int) {
	t.Helper()
	pad := bytes.Repeat([]byte{'x'}, l.pad)
	l.Produce(t, kafkatest.Load{
		Topic: l.topic, Partitions: l.partitions, First: l.produced, Count: count,
		Value: func(topic string, partition int32, seq int) []byte {
			return append(append(pad[:len(pad):len(pad)], '\n'), kafkatest.Value(topic, partition, seq)...)
		},
	})
	l.produced += count
}

// wantExact requires each record in exactly one object, and no other object.
func (l *lake) wantExact(t *testing.T) {
	t.Helper()
	tr := make(trail)
	for o := range l.server.Client.ListObjectsIter(t.Context(), l.bucket, minio.ListObjectsOptions{Prefix: l.name + "/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if !strings.HasPrefix(o.Key, l.name+"/"+l.topic+"/") {
			t.Errorf("%s: object %s has no records", l.name, o.Key)
			continue
		}
		body, _, _, err := l.server.Client.GetObject(t.Context(), l.bucket, o.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(body)
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if line = strings.TrimSpace(line); strings.Trim(line, "x") == "" {
				continue
			}
			if err := tr.add(line); err != nil {
				t.Fatalf("%s: %v", o.Key, err)
			}
		}
		_ = body.Close()
	}
	tr.sorted().wantExact(t, l.topic, l.partitions, l.produced)
}
