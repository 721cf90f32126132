package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/config"
	"kcagent/fetch"
)

// A badListener is that of a broker behind a proxy that fails: it gives connections to
// fail instead of to the broker, and ends those there are. It works while fail is nil.
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

// resets ends each connection in another way than the one before.
func resets(n int, conn *net.TCPConn) {
	defer conn.Close()
	if n%3 > 0 {
		_, _ = conn.Read(make([]byte, 64)) // ends when the client gives up, at the latest
	}
	if n%3 < 2 {
		_ = conn.SetLinger(0)
	}
}

// noBroker answers like a web server.
func noBroker(_ int, conn *net.TCPConn) {
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 64))
	_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
}

type logLine struct{ Level, Msg, From, To, Why, Consumer, Cluster, Cause, Lasts string }

// logged returns the lines with a message.
func (b *logBuffer) logged(t *testing.T, msg string) (lines []logLine) {
	t.Helper()
	for line := range bytes.Lines([]byte(b.String())) {
		var l logLine
		_ = json.Unmarshal(line, &l) // a number has another type in some lines
		if l.Msg == msg {
			lines = append(lines, l)
		}
	}
	return lines
}

// TestClusterOutageIsLoggedOnce: a hundred consumers lose their cluster, over connections
// that end in a different way each time. Each logs its transition, once. What lasts and
// what changes is logged once for the cluster, with the number of consumers. No text has
// an ephemeral port.
func TestClusterOutageIsLoggedOnce(t *testing.T) {
	const consumers = 100
	listener := &badListener{}
	r := newRig(t, 1, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		listener.Listener = l
		return listener, err
	}))
	r.agent.clusters.outages.delay, r.agent.clusters.outages.every = time.Second, 4*time.Second
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}\nconsumers:\n", r.cluster.ListenAddrs()[0])
	for i := range consumers {
		text += fmt.Sprintf("  - {name: c%d}\n", i)
	}
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	all := func(s State) {
		r.Helper()
		r.eventually(fmt.Sprint("all ", s), func() (bool, any) {
			n := r.agent.Status().Summary[s]
			return n == consumers, n
		})
	}
	const fail, work = "connections to the cluster fail", "connections to the cluster work again"
	lines := func(msg string) []logLine { return r.log.logged(t, msg) }

	all(Running)
	listener.set(resets)
	all(Failing)
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
	// By kind of cause, and two reminders: reset, broken pipe, end, none of them with its own port.
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
	all(Running)

	if n := len(lines("consumer still fails")); n > 0 {
		t.Errorf("%d lines of single consumers: %+v", n, lines("consumer still fails"))
	}
	transitions := make(map[string]int)
	for _, l := range lines("consumer state changed") {
		transitions[l.From+">"+l.To]++
	}
	if n := transitions["RUNNING>ERROR"]; n != consumers || transitions["ERROR>RUNNING"] != consumers {
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

// TestOutageLines: the first line counts the consumers that fail by then, a new cause is
// one line, and the reminder comes every few minutes. One consumer alone logs its own
// transition, so the cluster is logged only when the cause changes.
func TestOutageLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		outages := newOutageLog(slog.New(slog.NewJSONHandler(&log, nil)))
		spec := &config.Consumer{ClusterName: "main", Cluster: config.Cluster{Brokers: []string{"k:9092"}}}
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		count := func(want int, what string) {
			t.Helper()
			if n := strings.Count(log.String(), "\n"); n != want {
				t.Fatalf("%s: %d lines, want %d:\n%s", what, n, want, log.String())
			}
		}
		reset := clusterFault{cause: "read tcp k:9092: connection reset by peer", key: "k:9092 connection reset by peer"}
		eof := clusterFault{cause: "EOF", key: "connection closed"}
		fails := func(name string, f clusterFault) {
			spec := *spec
			spec.Name = name
			outages.report("id of "+name, &spec, f.cause, f.key)
		}
		resolve := func(name string, recovered bool) { outages.resolve("id of "+name, recovered) }

		fails("a", reset)
		wait(remindEvery - time.Second)
		count(0, "one consumer")
		fails("b", reset)
		fails("c", reset)
		wait(outageDelay)
		count(1, "three consumers")
		if l := log.logged(t, "connections to the cluster fail"); l[0].Cluster != "main" || l[0].Cause != reset.cause || !strings.Contains(log.String(), `"consumers":3`) {
			t.Errorf("%s", log.String())
		}
		for range 100 { // the cause changes with each retry
			fails("a", eof)
			wait(outageDelay / 5)
			fails("a", reset)
			wait(outageDelay / 5)
		}
		count(2, "a second cause")
		wait(remindEvery)
		count(3, "a reminder")
		resolve("a", true)
		resolve("b", false)
		count(3, "one still fails")
		resolve("c", true)
		count(4, "none fails")
		wait(2 * remindEvery)
		count(4, "it is over")

		fails("b", reset)
		wait(outageDelay)
		fails("b", eof)
		wait(outageDelay)
		count(5, "one consumer, another cause")
		if l := log.logged(t, "connections to the cluster fail"); l[len(l)-1].Consumer != "b" || l[len(l)-1].Cause != eof.cause {
			t.Errorf("the line of one consumer is %+v", l[len(l)-1])
		}
		edited := *spec
		edited.Cluster.Rack, edited.Cluster.Fetch.Lanes = "a", 5
		spec = &edited
		fails("b", reset)
		resolve("b", true)
		before := strings.Count(log.String(), "\n")
		wait(2 * remindEvery)
		count(before, "it is over although settings have changed meanwhile")
	})
}

