// Package client requests pages of the HTTP API of a running agent, for the commands that
// show or compare what the agent does.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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
// contain a user and a password. An error means that the URL is invalid; it never shows
// the password.
func New(address string) (Client, error) {
	u, err := url.Parse(address)
	if err != nil { // whose text has the address in it
		return Client{}, errors.New("invalid URL: use one such as http://127.0.0.1:8080")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Client{}, fmt.Errorf("invalid URL %q: use one such as http://127.0.0.1:8080", u.Redacted())
	}
	return Client{strings.TrimSuffix(address, "/"), strings.TrimSuffix(u.Redacted(), "/")}, nil
}

// Get requests a path such as /status and returns the body of the response. A status other
// than 200 is an error.
func (c Client) Get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", c.shown+path, err)
	}
	resp, err := connections.Do(req)
	if err != nil { // whose text has the URL in it, redacted
		return nil, fmt.Errorf("reach the agent: %w; check that it runs, and that --url is its address", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", c.shown+path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("request %s: status %s", c.shown+path, resp.Status)
	}
	return body, nil
}

// Decode requests a path and decodes the JSON of the response into v.
func (c Client) Decode(ctx context.Context, path string, v any) error {
	body, err := c.Get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("request %s: not the response of an agent: %w", c.shown+path, err)
	}
	return nil
}
