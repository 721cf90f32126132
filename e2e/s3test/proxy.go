package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
)

// A Proxy forwards requests to a server, and lets tests change them, or respond instead. Once the
// body is read, a request takes effect even if its client is gone, as on a real server. Its
// methods are safe for concurrent use.
type Proxy struct {
	Endpoint string // its URL
	CAFile   string // of the certificate authority; empty without TLS

	address string
	tls     *tls.Config // nil without TLS
	server  *http.Server
	serving sync.WaitGroup

	mu       sync.Mutex
	fault    Fault
	requests []string
}

// A Fault is called for each request. If it returns true, it has responded, and the request is not
// forwarded. It may change the headers and the query; the proxy signs the request again then.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Proxy starts a proxy without faults. It ends with the test.
func (s *Server) Proxy(t testing.TB) *Proxy {
	p := &Proxy{}
	s.start(t, p, "http")
	return p
}

// SecureProxy is Proxy with TLS between clients and the proxy.
func (s *Server) SecureProxy(t testing.TB) *Proxy {
	authority := certs.NewAuthority(t, "s3 test")
	p := &Proxy{
		CAFile: write(t, t.TempDir(), "ca.pem", string(authority.PEM)),
		tls:    &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1").TLS(t)}},
	}
	s.start(t, p, "https")
	return p
}

// start starts a proxy.
func (s *Server) start(t testing.TB, p *Proxy, scheme string) {
	target := s.url(t)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		Transport:    &http.Transport{DisableKeepAlives: true},
	}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		p.requests = append(p.requests, r.Method+" "+r.URL.RequestURI())
		p.mu.Unlock()
		sent, query := r.Header.Clone(), r.URL.RawQuery
		if fault != nil && fault(w, r) {
			return
		}
		if !reflect.DeepEqual(sent, r.Header) || query != r.URL.RawQuery {
			r = signer.SignV4(*r, s.AccessKey, s.SecretKey, "", Region)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		forward.ServeHTTP(w, r.WithContext(ctx))
	}), ErrorLog: log.New(io.Discard, "", 0)}
	p.address = "127.0.0.1:" + strconv.Itoa(kafkatest.FreePort(t))
	p.Endpoint = scheme + "://" + p.address
	p.serve(t)
	t.Cleanup(func() {
		_ = p.server.Close()
		p.serving.Wait()
	})
}

func (p *Proxy) serve(t testing.TB) {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	if p.tls != nil {
		l = tls.NewListener(l, p.tls)
	}
	server := p.server
	p.serving.Go(func() { _ = server.Serve(l) })
}

// Leave closes the port and all connections. Connections are refused until Return is called.
// Only the goroutine of the test may call the two.
func (p *Proxy) Leave() {
	_ = p.server.Close()
	p.serving.Wait()
}

// Return opens the port again after Leave.
func (p *Proxy) Return(t testing.TB) {
	t.Helper()
	p.server = &http.Server{Handler: p.server.Handler, ErrorLog: p.server.ErrorLog}
	p.serve(t)
}

// Set sets the fault of the following requests; nil is none.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.requests = f, nil
}

// Requests returns the requests since the last Set, such as "PUT /bucket/key?partNumber=1".
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Times returns a fault that happens to the first n requests only.
func Times(n int, f Fault) Fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		n--
		due := n >= 0
		mu.Unlock()
		return due && f(w, r)
	}
}

// On returns a fault that happens only to requests for which match returns true.
func On(match func(r *http.Request) bool, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool { return match(r) && f(w, r) }
}

// Part matches requests that upload a part.
func Part(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Has("partNumber") }

// Completion matches requests that end an upload in parts.
func Completion(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// Respond returns a fault that responds with an error of S3.
func Respond(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>%s</RequestId></Error>", code, message, rand.Text())
		return true
	}
}

// Late returns a fault that forwards some uploads only after a random time of up to limit, although
// the proxy has received them. It signals each to received, if a receiver is ready.
func Late(limit time.Duration, received chan<- struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut && !Completion(r) || mathrand.N(4) > 0 {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil { // the client is gone
			return Respond(http.StatusBadRequest, "IncompleteBody", "the client has closed the connection")(w, r)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case received <- struct{}{}:
		default:
		}
		time.Sleep(mathrand.N(limit))
		return false
	}
}

// Ignore makes the server one that ignores If-None-Match, and so replaces objects.
func Ignore(_ http.ResponseWriter, r *http.Request) bool {
	r.Header.Del("If-None-Match")
	return false
}

// Reject makes the server one that does not implement If-None-Match, and says so.
func Reject(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("If-None-Match") == "" {
		return false
	}
	return Respond(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented")(w, r)
}

// Damage changes the first byte of the content of each upload.
func Damage(_ http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPut {
		first := make([]byte, 1)
		if n, _ := r.Body.Read(first); n > 0 {
			first[0] ^= 1
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(first), r.Body), r.Body}
		}
	}
	return false
}

// Reset closes the connection after it has read some bytes of the request.
func Reset(w http.ResponseWriter, r *http.Request) bool {
	_, _ = r.Body.Read(make([]byte, 4096))
	panic(http.ErrAbortHandler)
}

// Hang does not respond until the client closes the connection.
func Hang(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // else net/http does not notice the end of the connection
	<-r.Context().Done()
	return true
}