// TestOutageGoesOn: an outage whose causes alternate with others of the consumers is one,
// and its end is logged once consumers recover, although another has other trouble by then.
func TestOutageGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		outages := newOutageLog(slog.New(slog.NewJSONHandler(&log, nil)))
		spec := &config.Consumer{ClusterName: "main"}
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		for range 10 { // brokers restart
			for _, id := range []string{"a", "b"} {
				outages.report(id, spec, "EOF", "connection closed")
			}
			wait(2 * outageDelay)
			for _, id := range []string{"a", "b"} {
				outages.reportOther(id)
			}
			wait(2 * outageDelay)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for one outage:\n%s", n, log.String())
		}
		outages.resolve("a", true)
		if n := len(log.logged(t, "connections to the cluster work again")); n != 1 {
			t.Errorf("%d lines say that it works again:\n%s", n, log.String())
		}
		outages.resolve("b", true)
		wait(2 * remindEvery)
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in all:\n%s", n, log.String())
		}
	})
}

// TestCauseLog: each cause of a condition is logged once, and the present one again every
// few minutes, however often they alternate. A text that varies without end is bounded.
func TestCauseLog(t *testing.T) {
	var l causeLog
	now := time.Now()
	count := func(minutes int, key func(i int) string) (n int) {
		for i := range minutes * 60 {
			now = now.Add(time.Second)
			if l.news(key(i), remindEvery, now) {
				n++
			}
		}
		return n
	}
	if n := count(10, func(i int) string { return []string{"reset", "EOF", "refused"}[i%3] }); n != 3+1 {
		t.Errorf("%d lines for three causes in ten minutes", n)
	}
	if n := count(30, func(i int) string { return fmt.Sprint(i) }); n > causesLogged+6 {
		t.Errorf("%d lines for a text that varies", n)
	}
}

