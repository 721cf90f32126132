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

// TestRejectedLoginBlocksTheWholeCluster: once one consumer's login is rejected, no consumer of
// the cluster uses the same credentials at once, and neither does the fetcher, even if all
// consumers left meanwhile. Other credentials are used.
func TestRejectedLoginBlocksTheWholeCluster(t *testing.T) {
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
	login := func(c *cluster) (byFetcher, byMember error) {
		t.Helper()
		creds, err := c.credentials()
		if err != nil {
			t.Fatal(err)
		}
		conf, err := groupConfig(spec, creds, newDialer(), c.Fetcher)
		if err != nil {
			t.Fatal(err)
		}
		_, byFetcher = c.config()
		conn, byMember := conf.Net.Proxy.Dialer.Dial("tcp", "127.0.0.1:1")
		if conn != nil {
			_ = conn.Close()
		}
		return byFetcher, byMember
	}
	first := cs.acquire(spec)
	first.recordError(errors.New("something else"))
	if byFetcher, byMember := login(first); byFetcher != nil || loginRejected(byMember) {
		t.Fatalf("before a rejection: %v, %v", byFetcher, byMember)
	}
	first.recordError(fmt.Errorf("join group g: %w", sarama.ErrSASLAuthenticationFailed))
	cs.release(first)
	second := cs.acquire(spec)
	if second == first {
		t.Fatal("the cluster was kept")
	}
	byFetcher, byMember := login(second)
	for _, err := range []error{byFetcher, byMember} {
		if !loginRejected(err) || strings.Contains(err.Error(), "join group") {
			t.Errorf("after a rejection: %v", err)
		}
	}
	cs.release(second)
	write("right")
	third := cs.acquire(spec)
	if byFetcher, byMember := login(third); byFetcher != nil || loginRejected(byMember) {
		t.Errorf("with other credentials: %v, %v", byFetcher, byMember)
	}
	write("wrong")
	if _, err := third.reloadCredentials(); err != nil {
		t.Fatal(err)
	}
	if byFetcher, byMember := login(third); !loginRejected(byFetcher) || !loginRejected(byMember) {
		t.Errorf("with the rejected credentials again: %v, %v", byFetcher, byMember)
	}
	cs.release(third)
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
	open.current.tokens.discard()
	if open.current.tokens.now == nil {
		t.Error("a token that just came was dropped")
	}
	open.current.tokens.mu.Lock()
	open.current.tokens.got = time.Now().Add(-2 * tokenPause)
	open.current.tokens.mu.Unlock()
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
	if len(cs.inUse) != 1 {
		t.Fatalf("%d clusters are in use", len(cs.inUse))
	}
	return cs.inUse[0]
}
