package fetch

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/e2e/badnet"
)

// reach connects to addr, by TLS if secure, and returns what Reach says.
func reach(t *testing.T, addr string, secure bool) string {
	t.Helper()
	f := New(Options{Name: "reach", Settings: small, Config: func() (*sarama.Config, error) {
		c := sarama.NewConfig()
		c.Version = sarama.MaxVersion
		if secure {
			c.Net.TLS.Enable, c.Net.TLS.Config = true, &tls.Config{InsecureSkipVerify: true}
		}
		return c, nil
	}})
	err := f.Reach(t.Context(), addr)
	if err == nil {
		t.Fatal("it counts as reached")
	}
	return err.Error()
}

// TestWhatDoesNotSpeakKafka: what another kind of server says is shown, and its
// first bytes are not taken for a length, for which there would be no memory.
func TestWhatDoesNotSpeakKafka(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n": "it does not speak Kafka",
		"SSH-2.0-OpenSSH_9.6\r\n":          "it does not speak Kafka",
		"-ERR unknown command\r\n":         "it does not speak Kafka",
		strings.Repeat("\x00", 12):         "it does not speak Kafka",
		"\x15\x03\x03\x00\x02\x02\x50":     "it speaks TLS: add tls",
	} {
		addr := badnet.Listen(t, func(c net.Conn) { _, _ = c.Write([]byte(text)) })
		if err := reach(t, addr, false); !strings.Contains(err, want) || !strings.Contains(err, addr) {
			t.Errorf("%q is told as %s", text, err)
		}
	}
	piecemeal := badnet.Listen(t, func(c net.Conn) {
		for _, b := range []byte("HTTP") {
			_, _ = c.Write([]byte{b})
			<-time.After(10 * time.Millisecond)
		}
	})
	if err := reach(t, piecemeal, false); !strings.Contains(err, `what came begins with "HTTP"`) {
		t.Errorf("what comes in pieces is told as %s", err)
	}
	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)
	secure := badnet.Listen(t, func(c net.Conn) { _, _ = tls.Server(c, web.TLS).Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	if err := reach(t, secure, true); !strings.Contains(err, `what came begins with "HTTP/1.1 400`) || strings.Contains(err, "add tls") {
		t.Errorf("a web server is told as %s", err)
	}
}

// TestSilence: who accepts a connection and never says a word is not reached, and
// not waited for longer than for an answer.
func TestSilence(t *testing.T) {
	t.Parallel()
	began := time.Now()
	err := reach(t, badnet.Listen(t, func(net.Conn) {}), false)
	if took := time.Since(began); took > answerTime+5*time.Second || !strings.Contains(err, "accepts connections and has not answered within 10s") {
		t.Errorf("after %v: %s", took, err)
	}
}

// TestDeafBrokers: those that accept connections and say nothing are not waited for
// one after the other.
func TestDeafBrokers(t *testing.T) {
	t.Parallel()
	deaf := make([]string, 6)
	for i := range deaf {
		deaf[i] = badnet.Listen(t, func(net.Conn) {})
	}
	r := newRig(t, 1, 1, small)
	for name, last := range map[string]string{"all": deaf[5], "but one": r.cluster.ListenAddrs()[0]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := r.startAt(small, append(deaf[:5:5], last)...)
			began := time.Now()
			err := f.Refresh(t.Context(), []string{"t"})
			if took := time.Since(began); took > 2*answerTime+5*time.Second || last != deaf[5] && took > answerTime+5*time.Second {
				t.Errorf("it took %v", took)
			}
			if (err != nil) != (last == deaf[5]) {
				t.Errorf("it says %v", err)
			}
		})
	}
}
