package kafka

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/kafka/login"
	"kcagent/config"
)

func TestHashOfBrokersIgnoresTheirOrder(t *testing.T) {
	a := hashBrokers([]string{"x:1", "y:1"})
	if len(a) != 16 || a != hashBrokers([]string{"y:1", "x:1"}) || a == hashBrokers([]string{"x:1"}) {
		t.Errorf("%s is not the hash of the addresses alone", a)
	}
}

// TestPinLastsWhileAConsumerHasTheBrokers: a list of brokers is pinned, whatever its order,
// until no consumer has it.
func TestPinLastsWhileAConsumerHasTheBrokers(t *testing.T) {
	cs := NewClusters(slog.New(slog.DiscardHandler))
	t.Cleanup(cs.Close)
	spec := func(brokers ...string) *config.Consumer {
		return &config.Consumer{Name: "c", Cluster: config.Cluster{Brokers: brokers}}
	}
	c := cs.Acquire(spec("127.0.0.1:1", "127.0.0.1:2"))
	cs.Release(c)
	cs.ForgetPins([][]string{{"127.0.0.1:1", "127.0.0.1:2"}})
	if again := cs.Acquire(spec("127.0.0.1:2", "127.0.0.1:1")); again.Pin() != c.Pin() {
		t.Error("another pin for the same brokers")
	}
	cs.ForgetPins(nil)
	again := cs.Acquire(spec("127.0.0.1:1", "127.0.0.1:2"))
	if again.Pin() != c.Pin() {
		t.Error("another pin while the cluster is in use")
	}
	if other := cs.Acquire(spec("127.0.0.1:1")); other.Pin() == c.Pin() {
		t.Error("the same pin for other brokers")
	}
	for len(cs.inUse) > 0 {
		cs.Release(cs.inUse[0])
	}
	cs.ForgetPins(nil)
	if again := cs.Acquire(spec("127.0.0.1:1", "127.0.0.1:2")); again.Pin() == c.Pin() {
		t.Error("the pin was kept although no consumer had the brokers")
	}
}

// TestFetcherRecordsEachRejectedLogin: a rejected login of the fetcher opens the login breaker,
// whether or not a consumer reports it. Consumers report an error that repeats only once, so a token
// that was kept at the first rejection would otherwise never be replaced.
func TestFetcherRecordsEachRejectedLogin(t *testing.T) {
	server, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	server.ControlKey(int16(kmsg.SASLAuthenticate), func(k kmsg.Request) (kmsg.Response, error, bool) {
		server.KeepControl()
		resp := k.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	addr, file := server.ListenAddrs()[0], filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := &config.Consumer{Name: "c", Cluster: config.Cluster{
		Brokers: []string{addr}, SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: file},
	}}
	for name, connect := range map[string]func(*Cluster) error{
		"a broker":     func(c *Cluster) error { return c.Fetcher.Reach(t.Context(), addr) },
		"any broker":   func(c *Cluster) error { return c.Refresh(t.Context(), []string{"t"}) },
		"a link to it": func(c *Cluster) error { _, err := c.Link(t.Context(), addr); return err },
	} {
		cs := NewClusters(slog.New(slog.DiscardHandler)) // with breakers of its own
		t.Cleanup(cs.Close)
		c := cs.Acquire(spec)
		if err := connect(c); !login.Rejected(err) || login.InBackoff(err) {
			t.Fatalf("%s: the connection reports %v", name, err)
		}
		if _, err := c.Config(); !login.InBackoff(err) {
			t.Errorf("%s: after a rejected login, the next connection reports %v", name, err)
		}
	}
}
