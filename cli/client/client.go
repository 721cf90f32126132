// Package client requests pages of the HTTP API of a running agent, for the commands that
// show or compare what the agent does.
package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Client requests pages of one agent.
type Client struct {
	base  string
	shown string // base without its password, for errors
}

// connections are not kept between requests, because the agent may have been restarted.
var connections = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}

// requestTimeout is for one request; an agent responds in milliseconds.
const requestTimeout = 5 * time.Second

// New returns a client of the agent at a URL such as http://127.0.0.1:8080, which may
// contain a user, a password and a path. An error says how to write the flag --url; it never
// shows the password.
func New(address string) (Client, error) {
	u, err := url.Parse(address)
	scheme := strings.Contains(address, "://")
	switch {
	case !scheme && !strings.Contains(address, "@"):
		return Client{}, fmt.Errorf("invalid --url %q: use %s", address, withScheme(address))
	case !scheme || err != nil: // the address cannot be shown without its password
		return Client{}, errors.New("invalid --url: use one such as " + example)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return Client{}, fmt.Errorf("invalid --url %q: use one such as %s", u.Redacted(), example)
	case u.RawQuery != "" || u.Fragment != "":
		return Client{}, fmt.Errorf("invalid --url %q: remove what follows the path", u.Redacted())
	}
	if n, err := strconv.Atoi(u.Port()); err == nil && n > 65535 {
		return Client{}, fmt.Errorf("invalid --url %q: the port must be from 1 to 65535", u.Redacted())
	}
	return Client{strings.TrimRight(u.String(), "/"), strings.TrimRight(u.Redacted(), "/")}, nil
}

const example = "http://127.0.0.1:8080"

// withScheme returns a URL for an address without a scheme.
func withScheme(address string) string {
	host, port, err := net.SplitHostPort(address)
	if _, isPort := strconv.Atoi(address); isPort == nil {
		host, port, err = "", address, nil
	}
	if err != nil {
		return "one such as " + example
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Get requests a path such as /status and returns the body of the response. A status other
// than 200 is an error.
func (c Client) Get(ctx context.Context, path string) ([]byte, error) {
	shown := c.page(path)
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", shown, err)
	}
	resp, err := connections.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reach the agent at %s: %w", c.shown, ctx.Err())
		}
		return nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", shown, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return body, nil
	case resp.StatusCode == http.StatusUnauthorized && req.URL.User != nil:
		return nil, LoginError{fmt.Errorf("request %s: status %s; check user and password in --url", shown, resp.Status)}
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, LoginError{fmt.Errorf("request %s: status %s; write user and password into --url, as in http://USER:PASSWORD@HOST:PORT", shown, resp.Status)}
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("request %s: status %s; check that --url is the address of an agent, without the path of a page", shown, resp.Status)
	case resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(string(body), "Client sent an HTTP request to an HTTPS server"):
		return nil, fmt.Errorf("request %s: the agent uses TLS; write https:// in --url", shown)
	}
	return nil, fmt.Errorf("request %s: status %s", shown, resp.Status)
}

// A LoginError reports that the agent rejected the user or password in --url. Another try
// would have the same result.
type LoginError struct{ error }

// page returns the URL of a path for errors, without parameters.
func (c Client) page(path string) string {
	page, _, _ := strings.Cut(path, "?")
	return c.shown + page
}

// unreachable replaces an error of net/http by the reason why no response arrived, with the
// next step.
func (c Client) unreachable(err error) error {
	step := "check that it runs, and that --url is its address"
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		step = "set the environment variable SSL_CERT_FILE to the certificate of its authority"
	} else if errors.Is(err, http.ErrSchemeMismatch) {
		err, step = errors.New("it does not use TLS"), "write http:// in --url"
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no response within %s", requestTimeout)
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	} else if e, ok := errors.AsType[*net.DNSError](err); ok {
		err = fmt.Errorf("look up %s: %s", e.Name, e.Err)
	}
	return fmt.Errorf("reach the agent at %s: %w; %s", c.shown, err, step)
}

// Decode requests a path and decodes the JSON of the response into v.
func (c Client) Decode(ctx context.Context, path string, v any) error {
	body, err := c.Get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("request %s: not the response of an agent; check --url", c.page(path))
	}
	return nil
}
