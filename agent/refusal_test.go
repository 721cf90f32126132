package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/config"
)

// TestRefusalIsTheClusters: whichever consumer was refused, none of the cluster
// shows the same credentials again at once, the fetcher included, and be it that
// all of them left meanwhile.
func TestRefusalIsTheClusters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	cs := &clusters{log: slog.New(slog.DiscardHandler)}
	t.Cleanup(cs.close)
	spec := config.Consumer{Name: "a", Group: "g", Cluster: config.Cluster{
		Brokers: []string{"127.0.0.1:1"}, SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: file},
	}}
	open := func(name string) *member {
		t.Helper()
		spec := spec
		spec.Name = name
		return newConsumer(spec, slog.New(slog.DiscardHandler), nil, cs).connectTo(t)
	}
	try := func(m *member) (byFetcher, byMember error) {
		t.Helper()
		keys, err := m.cluster.credentials()
		if err != nil {
			t.Fatal(err)
		}
		conf, err := m.config(keys)
		if err != nil {
			t.Fatal(err)
		}
		_, byFetcher = m.cluster.config()
		conn, byMember := conf.Net.Proxy.Dialer.Dial("tcp", "127.0.0.1:1")
		if conn != nil {
			_ = conn.Close()
		}
		return byFetcher, byMember
	}
	first := open("a")
	first.cluster.heed(errors.New("something else"))
	if byFetcher, byMember := try(first); byFetcher != nil || refused(byMember) {
		t.Fatalf("before a refusal: %v, %v", byFetcher, byMember)
	}
	first.cluster.heed(fmt.Errorf("join group g: %w", sarama.ErrSASLAuthenticationFailed))
	cs.leave(first.cluster)
	second := open("b")
	if second.cluster == first.cluster {
		t.Fatal("the cluster was kept")
	}
	byFetcher, byMember := try(second)
	for _, err := range []error{byFetcher, byMember} {
		if !refused(err) || strings.Contains(err.Error(), "join group") {
			t.Errorf("after a refusal: %v", err)
		}
	}
	cs.leave(second.cluster)
	write("right")
	third := open("c")
	if byFetcher, byMember := try(third); byFetcher != nil || refused(byMember) {
		t.Errorf("with other credentials: %v, %v", byFetcher, byMember)
	}
	cs.leave(third.cluster)
}

// connectTo is connect, without a group.
func (c *consumer) connectTo(t *testing.T) *member {
	t.Helper()
	c.net = newDialer()
	return &member{consumer: c, spec: *c.spec.Load(), cluster: c.kafka.join(*c.spec.Load())}
}

// TestRefusalEndsWithATrial: when it is over, one login comes before the others.
func TestRefusalEndsWithATrial(t *testing.T) {
	keys, others := &credentials{prints: config.Prints{"f": "1"}}, &credentials{prints: config.Prints{"f": "2"}}
	wrong := fmt.Errorf("connect to a:1: %w", sarama.ErrSASLAuthenticationFailed)
	r := &refusal{}
	past := func() { r.until = time.Now().Add(-time.Second) }
	held := func(want bool, why string) {
		t.Helper()
		if err := r.holds(keys); (err != nil) != want {
			t.Errorf("%s: %v", why, err)
		}
	}
	held(false, "at first")
	if !r.note(keys, wrong) {
		t.Error("a refusal is none")
	}
	held(true, "after a refusal")
	until := r.until
	if r.note(keys, wrong) || r.note(keys, r.holds(keys)) || r.until != until {
		t.Error("what was under way, or was not tried, makes it longer")
	}
	if err := r.holds(others); err != nil {
		t.Errorf("other credentials: %v", err)
	}
	if r.note(&credentials{since: time.Now().Add(-time.Second)}, wrong) {
		t.Error("the old credentials' refusal is that of the new ones")
	}
	m := &member{ended: time.Now()}
	if !m.rebuild(wrong) || m.rebuild(r.holds(keys)) {
		t.Error("the membership is given up for what was not tried, or is not for a refusal")
	}
	past()
	held(false, "the trial")
	held(true, "beside the trial")
	if r.note(keys, r.holds(keys)) || !r.note(keys, wrong) {
		t.Error("the trial's refusal is none")
	}
	past()
	held(false, "the second trial")
	r.passed()
	held(false, "after a trial that passed")
	r.note(keys, wrong)
	past()
	held(false, "the third trial")
	past()
	held(false, "after a trial that nobody spoke of")
	if !r.over() {
		t.Error("it is remembered")
	}
}

