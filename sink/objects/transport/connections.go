package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"kcagent/limits"
	"kcagent/sink"
)

// Limits of connections.
const (
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than that of stores: an upload on a connection that the store closes
	// at this moment fails.
	idleTimeout = 3 * time.Second
	// idleConnections is how many connections requests use at the same time: 4 uploads and 8 lookups.
	idleConnections = 12
)

// connections are the connections of this process to object stores, by TLS settings. Stores with the
// same settings share them, so their number depends on that of the requests at a time, and not on
// that of the consumers.
type connections struct {
	budget *limits.Budget

	mu  sync.Mutex
	by  map[sink.ObjectsTLS]*http.Transport
	pem map[sink.ObjectsTLS][]byte // the content of ca_file that a transport has
}

var ofProcess = sync.OnceValue(func() *connections { return &connections{budget: limits.Stores()} })

// get returns the transport with these settings. It reads the file with the authorities each time, so
// that no change is missed; after a change, further requests have connections of their own.
func (c *connections) get(spec sink.ObjectsTLS) (*http.Transport, error) {
	var pem []byte
	if spec.CAFile != "" {
		var err error
		if pem, err = os.ReadFile(spec.CAFile); err != nil {
			return nil, fmt.Errorf("read tls.ca_file: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	former := c.by[spec]
	if former != nil && bytes.Equal(c.pem[spec], pem) {
		return former, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: spec.InsecureSkipVerify}
	if spec.CAFile != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls.ca_file %s: no certificate found; use a PEM file", spec.CAFile)
		}
	}
	if c.by == nil {
		c.by, c.pem = make(map[sink.ObjectsTLS]*http.Transport), make(map[sink.ObjectsTLS][]byte)
	}
	c.by[spec], c.pem[spec] = c.transport(config), pem
	if former != nil {
		former.CloseIdleConnections()
	}
	return c.by[spec], nil
}

func (c *connections) transport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         c.dial,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: connectTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConnsPerHost: idleConnections,
		DisableCompression:  true, // objects are read as they are stored
	}
}

// dial opens a connection within the budget. If the budget is used up, it closes idle connections.
func (c *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	conn, err := c.budget.Dial(ctx, dialer, network, address)
	if errors.As(err, new(limits.DescriptorError)) {
		c.closeIdle()
		conn, err = c.budget.Dial(ctx, dialer, network, address)
	}
	return conn, err
}

// closeIdle closes the connections without a request.
func (c *connections) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.by {
		t.CloseIdleConnections()
	}
}