// TestClusterCause: which errors concern all consumers of a cluster, and under which key.
func TestClusterCause(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9092}, Err: &net.DNSError{Err: "x"}}
	reset.Err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	dial := *reset
	dial.Op = "dial"
	login := fmt.Errorf("login: %w", sarama.ErrSASLAuthenticationFailed)
	for name, c := range map[string]struct {
		err        error
		cause, key string // empty: it is about the consumer
	}{
		"reset":                    {fmt.Errorf("fetch: %w", reset), "fetch: read tcp 10.0.0.1:9092: read: connection reset by peer", "10.0.0.1:9092 connection reset by peer"},
		"by another way":           {fmt.Errorf("join group g: %w", &dial), "dial tcp 10.0.0.1:9092: read: connection reset by peer", "10.0.0.1:9092 connection reset by peer"},
		"closed":                   {fmt.Errorf("join group g: %w", io.EOF), "EOF", "connection closed"},
		"a broker is full":         {&fetch.FullError{Broker: "b:9092", Open: 20, Err: io.EOF}, (&fetch.FullError{Broker: "b:9092", Open: 20}).Error(), "b:9092 accepts no more connections"},
		"or restarts":              {&fetch.FullError{Broker: "b:9092", Err: io.EOF}, (&fetch.FullError{Broker: "b:9092"}).Error(), "connection closed"},
		"no name server":           {fmt.Errorf("look up leader: %w", &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "timeout", Name: "k"}}), "look up leader: dial tcp: lookup k: timeout", "dial tcp: lookup k: timeout"},
		"no broker":                {fmt.Errorf("x: %w", fetch.StrangerError("it speaks TLS")), "x: it speaks TLS", "it speaks TLS"},
		"login":                    {fmt.Errorf("join group g: %w", login), login.Error(), sarama.ErrSASLAuthenticationFailed.Error()},
		"login not tried":          {&loginBackoffError{login}, (&loginBackoffError{login}).Error(), sarama.ErrSASLAuthenticationFailed.Error()},
		"a missing topic":          {fmt.Errorf("subscribe: %w", sarama.ErrUnknownTopicOrPartition), "", ""},
		"the disk is full":         {sinkError{syscall.ENOSPC}, "", ""},
		"the group is not allowed": {sarama.ErrGroupAuthorizationFailed, "", ""},
	} {
		cause, key, ok := clusterCause(&config.Consumer{Group: "g"}, c.err)
		if cause != c.cause || key != c.key || ok != (c.cause != "") {
			t.Errorf("%s: %q, key %q, %v", name, cause, key, ok)
		}
	}
}

// TestCauseKey: parts that differ in each answer of a server are not part of the cause.
func TestCauseKey(t *testing.T) {
	for _, form := range []string{
		"https response error StatusCode: 403, RequestID: %[1]s, AccessDenied",
		"AADSTS7000215: Invalid client secret. Trace ID: %[1]s Correlation ID: %[1]s Timestamp: 2026-11-26 17:00:%[2]sZ",
	} {
		a, b := fmt.Sprintf(form, "1f0c-aa", "01"), fmt.Sprintf(form, "9bd2-07", "59")
		if causeKey(a) != causeKey(b) {
			t.Errorf("%q and %q are two causes", causeKey(a), causeKey(b))
		}
	}
	if causeKey("read t/3 at offset 10") == causeKey("read t/3 at offset 11") {
		t.Error("two offsets are one cause")
	}
	if a, b := faultKey(fmt.Errorf("look up leader of t/1: %w", sarama.ErrLeaderNotAvailable)), faultKey(fmt.Errorf("look up leader of t/3: %w", sarama.ErrLeaderNotAvailable)); a != b {
		t.Errorf("two partitions without a leader are two causes, %q and %q", a, b)
	}
	if faultKey(fmt.Errorf("read t/1: %w", sarama.ErrOffsetOutOfRange)) == faultKey(fmt.Errorf("read t/3: %w", sarama.ErrOffsetOutOfRange)) {
		t.Error("two partitions out of range are one cause")
	}
	if err := withoutPorts(fmt.Errorf("get token: %w", errors.New("read tcp 10.0.0.7:43210->10.0.0.2:443: EOF"))); err.Error() != "get token: read tcp 10.0.0.2:443: EOF" {
		t.Errorf("%v", err)
	}
}
