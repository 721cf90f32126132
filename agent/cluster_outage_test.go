package agent

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/agent/consumer"
	"kcagent/agent/testkit"
	"kcagent/config"
)

// A badListener is the listener of a broker behind a proxy that can fail: it passes
// connections to fail instead of the broker, and closes the open ones. While fail is nil, it
// passes connections to the broker.
type badListener struct {
	net.Listener
	mu    sync.Mutex
	fail  func(n int, conn *net.TCPConn)
	n     int
	conns []*net.TCPConn
}

func (l *badListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		fail, n := l.fail, l.n
		l.n++
		if fail == nil {
			l.conns = append(l.conns, conn.(*net.TCPConn))
		}
		l.mu.Unlock()
		if fail == nil {
			return conn, nil
		}
		go fail(n, conn.(*net.TCPConn))
	}
}

func (l *badListener) set(fail func(n int, conn *net.TCPConn)) {
	l.mu.Lock()
	conns := l.conns
	l.fail, l.conns = fail, nil
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// resets closes connections in three ways in turn.
func resets(n int, conn *net.TCPConn) {
	defer conn.Close()
	if n%3 > 0 {
		_, _ = conn.Read(make([]byte, 64)) // ends when the client gives up at the latest
	}
	if n%3 < 2 {
		_ = conn.SetLinger(0)
	}
}

// noBroker responds like a web server.
func noBroker(_ int, conn *net.TCPConn) {
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 64))
	_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
}

// TestClusterOutageIsLoggedOnce: a hundred consumers lose their cluster, over connections
// that end in a different way each time. Each logs its transition, once. The outage and
// a change of its cause are logged once for the cluster, with the number of consumers. No text has
// an ephemeral port.
func TestClusterOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	const consumers = 100
	listener := &badListener{}
	r := newRig(t, 1, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		listener.Listener = l
		return listener, err
	}))
	r.outages.Delay, r.outages.Every = time.Second, 4*time.Second
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}\nconsumers:\n", r.cluster.ListenAddrs()[0])
	for i := range consumers {
		text += fmt.Sprintf("  - {name: c%d}\n", i)
	}
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	all := func(s consumer.State) {
		r.Helper()
		r.eventually(fmt.Sprint("all ", s), func() (bool, any) {
			n := r.agent.Status().Summary[s]
			return n == consumers, n
		})
	}
	const fail, work = "connections to the cluster fail", "connections to the cluster work again"
	lines := func(msg string) []testkit.LogLine { return r.log.Logged(t, msg) }

	all(consumer.Running)
	listener.set(resets)
	all(consumer.Failing)
	r.eventually("two reminders", func() (bool, any) {
		l := lines(fail)
		if len(l) == 0 {
			return false, l
		}
		lasts, err := time.ParseDuration(l[len(l)-1].Lasts)
		return err == nil && lasts >= 10*time.Second, l
	})
	first := lines(fail)
	if n := strings.Count(r.log.String(), fmt.Sprintf(`"consumers":%d`, consumers)); n < 2 {
		t.Errorf("%d lines count %d consumers: %+v", n, consumers, first)
	}
	// One line for each kind of cause (reset, broken pipe, EOF), whatever the port, and two reminders.
	if len(first) > 6 {
		t.Errorf("%d lines for one outage: %+v", len(first), first)
	}
	listener.set(noBroker)
	r.eventually("another cause", func() (bool, any) {
		l := lines(fail)
		return strings.Contains(l[len(l)-1].Cause, "does not speak Kafka"), l
	})
	if n := len(lines(fail)) - len(first); n > 4 {
		t.Errorf("%d lines for another cause: %+v", n, lines(fail)[len(first):])
	}
	for _, c := range r.agent.Status().Consumers {
		if c.LastError == nil || ephemeral.MatchString(*c.LastError) {
			t.Errorf("last error of %s: %v", c.Name, c.LastError)
		}
	}
	listener.set(nil)
	all(consumer.Running)

	if n := len(lines("consumer still fails")); n > 0 {
		t.Errorf("%d lines of single consumers: %+v", n, lines("consumer still fails"))
	}
	transitions := make(map[string]int)
	r.eventually("the transitions of all", func() (bool, any) { // a state is logged after it is shown
		clear(transitions)
		for _, l := range lines("consumer state changed") {
			transitions[l.From+">"+l.To]++
		}
		return transitions["ERROR>RUNNING"] >= consumers, transitions
	})
	if transitions["RUNNING>ERROR"] != consumers || transitions["ERROR>RUNNING"] != consumers {
		t.Errorf("the transitions are %v", transitions)
	}
	if n := len(lines(work)); n != 1 {
		t.Errorf("%d lines say that it works again", n)
	}
	if found := ephemeral.FindAllString(r.log.String(), 3); found != nil {
		t.Errorf("the log has ephemeral ports: %q", found)
	}
}

var ephemeral = regexp.MustCompile(`\S+:\d+->\S+`)
