package page

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp/kb"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/browser"
	"kcagent/e2e/wait"
)

// mixed has a consumer in each state that lasts.
const mixed = `  - {name: orders}
  - {name: payments-with-a-long-name-that-does-not-fit-into-a-narrow-column, topics: [payments]}
  - {name: audit, topics: [audit], state: paused}
  - {name: archive, state: stopped}
  - {name: broken, topics: [audit], sink: {file: {path: /proc/a-folder-that-does-not-exist/and-has-a-long-path/broken.log}}}
`

// TestPageFitsEveryWidth: no width makes the page scroll sideways, in both schemes, with an
// open row, an error, and a rejected file.
func TestPageFitsEveryWidth(t *testing.T) {
	t.Parallel()
	s := newScene(t, mixed)
	s.WaitState("broken", "ERROR")
	s.produce("orders", 4000)
	b := s.browse(browser.Options{}, "#open=orders")
	s.Write(s.file("  - {name: orders, topcs: [orders]}\n"))
	b.Wait("the file to be rejected", text("#config .badge")+`=== "rejected"`)
	b.Wait("the partitions", `document.querySelectorAll(".detail tbody tr").length === 4`)
	for _, width := range []int64{360, 768, 1024, 1440} {
		for _, dark := range []bool{false, true} {
			b.Resize(browser.Viewport{Width: width, Height: 900, Dark: dark})
			if over := browser.Eval[string](b, overflow); over != "" {
				t.Errorf("%d pixels, dark %v: the page is wider than the window: %s", width, dark, over)
			}
			for _, shown := range []string{"[data-name=broken] .note", "[data-name=orders] [data-key=state]", "[data-name=orders] [data-key=lag]", "#problems li"} {
				if !browser.Eval[bool](b, fmt.Sprintf(`(r => r.width > 0 && r.right <= innerWidth)(document.querySelector(%q).getBoundingClientRect())`, shown)) {
					t.Errorf("%d pixels: %s is not visible", width, shown)
				}
			}
			if low := browser.Eval[[]string](b, contrast); len(low) > 0 {
				t.Errorf("dark %v: the contrast is too low: %q", dark, low)
			}
			scheme := map[bool]string{false: "light", true: "dark"}[dark]
			b.Screenshot(fmt.Sprintf("%d-%s", width, scheme))
		}
	}
}

// overflow names the elements that make the page scroll sideways.
const overflow = `(root => root.scrollWidth <= root.clientWidth ? "" : [...document.querySelectorAll("main *, header *")]
	.filter(e => e.getBoundingClientRect().right > root.clientWidth && !e.closest(".scroll, pre")).map(e => e.tagName + "." + e.className).join() || "unknown"
)(document.documentElement)`

// contrast lists the texts whose contrast on their background is below 4.5.
const contrast = `(() => {
	const parse = c => c.match(/[\d.]+/g).map(Number);
	const luminance = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const ground = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] > 0) return c;
		}
		return [255, 255, 255];
	};
	const low = new Set();
	for (const e of document.body.querySelectorAll("*")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest("[hidden], noscript, button:disabled") || !e.checkVisibility()) continue;
		const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
		if ((a + .05) / (b + .05) < 4.5) low.add(e.tagName + "." + e.className + ": " + e.textContent.slice(0, 30));
	}
	return [...low];
})()`

// TestPageWorksByKeyboard: skip link, search, rows and headers are reached and used without
// a mouse, and the focus can be seen.
func TestPageWorksByKeyboard(t *testing.T) {
	t.Parallel()
	s := newScene(t, mixed)
	b := s.browse(browser.Options{}, "#sort=group")
	b.Wait("all rows", names+`.length === 5`)
	focused := func() string {
		return browser.Eval[string](b, `(e => e.ariaLabel || e.textContent.trim() || e.id)(document.activeElement)`)
	}
	b.Press(kb.Tab)
	if got := focused(); got != "Skip to the consumers" {
		t.Errorf("the first stop is %q", got)
	}
	b.Press(kb.Enter)
	b.Press(kb.Tab)
	if got := browser.Eval[string](b, "location.hash"); got != "#sort=group" {
		t.Errorf("the skip link changes the view to %s", got)
	}
	if got := focused(); got != "Consumer" {
		t.Errorf("the stop after the skip link is %q", got)
	}
	if browser.Eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
		t.Error("the focus cannot be seen")
	}
	for range 10 {
		b.Press(kb.Tab)
	}
	if got := focused(); !strings.HasPrefix(got, "Details of ") {
		t.Fatalf("the stop after the headers is %q", got)
	}
	b.Press(kb.Enter)
	b.Wait("the row to open", `document.activeElement.ariaExpanded === "true" && document.querySelector(".detail dl")?.checkVisibility()`)
	b.Press(" ")
	b.Wait("the row to close", `document.activeElement.ariaExpanded === "false" && !document.querySelector(".detail")`)
	b.Strike("/")
	b.Press("audit")
	b.Wait("what matches", names+`.join() === "audit,broken"`)
	if got := browser.Eval[string](b, `document.getElementById("search").value`); got != "audit" {
		t.Errorf("the search is %q", got)
	}
	b.Press(kb.Escape)
	b.Wait("all rows", names+`.length === 5`)
}

