package helm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// newBroker starts an embedded broker with the topic orders, which requires a login.
func newBroker(t *testing.T) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "reader", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// valuesFor writes a file with values for a port and a cluster, with the keys that config has
// for it, and returns the file's path.
func valuesFor(t *testing.T, port int, cluster string) string {
	t.Helper()
	text := fmt.Sprintf(`
secrets: [kafka]
http: {port: %d}
config:
  clusters:
    main: %s
  defaults:
    cluster: main
    sink: {file: {path: "/data/{name}/{topic}-{partition}.jsonl", format: json}}
  consumers:
    - {name: orders, topics: [orders]}
`, port, cluster)
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// request requests a path of an agent.
func request(t *testing.T, port int, path string) (body []byte, err error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// consumer waits until the consumer orders has a state, and returns the status.
func consumer(t *testing.T, port int, state string) (s agenttest.Status, c agenttest.Consumer) {
	t.Helper()
	wait.For(t, wait.Timeout, "the consumer to be "+state, func() error {
		body, err := request(t, port, "/status")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &s); err != nil {
			return err
		}
		var found bool
		if c, found = s.Consumer("orders"); !found || c.Status != state {
			return fmt.Errorf("it is %s %s", c.Status, c.Error())
		}
		return nil
	})
	return s, c
}

// TestAgentRunsAsRendered: the agent starts with the arguments, variables and volumes of the
// manifest, helm test and the probes pass, an edit is applied without a restart, and the pod
// ends cleanly.
func TestAgentRunsAsRendered(t *testing.T) {
	t.Parallel()
	port := kafkatest.FreePort(t)
	values := "--values=" + valuesFor(t, port, fmt.Sprintf("{brokers: [%q], sasl: {mechanism: PLAIN, username: reader, password_file: /etc/kcagent-secrets/kafka/password}}",
		newBroker(t).ListenAddrs()[0]))
	p := newPod(t, "test-kcagent-0", map[string]map[string]string{"kafka": {"password": "secret\n"}}, values)
	p.start()
	s, c := consumer(t, port, "RUNNING")
	for _, err := range p.helmTest() {
		t.Error(err)
	}
	if want, err := strconv.ParseInt(p.container.env("GOMEMLIMIT"), 10, 64); err != nil || s.Resources.MemoryLimitBytes != want {
		t.Errorf("the memory limit is %d, want %d", s.Resources.MemoryLimitBytes, want)
	}
	if !strings.HasPrefix(c.Sink, "file:"+p.root+"/data/") {
		t.Errorf("the sink is %s", c.Sink)
	}
	if body, err := request(t, port, "/config"); err != nil || !strings.Contains(string(body), `"orders-test-kcagent-0"`) {
		t.Errorf("no consumer has the instance_id of the pod: %s, %v", body, err)
	}
	for _, probe := range []map[string]any{p.container.LivenessProbe, p.container.ReadinessProbe} {
		path, _ := probe["httpGet"].(map[string]any)["path"].(string)
		if _, err := request(t, port, path); err != nil {
			t.Errorf("the probe fails: %v", err)
		}
	}

	p.upgrade(values, "--set=config.consumers[0].name=orders,config.consumers[0].topics={orders},config.consumers[0].state=paused")
	for _, err := range p.helmTest() {
		t.Error(err)
	}
	if after, _ := consumer(t, port, "PAUSED"); after.Agent.PID != s.Agent.PID {
		t.Error("the edit restarted the agent")
	}
	p.upgrade(values, "--set=configText=nonsense,config=null")
	if err := errors.Join(p.helmTest()...); err == nil || !strings.Contains(err.Error(), "rejected") {
		t.Errorf("helm test of an invalid file: %v", err)
	}
	p.stop()
}

// TestUpdateCausesNoRebalance: two replicas share a group on real Kafka. They restart in the
// order of an update, and the generation of the group remains.
func TestUpdateCausesNoRebalance(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Kafka")
	}
	t.Parallel()
	kafka := kafkatest.Start(t, kafkatest.Options{})
	kafka.CreateTopic(t, "orders", 2)
	secrets := map[string]map[string]string{"kafka": {"password": "secret"}}
	var pods [2]*pod
	var ports [2]int
	for i := range pods {
		ports[i] = kafkatest.FreePort(t) // on one host, pods cannot have the same
		pods[i] = newPod(t, fmt.Sprintf("test-kcagent-%d", i), secrets, "--set=replicas=2", "--values="+valuesFor(t, ports[i], fmt.Sprintf("{brokers: [%q]}", kafka.Addrs()[0])))
		pods[i].start()
	}
	shared := func() (generation int32, rebalances [2]int64) {
		t.Helper()
		wait.For(t, wait.Timeout, "each replica to read one partition", func() error {
			var all [2]agenttest.Consumer
			for i := range pods {
				_, all[i] = consumer(t, ports[i], "RUNNING")
				rebalances[i] = all[i].RebalancesTotal
			}
			generation = all[0].Generation
			if len(all[0].Partitions) != 1 || len(all[1].Partitions) != 1 || all[1].Generation != generation {
				return fmt.Errorf("they are %+v", all)
			}
			return nil
		})
		return generation, rebalances
	}
	before, rebalances := shared()
	for _, i := range []int{1, 0} {
		pods[i].stop()
		pods[i].start()
		generation, now := shared()
		if other := 1 - i; generation != before || now[other] != rebalances[other] {
			t.Errorf("after the restart of %s, the generation is %d after %d; the other replica had %d rebalances after %d",
				pods[i].name, generation, before, now[other], rebalances[other])
		}
		rebalances = now
	}
	for _, p := range pods {
		p.stop()
	}
}

// TestHelmTestLogsIn: with TLS and a password, helm test trusts the authority in the Secret
// and logs in.
func TestHelmTestLogsIn(t *testing.T) {
	t.Parallel()
	const hash = "$2a$04$jo0LaMtne0yBRPmuUloy/.mAwlXtYLEE57moJsKlWe/ktl0LrybTG" // of sesame
	authority := certs.NewAuthority(t, "authority")
	pair := authority.Issue(t, "kcagent")
	secrets := map[string]map[string]string{
		"kcagent-login": {"username": "ops", "password": "sesame"},
		"kcagent-web": {
			"ca.crt": string(authority.PEM), "tls.crt": string(pair.Cert), "tls.key": string(pair.Key),
			"web-config.yaml": fmt.Sprintf("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {ops: '%s'}\n", hash),
		},
	}
	port := kafkatest.FreePort(t)
	p := newPod(t, "test-kcagent-0", secrets, "--values=testdata/secured.yaml", fmt.Sprintf("--set=http.port=%d,replicas=1", port))
	p.start()
	wait.For(t, wait.Timeout, "helm test to pass", func() error { return errors.Join(p.helmTest()...) })
	p.secrets["kcagent-login"]["password"] = "another"
	p.test.Containers = p.test.Containers[:1] // the others would wait
	if err := errors.Join(p.helmTest()...); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("helm test with another password: %v", err)
	}
	p.stop()
}
