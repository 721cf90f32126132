package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/agent/testkit"
	"kcagent/config"
	"kcagent/e2e/badnet"
	"kcagent/e2e/wait"
)

// joining returns the client of a group that logs in with password, the credentials with
// the password "right", with which the other connections to the cluster log in, and a
// function that closes the client's connections.
func joining(t *testing.T, broker *kfake.Cluster, sasl *config.SASL, password string) (c *Client, right *login.Credentials, cut func()) {
	t.Helper()
	cs := kafka.NewClusters(slog.New(slog.DiscardHandler))
	with := func(password string) (*config.Consumer, *kafka.Cluster) {
		spec := &config.Consumer{Name: "c", Cluster: config.Cluster{Brokers: broker.ListenAddrs()}}
		if sasl != nil {
			login := *sasl
			login.Password = config.NewSecret(password)
			spec.Cluster.SASL = &login
		}
		return spec, cs.Acquire(spec)
	}
	_, fetching := with("right")
	spec, joining := with(password)
	creds, err := joining.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	if right, err = fetching.Credentials(); err != nil {
		t.Fatal(err)
	}
	net := kafka.NewDialer()
	conf, err := Config(spec, creds, net, fetching.Fetcher)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c = NewClient(ctx, conf, creds, "kcagent-c", net, fetching.Fetcher)
	t.Cleanup(func() {
		net.Cut()
		_ = c.Close()
		cancel()
		cs.Close()
	})
	return c, right, net.Cut
}

// eventually waits until cond returns true.
func eventually(t *testing.T, what string, cond func() (bool, any)) {
	t.Helper()
	wait.For(t, wait.Timeout, what, func() error {
		if ok, last := cond(); !ok {
			return fmt.Errorf("last seen: %v", last)
		}
		return nil
	})
}

// TestClientDoesNotWaitForAnUnresponsiveCoordinator: to forget the coordinator, to find
// another one and to change the credentials take no time, although a connection is being
// opened. To close the client takes none once its connections are closed.
func TestClientDoesNotWaitForAnUnresponsiveCoordinator(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	var at atomic.Value
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	testkit.SetCoordinators(broker, func(string) string { return at.Load().(string) })
	c, _, cut := joining(t, broker, nil, "")
	open := func() {
		if _, err := c.Coordinator("kcagent-c"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	open()
	c.Forget()
	open()
	at.Store(badnet.Listen(t, func(net.Conn) {}))
	if err := c.RefreshCoordinator("kcagent-c"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		open()
		c.Reconnect(c.dial, c.credentials)
	}
	cut()
	_ = c.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestRejectedCredentialsAreNotSentAgain: the client sends no further login with rejected
// credentials, also if they have just replaced others, and uses others at once.
func TestRejectedCredentialsAreNotSentAgain(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced=%v", replaced), func(t *testing.T) { testRejectedCredentials(t, replaced) })
	}
}

func testRejectedCredentials(t *testing.T, replaced bool) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
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
	c, right, _ := joining(t, cluster, &config.SASL{Mechanism: config.Plain, Username: "u"}, "wrong")
	if replaced {
		c.credentials.Breaker.Replace()
	}
	eventually(t, "a rejection", func() (bool, any) {
		_, err := c.Coordinator("kcagent-c")
		return errors.Is(err, sarama.ErrSASLAuthenticationFailed), err
	})
	made := logins.Load()
	for range 10 {
		if _, err := c.Coordinator("kcagent-c"); !errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
			t.Errorf("the rejection has become %v", err)
		}
	}
	if now := logins.Load(); now != made {
		t.Errorf("%d more logins were sent", now-made)
	}
	conf := *c.dial
	conf.Net.SASL.Password = "right"
	c.Reconnect(&conf, right)
	eventually(t, "a connection", func() (bool, any) {
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
		{&login.BackoffError{Rejection: sarama.ErrSASLAuthenticationFailed}, nil},
		{sarama.ErrNotConnected, nil},
	} {
		client := &Client{coordinator: sarama.NewBroker("127.0.0.1:1"), credentials: &login.Credentials{Breaker: new(login.Breaker)}}
		client.drop(client.coordinator, c.err)
		if _, _, err := client.open(); !errors.Is(err, c.want) {
			t.Errorf("after %v the coordinator's connection is %v", c.err, err)
		}
		_ = client.Close()
	}
}

// A closing is a connection that calls a function when it is closed.
type closing struct {
	net.Conn
	told func()
}

func (c closing) Write(p []byte) (int, error) { return len(p), nil }

func (c closing) Close() error { c.told(); return nil }

// TestUnresponsiveCoordinatorIsForgottenFirst: sarama asks for the coordinator as soon as its
// connection is closed, and would connect to the unresponsive one again.
func TestUnresponsiveCoordinatorIsForgottenFirst(t *testing.T) {
	d := kafka.NewDialer()
	client := &Client{coordinator: sarama.NewBroker("127.0.0.1:1"), dialer: d}
	known := true
	late, err := d.Track(closing{told: func() {
		client.mu.Lock()
		defer client.mu.Unlock()
		known = client.coordinator != nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Write([]byte("a request")); err != nil {
		t.Fatal(err)
	}
	if addr, _ := client.DropOverdue(0); addr == nil || known {
		t.Errorf("closed the connection to %v; the coordinator is still known then: %v", addr, known)
	}
	_ = client.Close()
	d.Cut()
}

func (closing) RemoteAddr() net.Addr { return &net.TCPAddr{} }