// TestPageHasNamesForScreenReaders: each control and each landmark has a name, the table is
// one, and an unknown figure is read as such.
func TestPageHasNamesForScreenReaders(t *testing.T) {
	t.Parallel()
	s := newScene(t, mixed)
	b := s.browse(browser.Options{Viewport: browser.Viewport{Width: 360}}, "#open=orders")
	b.Wait("the details", `document.querySelector(".detail dl")?.checkVisibility()`)
	for _, width := range []int64{360, 1440} {
		b.Resize(browser.Viewport{Width: width})
		seen := make(map[string]int)
		for _, n := range browser.Call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			role, name := string(n.Role.Value), ""
			if n.Name != nil {
				name = string(n.Name.Value)
			}
			role = strings.Trim(role, `"`)
			seen[role]++
			switch role {
			case "button", "link", "searchbox", "textbox", "combobox", "table", "columnheader", "rowheader", "region", "group", "DisclosureTriangle":
				if strings.Trim(name, `" `) == "" && role != "group" {
					t.Errorf("%d pixels: a %s has no name", width, role)
				}
			}
		}
		if seen["table"] < 2 || seen["row"] < 6 || seen["rowheader"] < 5 || seen["button"] < 5 || seen["searchbox"] != 1 {
			t.Errorf("%d pixels: a screen reader sees %v", width, seen)
		}
	}
	if got := browser.Eval[string](b, `document.querySelector("[data-name=archive] [data-key=catchup] [aria-label]")?.ariaLabel ?? ""`); got != "unknown" {
		t.Errorf("an unknown figure is read as %q", got)
	}
}

// TestPageWithoutJavaScript: the rendered page has states, errors and the state of the file.
func TestPageWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := newScene(t, mixed)
	s.WaitState("broken", "ERROR")
	b := browser.Open(t, browser.Options{NoScript: true})
	b.Goto(s.URL + "/")
	shown := browser.Eval[string](b, "document.body.innerText")
	for _, want := range []string{
		"The configuration applied at", "broken", "ERROR", "create folder /proc/a-folder-that-does-not-exist", "PAUSED",
		"kcagent-orders", "does not update itself without JavaScript",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("the page does not show %q in\n%s", want, shown)
		}
	}
	if browser.Eval[bool](b, `[...document.querySelectorAll("button, input, select")].some(e => e.checkVisibility())`) {
		t.Error("the page shows controls that do nothing")
	}
	for _, width := range []int64{360, 1440} {
		b.Resize(browser.Viewport{Width: width})
		if over := browser.Eval[string](b, overflow); over != "" {
			t.Errorf("%d pixels: the page is wider than the window: %s", width, over)
		}
	}
	b.Screenshot("without-javascript")
}

// TestPageWorksWithAPassword: all requests of the page pass the basic authentication, even if
// the address has user and password.
func TestPageWorksWithAPassword(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yaml")
	hash := "$2a$04$jo0LaMtne0yBRPmuUloy/.mAwlXtYLEE57moJsKlWe/ktl0LrybTG" // of sesame
	if err := os.WriteFile(file, []byte("basic_auth_users: {ops: '"+hash+"'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newScene(t, mixed)
	s.Kill()
	a := agenttest.Launch(t, agenttest.Options{Path: s.Path, Args: []string{"--web.config.file", file}})
	b := browser.Open(t, browser.Options{})
	wait.For(t, wait.Timeout, "the agent to listen", func() error {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		if err == nil {
			err = c.Close()
		}
		return err
	})
	b.Goto(strings.Replace(a.URL, "http://", "http://ops:sesame@", 1) + "/#open=archive")
	b.Wait("the first update", names+`.length === 5`)
	b.Wait("the details", text(".detail")+`.includes("kcagent-archive")`)
}
