package agent

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/config"
	"kcagent/e2e/badnet"
	"kcagent/fetch"
)

// joining returns what the group kcagent-c has of a client, with connections that
// cut ends.
func (r *rig) joining() (c *groupClient, cut func()) {
	return r.joiningWith(config.Cluster{}, &credentials{})
}

// joiningWith is joining with credentials that are the group's.
func (r *rig) joiningWith(cluster config.Cluster, creds *credentials) (c *groupClient, cut func()) {
	cluster.Brokers = r.cluster.ListenAddrs()
	spec := config.Consumer{Name: "c", Cluster: cluster}
	net := newDialer()
	right := &credentials{password: "right"}
	creds.breaker = new(loginBreaker)
	f := fetch.New(fetch.Options{Name: "c", Brokers: spec.Cluster.Brokers, Config: func() (*sarama.Config, error) {
		return saramaConfig("test", spec.Cluster, right)
	}})
	conf, err := groupConfig(spec, creds, net, f)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	c = newGroupClient(ctx, conf, creds, "kcagent-c", net, f)
	r.Cleanup(func() {
		net.cut()
		_ = c.Close()
		cancel()
		running.Wait()
	})
	return c, net.cut
}

// TestNobodyWaitsForADeafCoordinator: forgetting it, finding another one and
// changing the credentials take no time, though a connection to it is being opened;
// and closing the client takes none once that was cut.
func TestNobodyWaitsForADeafCoordinator(t *testing.T) {
	r := newRig(t, 1)
	var at atomic.Value
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	r.coordinators(func(string) string { return at.Load().(string) })
	c, cut := r.joining()
	open := func() {
		if _, err := c.Coordinator("kcagent-c"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	open()
	c.forget()
	open()
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	if err := c.RefreshCoordinator("kcagent-c"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		open()
		c.reconnect(c.conf, c.credentials)
	}
	cut()
	_ = c.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// detour has coordinators be found behind a way that can be made bad, until move has
// them be found at the broker itself.
func (r *rig) detour() (way *badnet.Proxy, move func()) {
	way = badnet.Start(r.T, r.cluster.ListenAddrs()[0])
	var moved atomic.Bool
	r.coordinators(func(string) string {
		if moved.Load() {
			return r.cluster.ListenAddrs()[0]
		}
		return way.Addr()
	})
	return way, func() { moved.Store(true) }
}

// TestCoordinatorMovesAwayFromABlackHole: once a coordinator has been silent for too
// long, the new one is asked, and not the old one once more: the member keeps its
// place, and all is well as soon as the new one has answered.
func TestCoordinatorMovesAwayFromABlackHole(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, move := r.detour()
	r.edit("")
	r.wantStatus(Running)
	generation, made := r.consumer().Generation, way.Connections()
	move()
	way.Set(badnet.Fault{LoseAnswers: true})
	r.wantStatus(Failing)
	if e := *r.consumer().LastError; !strings.Contains(e, "its coordinator at "+way.Addr()+" has not responded within ") {
		t.Errorf("last error is %q", e)
	}
	r.wantStatus(Running)
	if now := way.Connections(); now != made {
		t.Errorf("the black hole was asked %d times more", now-made)
	}
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 {
		t.Errorf("it is in generation %d instead of %d, after %d restarts", c.Generation, generation, c.RestartsTotal)
	}
}

// TestCoordinatorIsRestarted: the group of a broker that is restarted has another
// coordinator some seconds later. That costs an idle consumer neither its
// generation nor its state.
func TestCoordinatorIsRestarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	way, move := r.detour()
	r.edit("")
	r.wantStatus(Running)
	r.wantCommitted(0, 0) // there is nothing more to commit
	generation := r.consumer().Generation
	way.Set(badnet.Fault{Refuse: true})
	made := way.Connections()
	r.eventually("heartbeats that fail", func() (bool, any) { n := way.Connections(); return n >= made+4, n })
	move()
	var beats atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		beats.Add(1)
		return nil, nil, false
	})
	r.eventually("heartbeats", func() (bool, any) { return beats.Load() > 1, nil })
	if c := r.consumer(); c.Generation != generation || c.RestartsTotal > 0 || slices.Contains(r.moves(), "RUNNING>ERROR") {
		t.Errorf("it is in generation %d instead of %d, after %d restarts and %v", c.Generation, generation, c.RestartsTotal, r.moves())
	}
}

