package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/s3test"
	"kcagent/e2e/wait"
)

// TestKillsLeaveEachRecordInOneObject kills two agents of a group, one or both, at random moments and
// during uploads, while records arrive, and requires each record in exactly one object, on a
// store with conditional writes and on one without. KCAGENT_KILLS sets the number of kills.
func TestKillsLeaveEachRecordInOneObject(t *testing.T) {
	t.Parallel()
	kills, s := killsOr(t, 6), newScene(t)
	server := s3test.Start(t)
	for name, fault := range map[string]s3test.Fault{
		"conditional":   func(http.ResponseWriter, *http.Request) bool { return false },
		"unconditional": s3test.Ignore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newSharedLake(t, s, server, name)
			late := s3test.Late(time.Second, l.uploads)
			l.proxy.Set(func(w http.ResponseWriter, r *http.Request) bool { return late(w, r) || fault(w, r) })
			l.run(t, kills)
		})
	}
}

// lakeKey is the template of the keys of a sharedLake. It has a window of one second.
const lakeKey = "{topic}/{time:2006-01-02T150405}/{partition}-{first}-{last}-{topic_id}"

// A sharedLake is a prefix below which two agents write the records of two topics.
type sharedLake struct {
	*scene
	server *s3test.Server
	proxy  *s3test.Proxy
	prefix string // of all keys
	spool  string // of both agents

	uploads chan struct{} // receives uploads that are late, and so in progress

	small, large consumedTopic
	config       string
	agents       [2]*agenttest.Agent
	completed    int // open plans
}

// A consumedTopic is a topic with a consumer of its own.
type consumedTopic struct {
	name, consumer, group string
	partitions            int32
	settings              string // of its objects
}

func newSharedLake(t *testing.T, s *scene, server *s3test.Server, name string) *sharedLake {
	t.Helper()
	l := &sharedLake{scene: s, server: server, proxy: server.Proxy(t), uploads: make(chan struct{}), prefix: name, spool: filepath.Join(s.dir, "spool-"+name)}
	l.small = consumedTopic{
		name: s.newTopic(t, "small-"+name, 4), consumer: "small", group: "small-" + name + s.suffix, partitions: 4,
		settings: "format: json, compression: zstd, rotate: {size: 1MiB, every: 2s}",
	}
	l.large = consumedTopic{ // the objects are uploaded in parts
		name: s.newTopic(t, "large-"+name, 1), consumer: "large", group: "large-" + name + s.suffix, partitions: 1,
		settings: "format: raw, rotate: {size: 33MiB, every: 10s}",
	}
	var b strings.Builder
	fmt.Fprintf(&b, "clusters: {main: {brokers: [%s], session_timeout: 6s}}\nconsumers:\n", strings.Join(s.Addrs(), ", "))
	for _, topic := range []consumedTopic{l.small, l.large} {
		fmt.Fprintf(&b, "  - {name: %s, cluster: main, group: %s, topics: [%s], sink: {objects: {url: %q, region: %s, endpoint: %q, path_style: true,\n",
			topic.consumer, topic.group, topic.name, server.URL(l.prefix+"/{name}"), s3test.Region, l.proxy.Endpoint)
		fmt.Fprintf(&b, "      credentials: {access_key_file: %q, secret_key_file: %q}, key: %q, spool: %q, %s}}}\n",
			server.AccessKeyFile, server.SecretKeyFile, lakeKey, l.spool, topic.settings)
	}
	l.config = b.String()
	return l
}

// paddedValue is [kafkatest.Value] in a record of half a megabyte.
func paddedValue(topic string, partition int32, seq int) []byte {
	return append(bytes.Repeat([]byte("."), 500_000), kafkatest.Value(topic, partition, seq)...)
}

// run kills the agents, stops them, and checks the objects.
func (l *sharedLake) run(t *testing.T, kills int) {
	began := time.Now()
	for i := range l.agents {
		l.start(t, i)
	}
	stop, produced := l.keepProducingEvery(t, 50*time.Millisecond, l.small.name, l.small.partitions)
	large := l.newFeed(l.large.name, l.large.partitions)
	large.value = paddedValue
	for i := range kills {
		if i%8 == 0 {
			large.produce(t, 70)
		}
		if i%2 == 0 {
			<-time.After(rand.N(2 * time.Second))
		} else {
			l.awaitUpload(t)
		}
		l.kill(t, [][]int{{0}, {0, 1}, {1}, {rand.N(2)}}[i%4])
	}
	stop()
	for _, topic := range []consumedTopic{l.small, l.large} { // the spool is opened after the last kill
		l.agents[0].WaitState(topic.consumer, "RUNNING")
		l.agents[1].WaitState(topic.consumer, "RUNNING")
	}
	stopAgent(t, l.agents[0]) // while there are records to read
	for _, topic := range []consumedTopic{l.small, l.large} {
		c := l.agents[1].WaitConsumer(topic.consumer, "read everything", func(c agenttest.Consumer) bool {
			return len(c.Partitions) == int(topic.partitions) && c.HasLag(0)
		})
		t.Logf("group of %s: generation %d", topic.name, c.Generation)
	}
	stopAgent(t, l.agents[1])
	for _, a := range l.agents {
		l.ended(a)
	}
	objects := l.wantOnce(t, map[string]int{l.small.name: produced(), l.large.name: large.produced})
	l.wantVerified(t)
	l.wantNothingLeft(t, objects)
	if l.completed == 0 {
		t.Error("no kill left an open plan")
	}
	t.Logf("%d kills, %d open plans completed, %d records and %d large ones in %d objects, %v",
		kills, l.completed, int(l.small.partitions)*produced(), large.produced, len(objects), time.Since(began).Round(time.Second))
}

