package page

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/browser"
)

// A scene is an agent with an embedded broker.
type scene struct {
	*agenttest.Agent
	t      testing.TB
	broker *plug
	dir    string
	addr   string
	client *kgo.Client
}

// newScene starts a broker with the topics orders, payments and audit, of four partitions
// each, and an agent with these entries of consumers.
func newScene(t testing.TB, entries string) *scene {
	t.Helper()
	browser.Require(t)
	s := &scene{t: t, dir: t.TempDir(), broker: &plug{open: make(map[net.Conn]bool)}}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "orders", "payments", "audit"),
		kfake.ListenFn(s.broker.listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s.addr = cluster.ListenAddrs()[0]
	if s.client, err = kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.Agent = agenttest.Start(t, agenttest.Options{Config: s.file(entries)})
	return s
}

// file returns a configuration file with these entries.
func (s *scene) file(entries string) string {
	return fmt.Sprintf("clusters:\n  main: {brokers: ['%s']}\n"+
		"defaults: {cluster: main, topics: [orders], flush: {interval: 250ms}, sink: {file: {path: '%s/{name}.log'}}}\nconsumers:\n%s",
		s.addr, s.dir, entries)
}

// produce writes records to each partition of a topic.
func (s *scene) produce(topic string, n int) {
	s.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 4), Value: []byte(strings.Repeat("x", 100))})
	}
	if err := s.client.ProduceSync(s.t.Context(), records...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// browse opens the page and waits until its scripts have shown the consumers.
func (s *scene) browse(o browser.Options, fragment string) *browser.Tab {
	s.t.Helper()
	b := browser.Open(s.t, o)
	b.Goto(s.URL + "/" + fragment)
	b.Wait("the first update", `document.querySelector("tbody[data-name]")`)
	return b
}

// A plug is between a broker and its clients. While it is pulled, connections end at once.
type plug struct {
	net.Listener
	mu     sync.Mutex
	open   map[net.Conn]bool
	pulled bool
}

func (p *plug) listen(network, _ string) (l net.Listener, err error) {
	p.Listener, err = net.Listen(network, "127.0.0.1:0")
	return p, err
}

// Accept implements net.Listener.
func (p *plug) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		if !p.pulled {
			p.open[c] = true
			p.mu.Unlock()
			return c, nil
		}
		p.mu.Unlock()
		_ = c.Close() // like a broker that has ended
	}
}

func (p *plug) set(pulled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = pulled
	for c := range p.open {
		_ = c.Close() // the broker may have closed it before
		delete(p.open, c)
	}
}
