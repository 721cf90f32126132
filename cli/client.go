package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// A client asks a running agent.
type client struct {
	base  string
	shown string // base without its password, for errors
}

// connections are made anew each time: the agent may have been restarted.
var connections = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}

// askTimeout is for one request; an agent answers in milliseconds.
const askTimeout = 5 * time.Second

func urlFlag(flags *flag.FlagSet) *string {
	return flags.String("url", "http://127.0.0.1:8080", "`address` of the agent")
}

func newClient(address string) (client, error) {
	u, err := url.Parse(address)
	if err != nil { // which would show the address
		return client{}, errUsage{errors.New("--url is no address: write one such as http://127.0.0.1:8080")}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return client{}, errUsage{fmt.Errorf("--url is %q: write an address such as http://127.0.0.1:8080", u.Redacted())}
	}
	return client{strings.TrimSuffix(address, "/"), strings.TrimSuffix(u.Redacted(), "/")}, nil
}

// get asks for a path and returns what the agent answers.
func (c client) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	resp, err := connections.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w (does it run, and listen there?)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the agent: %s answered %s", c.shown+path, resp.Status)
	}
	return body, nil
}

// decode asks for a path and decodes the answer into v.
func (c client) decode(ctx context.Context, path string, v any) error {
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("ask the agent: %s is not what an agent answers: %w", c.shown+path, err)
	}
	return nil
}

// colours reports whether w is a terminal that wants colours
// (https://no-color.org).
func colours(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
