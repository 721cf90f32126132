// Package browser runs pages in a real headless Chromium. It fails a test if a page logs an
// error, violates its Content-Security-Policy or makes a request to another host.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"kcagent/e2e/loud"
	"kcagent/e2e/wait"
)

// requireEnv, set to 1, makes Open fail a test that it would skip. CI sets it.
const requireEnv = "KCAGENT_REQUIRE_BROWSER"

// A Viewport is the size of a tab, and the preferences of its user.
type Viewport struct {
	Width, Height int64 // in CSS pixels; 1440 by 900 if 0
	Dark          bool  // the user prefers a dark scheme
}

// Options configure a tab.
type Options struct {
	Viewport
	NoScript bool   // scripts do not run
	Init     string // runs before the scripts of each page
}

// A Tab is a tab of a browser of its own. Only the goroutine of the test may call its
// methods.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	faults   []string // errors that the page has logged
	requests []Request
}

// A Request is a request of the page that has got a response.
type Request struct {
	URL    string
	Status int64
	Bytes  float64 // of the response as sent, headers included
}

// program returns the path of a Chromium, "" if there is none.
var program = sync.OnceValue(func() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
})

// Require skips the test with a notice where no browser can run, and with -short. With
// KCAGENT_REQUIRE_BROWSER=1 it fails the test instead.
func Require(t testing.TB) {
	t.Helper()
	if testing.Short() {
		loud.Skip(t, requireEnv, "-short excludes the tests in a browser")
	}
	if program() == "" {
		loud.Skip(t, requireEnv, "tests in a browser need chromium in PATH")
	}
}

// Open starts a browser with one tab. At the end of the test it ends the browser, and fails
// the test if a page has logged an error.
func Open(t testing.TB, o Options) *Tab {
	t.Helper()
	Require(t)
	flags := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program()), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("lang", "en-US"), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(wait.Timeout),
	)
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), flags...)
	b := &Tab{t: t}
	ctx, end := chromedp.NewContext(alloc, chromedp.WithListener(b.observe()))
	b.ctx = ctx
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // the browser may have ended
		end()
		endAlloc()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("the page logged: %s", fault)
		}
	})
	Call(b, network.Enable, network.EnableParams{})
	Call(b, log.Enable, cdp.Empty{})
	if o.NoScript {
		Call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	if o.Init != "" {
		Call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: o.Init})
	}
	b.Resize(o.Viewport)
	return b
}

// Call sends a command of the DevTools protocol and returns its result.
func Call[P, R any](b *Tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// observe returns a listener that records requests and errors.
func (b *Tab) observe() func(any) {
	pending := make(map[network.RequestID]Request)
	return func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" && u.Hostname() != "127.0.0.1" {
				b.faults = append(b.faults, "request to "+e.Request.URL)
			}
		case *network.EventResponseReceived:
			pending[e.RequestID] = Request{URL: e.Response.URL, Status: e.Response.Status}
		case *network.EventLoadingFinished:
			if r, ok := pending[e.RequestID]; ok {
				r.Bytes = e.EncodedDataLength
				b.requests = append(b.requests, r)
				delete(pending, e.RequestID)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
				b.faults = append(b.faults, strings.Join([]string{string(e.Entry.Source), e.Entry.Text, e.Entry.URL}, ": "))
			}
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				b.faults = append(b.faults, fmt.Sprintf("console: %s", e.Args[0].Value))
			}
		case *runtime.EventExceptionThrown:
			b.faults = append(b.faults, e.ExceptionDetails.Text+" "+describe(e.ExceptionDetails.Exception))
		}
	}
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}

func (b *Tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// Goto loads a page.
func (b *Tab) Goto(url string) { b.t.Helper(); b.do(chromedp.Navigate(url)) }

// Resize changes the size of the tab and the scheme of its colours.
func (b *Tab) Resize(v Viewport) {
	b.t.Helper()
	if v.Width == 0 {
		v.Width = 1440
	}
	if v.Height == 0 {
		v.Height = 900
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	b.do(chromedp.EmulateViewport(v.Width, v.Height))
	Call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// Eval evaluates an expression, waits for its promise if it is one, and returns the result.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// Wait waits until an expression is true.
func (b *Tab) Wait(what, expression string) {
	b.t.Helper()
	wait.For(b.t, wait.Timeout/2, what, func() error {
		is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && !is {
			err = fmt.Errorf("it is false: %s", expression)
		}
		return err
	})
}

// Press sends keys to the focused element, such as "/" or kb.Tab.
func (b *Tab) Press(keys string) { b.t.Helper(); b.do(chromedp.KeyEvent(keys)) }

// Strike presses a key that has a meaning of its own on the page, such as "/". Unlike with
// Press, the browser drops the character if the page handles the key.
func (b *Tab) Strike(key string) {
	b.t.Helper()
	Call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key})
	Call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key})
}

// Click clicks the element that a selector finds.
func (b *Tab) Click(selector string) { b.t.Helper(); b.do(chromedp.Click(chromedp.CSS(selector))) }

// Requests returns the requests so far.
func (b *Tab) Requests() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Request(nil), b.requests...)
}

// Forget discards the errors that the page has logged, which the test has caused: a browser
// logs each request that fails. It fails the test if one of them lacks the text.
func (b *Tab) Forget(text string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		if !strings.Contains(fault, text) {
			b.t.Errorf("the page logged: %s", fault)
		}
	}
	b.faults = nil
}

// Screenshot writes what the tab shows into the folder of build output.
func (b *Tab) Screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("KCAGENT_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join("..", "..", "dist", "page")
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