// TestManyConsumersShareARefusal: one login for all of them, although each has
// reasons to try again.
func TestManyConsumersShareARefusal(t *testing.T) {
	cluster, ca := securedCluster(t)
	var logins atomic.Int32
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(k kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		logins.Add(1)
		resp := k.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	r := &rig{T: t, cluster: cluster, memory: &memory{}, updates: make(chan config.Update)}
	r.start()
	for edit := range 5 { // has each try at once
		text := fmt.Sprintf("clusters: {main: {brokers: [%q], tls: {ca_file: %q}, sasl: {mechanism: PLAIN, username: u, password: wrong}}}\n"+
			"defaults: {cluster: main, topics: [t], sink: {stdout: {}}, flush: {interval: %ds}}\nconsumers:\n", cluster.ListenAddrs()[0], ca, edit+1)
		for i := range 10 {
			text += fmt.Sprintf("- name: c%d\n", i)
		}
		c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		before := restarts(r)
		r.updates <- config.Update{Config: c}
		r.eventually("a try of each", func() (bool, any) {
			now := restarts(r)
			return len(now) == 10 && allMore(now, before), now
		})
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("%d logins were tried", n)
	}
}

// restarts are how often each consumer failed to join.
func restarts(r *rig) map[string]int64 {
	n := make(map[string]int64)
	for _, c := range r.agent.Status().Consumers {
		n[c.Name] = c.RestartsTotal
	}
	return n
}

func allMore(now, before map[string]int64) bool {
	for name, n := range now {
		if n <= before[name] {
			return false
		}
	}
	return true
}

// TestRefusedTokenIsReplaced: when a broker refuses the token that is there, the
// next connection gets another one, although those made before live on.
func TestRefusedTokenIsReplaced(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var revoked atomic.Bool
	for _, key := range []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate} { // it knows no tokens itself
		cluster.ControlKey(int16(key), func(k kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			resp := k.ResponseKind()
			if r, ok := resp.(*kmsg.SASLAuthenticateResponse); ok && revoked.Load() &&
				strings.Contains(string(k.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "auth=Bearer t\x01") {
				r.ErrorCode = kerr.SaslAuthenticationFailed.Code
			}
			return resp, nil, true
		})
	}
	r := &rig{T: t, cluster: cluster, memory: &memory{}, updates: make(chan config.Update)}
	r.start()
	s := newTokenServer(t, 3600)
	text := fmt.Sprintf(`
clusters: {main: {brokers: [%q], sasl: {mechanism: OAUTHBEARER, oauth: {token_url: %q, client_id: reader, client_secret: top-secret}}}}
consumers: [{name: c, cluster: main, topics: [t], sink: {stdout: {}}}]`, cluster.ListenAddrs()[0], s.URL)
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.wantStatus(Running)
	was := r.consumer()

	revoked.Store(true)
	open := r.agent.clusters.only(t)
	open.keys.tokens.forget()
	if open.keys.tokens.now == nil {
		t.Error("a token that just came was dropped")
	}
	open.keys.tokens.mu.Lock()
	open.keys.tokens.got = time.Now().Add(-2 * tokenPause)
	open.keys.tokens.mu.Unlock()
	open.Reconnect()
	r.wantStatus(Failing)
	r.wantStatus(Running)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("the server was asked %d times", n)
	}
	if now := r.consumer(); !slices.Equal(now.MemberIDs, was.MemberIDs) {
		t.Errorf("it is member %v, was %v", now.MemberIDs, was.MemberIDs)
	}
}

// only is the one cluster in use.
func (cs *clusters) only(t *testing.T) *cluster {
	t.Helper()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.open) != 1 {
		t.Fatalf("%d clusters are in use", len(cs.open))
	}
	return cs.open[0]
}
