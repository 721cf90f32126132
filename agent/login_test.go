package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/testkit"
	"kcagent/config"
)

// TestConsumersOfAClusterShareOneRejectedLogin: the login is sent once for all consumers,
// although each of them retries.
func TestConsumersOfAClusterShareOneRejectedLogin(t *testing.T) {
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
	for edit := range 5 { // each consumer retries at once
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
		r.eventually("a retry of each", func() (bool, any) {
			now := restarts(r)
			return len(now) == 10 && allMore(now, before), now
		})
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("%d logins were sent", n)
	}
}

// restarts returns how often each consumer failed to join.
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

// TestRejectedTokenIsReplaced: if a broker rejects the current token, the next connection
// uses another one, although connections with the former token still work.
func TestRejectedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var revoked atomic.Bool
	for _, key := range []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate} { // kfake does not support tokens
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
	s := testkit.NewTokenServer(t, 3600)
	text := fmt.Sprintf(`
clusters: {main: {brokers: [%q], sasl: {mechanism: OAUTHBEARER, oauth: {token_url: %q, client_id: reader, client_secret: top-secret}}}}
consumers: [{name: c, cluster: main, topics: [t], sink: {stdout: {}}}]`, cluster.ListenAddrs()[0], s.URL)
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.wantStatus(consumer.Running)
	was := r.consumer()

	revoked.Store(true)
	r.agent.clusters.Open()[0].Reconnect()
	r.wantStatus(consumer.Failing)
	r.wantStatus(consumer.Running)
	if n := s.Requests.Load(); n != 2 {
		t.Errorf("the token server received %d requests", n)
	}
	if now := r.consumer(); !slices.Equal(now.MemberIDs, was.MemberIDs) {
		t.Errorf("the member id is %v, was %v", now.MemberIDs, was.MemberIDs)
	}
}
