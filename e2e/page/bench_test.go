package page

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"

	"kcagent/e2e/browser"
)

// busy changes the figures of every consumer in each response, as if all of them worked.
const busy = `
	const json = Response.prototype.json;
	Response.prototype.json = async function () {
		const body = await json.call(this);
		for (const c of body.consumers ?? []) {
			if (!("lag" in c)) break;
			c.lag = Math.floor(Math.random() * 1e6);
			c.lag_seconds = Math.random() * 1e4;
			c.catch_up_seconds = Math.random() * 1e4;
			c.records_per_second = Math.random() * 1e5;
			c.records_total = Math.floor(Math.random() * 1e9);
		}
		return body;
	};
`

// BenchmarkPageUpdate measures an update of the page with a thousand consumers: the scripts
// of the page alone, and all scripting of the tab with the JSON. In the busy cases all
// figures change with each update, and in the last one also the order of all rows.
func BenchmarkPageUpdate(b *testing.B) {
	const updates = 10
	for _, c := range []struct{ name, init, fragment string }{
		{"idle", "", ""},
		{"busy", busy, ""},
		{"busy sorted by lag", busy, "#sort=-lag"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newScene(b, thousand())
			init := strings.Replace(observed, "Date.now = () => start;", "", 1) + c.init
			tab := s.browse(browser.Options{Init: init}, c.fragment)
			browser.Call(tab, performance.Enable, performance.EnableParams{})
			browser.Eval[any](tab, "waitForUpdates(2)")
			before := scripting(b, tab)
			for b.Loop() {
				browser.Eval[any](tab, fmt.Sprintf("waitForUpdates(%d)", updates))
			}
			b.ReportMetric((scripting(b, tab)-before)/float64(updates*b.N), "script-ms/update")
			b.ReportMetric(browser.Eval[float64](tab, fmt.Sprintf("updates.slice(-%d).reduce((a, b) => a + b) / %d", updates, updates)), "page-ms/update")
		})
	}
}

// scripting returns the milliseconds that the tab has spent in scripts.
func scripting(b *testing.B, tab *browser.Tab) float64 {
	b.Helper()
	for _, m := range browser.Call(tab, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "ScriptDuration" {
			return m.Value * 1000
		}
	}
	b.Fatal("the browser reports no ScriptDuration")
	return 0
}
