package kafka

import (
	"log/slog"
	"testing"

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