// TestRefusedCredentialsAreNotShownAgain: until there are others, or a new client.
func TestRefusedCredentialsAreNotShownAgain(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{T: t, cluster: cluster}
	var logins atomic.Int32
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(k kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !strings.Contains(string(k.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "wrong") {
			return nil, nil, false
		}
		logins.Add(1)
		resp := k.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	login := config.Cluster{SASL: &config.SASL{Mechanism: "PLAIN", Username: "u"}}
	c, _ := r.joiningWith(login, &credentials{password: "wrong"})
	r.eventually("a refusal", func() (bool, any) {
		_, err := c.Coordinator("kcagent-c")
		return errors.Is(err, sarama.ErrSASLAuthenticationFailed), err
	})
	made := logins.Load()
	for range 10 {
		if _, err := c.Coordinator("kcagent-c"); !errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
			t.Errorf("the refusal has become %v", err)
		}
	}
	if now := logins.Load(); now != made {
		t.Errorf("they were shown %d times more", now-made)
	}
	conf := *c.conf
	conf.Net.SASL.Password = "right"
	c.reconnect(&conf, &credentials{password: "right"})
	r.eventually("a connection", func() (bool, any) {
		b, err := c.Coordinator("kcagent-c")
		if err != nil {
			return false, err
		}
		ok, err := b.Connected()
		return ok, err
	})
}

// TestLoginBackoffIsNotARejection: only a login that was rejected blocks the next connection.
func TestLoginBackoffIsNotARejection(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{sarama.ErrSASLAuthenticationFailed, sarama.ErrSASLAuthenticationFailed},
		{&loginBackoffError{sarama.ErrSASLAuthenticationFailed}, nil},
		{sarama.ErrNotConnected, nil},
	} {
		client := &groupClient{coordinator: sarama.NewBroker("127.0.0.1:1"), credentials: &credentials{breaker: new(loginBreaker)}}
		client.drop(client.coordinator, c.err)
		if _, _, err := client.open(); !errors.Is(err, c.want) {
			t.Errorf("after %v the coordinator's connection is %v", c.err, err)
		}
		_ = client.Close()
	}
}

// TestStopDoesNotWaitForACoordinator: neither that nor a new one has to be known for it.
func TestStopDoesNotWaitForACoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	asked, answer := new(atomic.Bool), make(chan struct{})
	r.cluster.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		asked.Store(true)
		<-answer
		return nil, nil, false
	})
	defer close(answer)
	r.edit("")
	r.eventually("its coordinator to be looked up", func() (bool, any) { return asked.Load(), nil })
	began := time.Now()
	r.edit(", state: stopped")
	r.wantStatus(Created)
	if took := time.Since(began); took > closeConnectionsAfter/2 {
		t.Errorf("the stop took %v", took)
	}
}

// A closing is a connection that tells when it is closed.
type closing struct {
	net.Conn
	told func()
}

func (c closing) Close() error { c.told(); return nil }

// TestUnresponsiveCoordinatorIsForgottenFirst: sarama asks for the coordinator as soon as its
// connection is closed, and would connect to the unresponsive one again.
func TestUnresponsiveCoordinatorIsForgottenFirst(t *testing.T) {
	d := newDialer()
	client := &groupClient{coordinator: sarama.NewBroker("127.0.0.1:1"), dialer: d}
	known := true
	late := &trackedConn{dialer: d, Conn: closing{told: func() {
		client.mu.Lock()
		defer client.mu.Unlock()
		known = client.coordinator != nil
	}}}
	late.sent.Store(time.Now().Add(-2 * time.Second).UnixNano())
	d.conns[late] = struct{}{}
	if addr, _ := client.dropOverdue(time.Second); addr == nil || known {
		t.Errorf("closed the connection to %v; the coordinator is still known then: %v", addr, known)
	}
	_ = client.Close()
	d.cut()
}
