package page

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/e2e/browser"
)

// thousand returns a thousand entries: most are stopped, eight run, and one fails.
func thousand() string {
	var entries strings.Builder
	for i := range 1000 {
		switch {
		case i == 777:
			fmt.Fprintf(&entries, "  - {name: c-%04d, group: team-%d, sink: {file: {path: /proc/nowhere/x.log}}}\n", i, i%7)
		case i%125 == 0:
			fmt.Fprintf(&entries, "  - {name: c-%04d, group: team-%d-%d}\n", i, i%7, i)
		default:
			fmt.Fprintf(&entries, "  - {name: c-%04d, group: team-%d-%d, state: stopped}\n", i, i%7, i)
		}
	}
	return entries.String()
}

// observed stops the clock of a page and records its updates: how long each took, and how
// many nodes the last ones changed.
const observed = `
	const start = Date.now();
	Date.now = () => start;
	const has = Headers.prototype.has;
	Headers.prototype.has = function (name) { return name !== "Date" && has.call(this, name); };
	globalThis.updates = [];
	new PerformanceObserver(list => updates.push(...list.getEntries().map(e => e.duration))).observe({entryTypes: ["measure"]});
	globalThis.waitForUpdates = async n => {
		const enough = updates.length + n;
		while (updates.length < enough) await new Promise(done => setTimeout(done, 50));
	};
	globalThis.mutations = async n => {
		const seen = [];
		const observer = new MutationObserver(list => seen.push(...list.map(m => m.type + " " + (m.attributeName ?? m.target.textContent))));
		observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
		await waitForUpdates(n);
		observer.disconnect();
		return seen;
	};
`

const names = `[...document.querySelectorAll("[data-name]")].map(row => row.dataset.name)`

// TestPageWithAThousandConsumers: the document stays small, an update without a change
// touches nothing, and search, filters, order and pages find each consumer.
func TestPageWithAThousandConsumers(t *testing.T) {
	t.Parallel()
	s := newScene(t, thousand())
	s.WaitState("c-0000", "RUNNING")
	s.WaitState("c-0777", "ERROR")
	b := s.browse(browser.Options{Init: observed}, "")
	b.Wait("all chips", text("#chips")+`.replace(/\s+/g, " ") === "All 1,000 ERROR 1 RUNNING 8 CREATED 991"`)
	first := browser.Eval[[]string](b, names)
	if len(first) != 100 || first[0] != "c-0777" || first[1] != "c-0000" || first[9] != "c-0001" {
		t.Errorf("%d rows, the first ones are %v", len(first), first[:min(len(first), 10)])
	}
	if n := browser.Eval[int](b, `document.querySelectorAll("*").length`); n > 6000 {
		t.Errorf("the document has %d elements", n)
	}
	b.Wait("the lines of the visible rows", `document.querySelector("[data-name=c-0000] .line[d]")`)
	if n := browser.Eval[int](b, `[...document.querySelectorAll("[data-name]")].filter(row => row.querySelector(".line[d]")).length`); n > 60 {
		t.Errorf("%d of 100 rows have lines, though the window shows 30", n)
	}
	b.Screenshot("thousand")
	before := len(b.Requests())
	if changed := browser.Eval[[]string](b, "mutations(3)"); len(changed) > 0 {
		t.Errorf("updates without a change made %d changes: %.300q", len(changed), changed)
	}
	for _, r := range b.Requests()[before:] {
		if r.Bytes > 64<<10 {
			t.Errorf("an update needs %.0f bytes: %s", r.Bytes, r.URL)
		}
	}

	b.Strike("/")
	b.Press("team-3 c-05")
	b.Wait("what matches both words", names+`.every(name => name.startsWith("c-05") && Number(name.slice(2)) % 7 === 3)`)
	b.Wait("how many match", text("#range")+`=== "1 to 15 of 15 that match, 1,000 in all"`)
	b.Press("\u001b")
	b.Click(`#chips .RUNNING`)
	b.Wait("the eight that run", names+`.length === 8 && `+text("#range")+`.startsWith("1 to 8 of 8 that match")`)
	b.Click(`thead [data-key=name] button`)
	b.Click(`thead [data-key=name] button`)
	b.Wait("the last one first", names+`[0] === "c-0875"`)
	if got := browser.Eval[string](b, `document.querySelector("thead [data-key=name]").ariaSort`); got != "descending" {
		t.Errorf("a screen reader announces the order %s", got)
	}
	b.Click(`#chips .RUNNING`)
	b.Click("#next")
	b.Wait("the second page", text("#range")+`=== "101 to 200 of 1,000" && `+names+`[0] === "c-0899"`)

	browser.Eval[bool](b, `(location.reload(), true)`)
	b.Wait("the same view after a reload", `document.readyState === "complete" && globalThis.updates?.length > 0 && `+names+`[0] === "c-0899"`)
	if got := browser.Eval[string](b, "location.hash"); got != "#sort=-name&page=2" {
		t.Errorf("the view is %s", got)
	}
}

// TestSelectionAndFocusSurviveUpdates, also when rows change places.
func TestSelectionAndFocusSurviveUpdates(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: a}\n  - {name: b}\n  - {name: c}\n")
	for _, name := range []string{"a", "b", "c"} {
		s.WaitState(name, "RUNNING")
	}
	b := s.browse(browser.Options{Init: observed}, "")
	b.Wait("all to run", names+`.join() === "a,b,c" && `+state("c")+`=== "RUNNING"`)
	browser.Eval[bool](b, `(document.querySelector("[data-name=a] button").focus(),
		getSelection().selectAllChildren(document.querySelector("[data-name=b] .name")), true)`)
	s.Apply(s.file("  - {name: a, state: paused}\n  - {name: b, state: paused}\n  - {name: c}\n"))
	b.Wait("c to be first", names+`.join() === "c,a,b"`)
	browser.Eval[any](b, "waitForUpdates(1)")
	if got := browser.Eval[string](b, "getSelection().toString()"); got != "b" {
		t.Errorf("%q is selected", got)
	}
	if got := browser.Eval[string](b, `document.activeElement.ariaLabel ?? ""`); got != "Details of a" {
		t.Errorf("%q has the focus", got)
	}
}
