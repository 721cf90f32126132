package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// A kafka is an embedded broker with one topic of one partition.
type kafka struct {
	address, topic string
	client         *kgo.Client
}

func startKafka(t *testing.T, topic string) *kafka {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V3_6_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &kafka{address: cluster.ListenAddrs()[0], topic: topic, client: client}
}

func (k *kafka) produce(t *testing.T, value string) {
	t.Helper()
	r := &kgo.Record{Topic: k.topic, Value: []byte(value)}
	if err := k.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consumers returns the file of the base with one consumer, which reads the topic.
func (k *kafka) consumers(t *testing.T, state string) string {
	t.Helper()
	base := read(t, "base/consumers.yaml")
	consumer := fmt.Sprintf(`consumers:
  - {name: orders, brokers: ['%s'], topics: [%s], state: %s, sink: {file: {path: '/data/{topic}-{partition}.jsonl', format: json}}}
`, k.address, k.topic, state)
	text := strings.Replace(base, "consumers: []\n", consumer, 1)
	if text == base {
		t.Fatalf("the base has other consumers:\n%s", base)
	}
	return text
}

func waitReady(t *testing.T, a *agenttest.Agent, c kubetest.Container) {
	t.Helper()
	wait.For(t, wait.Timeout, "the readiness probe to succeed", func() error {
		if code, body := a.Get(c.ReadinessProbe.HTTPGet.Path); code != 200 {
			return fmt.Errorf("code %d: %s", code, body)
		}
		return nil
	})
}

func waitContent(t *testing.T, file, value string) {
	t.Helper()
	wait.For(t, wait.Timeout, value+" in "+filepath.Base(file), func() error {
		text, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(text), value) {
			err = fmt.Errorf("the file has %q", text)
		}
		return err
	})
}