// awaitUpload waits until an upload is in progress.
func (l *sharedLake) awaitUpload(t *testing.T) {
	t.Helper()
	select {
	case <-l.uploads:
	case <-time.After(wait.Timeout):
		t.Fatal("no upload begins")
	}
}

func (l *sharedLake) start(t *testing.T, i int) {
	t.Helper()
	l.agents[i] = agenttest.Start(t, agenttest.Options{Config: l.config})
}

// kill kills agents and starts them again, some of them later, so that the other agent is alone for
// a while.
func (l *sharedLake) kill(t *testing.T, victims []int) {
	t.Helper()
	for _, i := range victims {
		l.agents[i].Kill()
		l.ended(l.agents[i])
	}
	for _, topic := range []consumedTopic{l.small, l.large} { // instead of waiting for the end of the sessions
		var living []string
		for i, a := range l.agents {
			if slices.Contains(victims, i) {
				continue
			}
			if c, ok := a.Status().Consumer(topic.consumer); ok { // it may have started a moment ago
				living = append(living, c.MemberIDs...)
			}
		}
		members := slices.DeleteFunc(l.Group(t, topic.group).Members, func(id string) bool { return slices.Contains(living, id) })
		if len(members) > 0 {
			l.Leave(t, topic.group, members...)
		}
	}
	if rand.N(2) == 0 {
		<-time.After(rand.N(time.Second))
	}
	for _, i := range victims {
		l.start(t, i)
	}
}

// ended counts what an agent that has ended has reported.
func (l *sharedLake) ended(a *agenttest.Agent) {
	l.completed += strings.Count(a.Log(), `msg="open plan completed"`)
}

// wantOnce requires that the objects have the records of each topic, so many of each partition, and
// each once. It returns the keys.
func (l *sharedLake) wantOnce(t *testing.T, produced map[string]int) (keys []string) {
	t.Helper()
	tr := make(trail)
	for o := range l.server.Client.Client.ListObjects(t.Context(), l.server.Bucket, minio.ListObjectsOptions{Prefix: l.prefix + "/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
		for i, line := range l.lines(t, o.Key) {
			if err := tr.addLine(bytes.TrimLeft(line, ".")); err != nil {
				t.Fatalf("%s:%d: %v", o.Key, i+1, err)
			}
		}
	}
	for _, topic := range []consumedTopic{l.small, l.large} {
		tr.sorted().wantExact(t, topic.name, topic.partitions, produced[topic.name])
		for p, offset := range l.Committed(t, topic.group, topic.name) {
			if offset != int64(produced[topic.name]) {
				t.Errorf("%s: %d is committed, want %d", key(topic.name, p), offset, produced[topic.name])
			}
		}
	}
	return keys
}

// lines returns the lines of an object.
func (l *sharedLake) lines(t *testing.T, key string) [][]byte {
	t.Helper()
	r, _, _, err := l.server.Client.GetObject(t.Context(), l.server.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err == nil {
		text, err = unpack(text)
	}
	if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
		t.Fatalf("%s: error %v, or the last line is incomplete", key, err)
	}
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// wantVerified requires that kcagent verify accepts the objects, and those in JSON also by their content.
func (l *sharedLake) wantVerified(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{l.server.URL(l.prefix + "/small"), "--deep"}, {l.server.URL(l.prefix + "/large")}} {
		cmd := exec.Command(agenttest.Binary(t), append([]string{"verify", "--key", lakeKey, "--endpoint", l.server.Endpoint, "--region", s3test.Region, "--path-style"}, args...)...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+l.server.AccessKey, "AWS_SECRET_ACCESS_KEY="+l.server.SecretKey)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("verify %s: %v\n%s", args[0], err, out)
		}
	}
}

// wantNothingLeft requires that no upload of an object is unfinished, and that the spool has no
// folder of an agent that was killed.
func (l *sharedLake) wantNothingLeft(t *testing.T, objects []string) {
	t.Helper()
	uploads, err := l.server.Client.ListMultipartUploads(t.Context(), l.server.Bucket, l.prefix+"/", "", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		if slices.Contains(objects, u.Key) {
			t.Errorf("an upload of %s is unfinished, although the object is complete", u.Key)
		}
	}
	entries, err := os.ReadDir(l.spool)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("the folder %s is left in the spool", e.Name())
		}
	}
}
