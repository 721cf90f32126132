package page

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/browser"
)

// TestPageShowsAnOutageOfTheBroker: state, cause, title and icon, and the recovery, without
// being loaded again.
func TestPageShowsAnOutageOfTheBroker(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n  - {name: payments, topics: [payments]}\n  - {name: archive, state: stopped}\n")
	s.WaitState("orders", "RUNNING")
	b := s.browse(browser.Options{}, "")
	b.Wait("orders to run", state("orders")+`=== "RUNNING"`)
	s.broker.set(true)
	b.Wait("two errors", `document.title.startsWith("(2 ERROR) kcagent ")`)
	b.Wait("the cause", text("[data-name=orders] .note")+`.includes("`+s.addr+`")`)
	if got := browser.Eval[string](b, `[...document.querySelectorAll("[data-name]")].map(row => row.dataset.name).join()`); got != "orders,payments,archive" {
		t.Errorf("the order is %s", got)
	}
	if !browser.Eval[bool](b, `document.getElementById("icon").href.endsWith("/error.svg")`) {
		t.Error("the icon does not change")
	}
	if got := browser.Eval[string](b, `document.getElementById("live").textContent`); !strings.Contains(got, "2 ERROR") {
		t.Errorf("a screen reader announces %q", got)
	}
	b.Screenshot("outage")
	s.broker.set(false)
	b.Wait("the recovery", state("orders")+`=== "RUNNING" && `+state("payments")+`=== "RUNNING"`)
	b.Wait("the causes to go", text("[data-name=orders] .note")+`=== "" && document.title.startsWith("kcagent ")`)
	b.Click("[data-name=orders] button")
	b.Wait("the errors that are over", text(".errors")+`.includes("`+s.addr+`")`)
	if class := browser.Eval[string](b, `document.querySelector(".errors").className`); class != "errors" {
		t.Errorf("an error that is over has the class %s", class)
	}
}

// A front is a reverse proxy that shows an agent below a path.
type front struct {
	*httptest.Server
	target  atomic.Pointer[url.URL]
	version atomic.Pointer[string] // that the page is said to be made by
	loads   atomic.Int64           // of the page
}

func newFront(t *testing.T, target string) *front {
	t.Helper()
	f := &front{}
	f.aim(t, target)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(f.target.Load())
			r.Out.Header.Del("Accept-Encoding") // modify reads the body
		},
		ModifyResponse: f.modify,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.Server = httptest.NewServer(http.StripPrefix("/agents/one", proxy))
	f.Config.ErrorLog = nil
	t.Cleanup(f.Close)
	return f
}

func (f *front) aim(t *testing.T, target string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f.target.Store(u)
}

// modify replaces the version in the page.
func (f *front) modify(r *http.Response) error {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		return nil
	}
	f.loads.Add(1)
	version := f.version.Swap(nil)
	if version == nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	body = bytes.Replace(body, []byte(`data-version="`), []byte(`data-version="`+*version), 1)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// TestPageShowsThatTheAgentIsGone: everything is marked as stale while the agent does not
// respond, and current again after another one has started, even behind a reverse proxy
// that shows the agent below a path.
func TestPageShowsThatTheAgentIsGone(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n")
	s.WaitState("orders", "RUNNING")
	f := newFront(t, s.URL)
	b := browser.Open(t, browser.Options{Init: recordPauses})
	b.Goto(f.URL + "/agents/one/")
	b.Wait("orders to run", state("orders")+`=== "RUNNING"`)
	s.Kill()
	b.Wait("the banner", text("#stale")+`.startsWith("The agent has not responded since ")`)
	if !browser.Eval[bool](b, `getComputedStyle(document.querySelector("main")).filter.includes("grayscale")`) {
		t.Error("the rows look current")
	}
	if title := browser.Eval[string](b, "document.title"); !strings.HasPrefix(title, "(no response) kcagent ") {
		t.Errorf("the title is %s", title)
	}
	if !browser.Eval[bool](b, `document.getElementById("icon").href.endsWith("/stale.svg")`) {
		t.Error("the icon does not change")
	}
	b.Screenshot("stale")
	b.Wait("longer and longer pauses", `pauses.slice(-3).join() === "2000,4000,8000" || pauses.includes(15000)`)
	next := agenttest.Start(t, agenttest.Options{Path: s.Path})
	f.aim(t, next.URL)
	b.Wait("the new agent", text("#agent")+`.includes("process `+strconv.Itoa(next.Pid())+`,")`)
	b.Wait("the banner to go", `document.getElementById("stale").hidden && !document.body.classList.contains("is-stale")`)
	b.Wait("orders to run", state("orders")+`=== "RUNNING" && document.title.startsWith("kcagent ")`)
	b.Forget("Failed to load resource")
}

// TestPageLoadsTheFilesOfANewVersion, once: a page of another version replaces itself.
func TestPageLoadsTheFilesOfANewVersion(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n")
	f := newFront(t, s.URL)
	old := "0.1-"
	f.version.Store(&old)
	b := browser.Open(t, browser.Options{})
	b.Goto(f.URL + "/agents/one/")
	b.Wait("the page of the new version", `!document.documentElement.dataset.version.startsWith("0.1-") && document.querySelector("[data-name=orders]")`)
	if n := f.loads.Load(); n != 2 {
		t.Errorf("the page was loaded %d times, want 2", n)
	}
}