// stop ends the agent as the kubelet does, and checks that it has ended in order.
func stop(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

// TestEditOfTheConfigMapIsApplied: the agent of the base runs as the manifest says, as its
// user and with its arguments, environment and mounts. It applies an update of the ConfigMap,
// which the kubelet publishes by a link, and writes to its volume. The Job of Argo CD succeeds
// for the file that the agent has applied, and fails for one that it rejects.
func TestEditOfTheConfigMapIsApplied(t *testing.T) {
	t.Parallel()
	argo := kustomize(t, "argocd")
	p := newPod(t, podOf(t, kustomize(t, "base"), "StatefulSet"))
	k := startKafka(t, "orders")
	text := read(t, "base/consumers.yaml")
	p.project(t, "/etc/kcagent", text)
	a := p.start(t)
	a.WaitSynced(text)
	waitReady(t, a, p.container(t, "kcagent"))

	text = k.consumers(t, "running")
	p.project(t, "/etc/kcagent", text)
	a.WaitSynced(text)
	k.produce(t, "first")
	waitContent(t, p.path("/data/orders-0.jsonl"), "first")
	waitReady(t, a, p.container(t, "kcagent"))

	job := &runningPod{pod: podOf(t, argo, "Job"), root: p.root, chroot: p.chroot}
	replica := job.container(t, "replica-0")
	command := append([]string{"/kcagent"}, replica.Args[:len(replica.Args)-1]...)
	command = append(command, "--url="+a.URL)
	if out, err := job.run(t, replica, command...); err != nil {
		t.Errorf("the Job fails for the applied file: %v\n%s", err, out)
	}
	if _, ok := a.Metrics().Value("kcagent_config_info", "sha256="+agenttest.Sum(text)); !ok {
		t.Error("kcagent_config_info does not have the hash of the file")
	}
	p.project(t, "/etc/kcagent", strings.Replace(text, "topics:", "topic:", 1))
	if out, err := job.run(t, replica, command...); err == nil || !strings.Contains(out, "topic") {
		t.Errorf("the Job for a rejected file: %v\n%s", err, out)
	}
	if v, ok := a.Metrics().Value("kcagent_config_last_reload_successful"); !ok || v != 0 {
		t.Errorf("kcagent_config_last_reload_successful is %v, %v after the rejected file", v, ok)
	}
	if c := a.Consumer("orders"); c.Status != "RUNNING" {
		t.Errorf("after the rejected file, the consumer is %s", c.Status)
	}
	stop(t, a)
}

// TestSidecarFeedsTheApplication: the sidecar runs as the manifest says. The command of the
// application prints the records as another user, who is in no group of the agent. An update
// of the ConfigMap is applied.
func TestSidecarFeedsTheApplication(t *testing.T) {
	t.Parallel()
	manifest := read(t, "sidecar.yaml")
	p := newPod(t, podOf(t, manifest, "Deployment"))
	k := startKafka(t, "prices")
	text := dataOf(t, find(t, kubetest.Validate(t, manifest), "ConfigMap"))
	p.project(t, "/etc/kcagent", text)
	k.produce(t, "first") // the group of a pod starts with the oldest record
	a := p.start(t, "KAFKA_BROKER="+k.address)
	a.WaitSynced(text)
	waitReady(t, a, p.container(t, "kcagent"))

	app := p.container(t, "app")
	if app.SecurityContext.RunAsUser == p.container(t, "kcagent").SecurityContext.RunAsUser {
		t.Error("the application runs as the user of the agent")
	}
	user := fmt.Sprintf("--userspec=%d:%d", app.SecurityContext.RunAsUser, app.SecurityContext.RunAsGroup)
	command := append([]string{user, "--groups=", "/"}, app.Command...)
	command[len(command)-1] = p.path(app.Command[len(app.Command)-1]) // the system has tail, not the root of the pod
	printed := filepath.Join(t.TempDir(), "printed")
	out, err := os.Create(printed)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(p.chroot, command...)
	cmd.Stdout, cmd.Stderr = out, out
	tail, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tail.Stop(10 * time.Second) })
	waitContent(t, printed, "first")

	text = strings.Replace(text, "interval: 200ms", "interval: 100ms", 1)
	p.project(t, "/etc/kcagent", text)
	a.WaitSynced(text)
	k.produce(t, "second")
	waitContent(t, printed, "second")
	if c := a.Consumer("prices"); c.RestartsTotal != 0 || c.Group != "prices-kcagent-0" {
		t.Errorf("the consumer of the group %s has restarted %d times", c.Group, c.RestartsTotal)
	}
	stop(t, a)
}

// TestCommitOfGitSyncIsApplied: the agent of the overlay applies each commit that git-sync
// publishes: it checks out a folder named after the commit, lets the link lead there by a
// rename, and removes the former folder.
func TestCommitOfGitSyncIsApplied(t *testing.T) {
	t.Parallel()
	p := newPod(t, podOf(t, kustomize(t, "overlays/git-sync"), "StatefulSet"))
	k := startKafka(t, "orders")
	git := p.container(t, "git-sync")
	if args := strings.Join(git.Args, " "); !strings.Contains(args, "--root=/git ") || !strings.Contains(args, "--link=current ") {
		t.Fatalf("git-sync has the arguments %s, want the root and the link of this test", args)
	}
	before := ""
	publish := func(commit, text string) {
		next := filepath.Join(".worktrees", commit)
		write(t, p.path(filepath.Join("/git", next, "consumers.yaml")), text)
		kubetest.Relink(t, p.path("/git"), "tmp-link", "current", next)
		if before != "" {
			if err := os.RemoveAll(p.path(filepath.Join("/git", before))); err != nil {
				t.Fatal(err)
			}
		}
		before = next
	}
	text := read(t, "base/consumers.yaml")
	publish("2f1c9a0000000000000000000000000000000001", text)
	a := p.start(t)
	a.WaitSynced(text)
	k.produce(t, "first")
	for i, state := range []string{"running", "paused", "running"} {
		text = k.consumers(t, state)
		publish(fmt.Sprintf("2f1c9a000000000000000000000000000000001%d", i), text)
		a.WaitSynced(text)
	}
	waitContent(t, p.path("/data/orders-0.jsonl"), "first")
	stop(t, a)
}
