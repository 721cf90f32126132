package page

import (
	"strings"
	"testing"

	"kcagent/e2e/browser"
)

// state returns an expression for the state that the page shows of a consumer.
func state(name string) string {
	return `document.querySelector('[data-name="` + name + `"] td[data-key=state]')?.textContent`
}

// text returns an expression for the text that an element shows.
func text(selector string) string {
	return "(document.querySelector(`" + selector + "`)?.innerText ?? '')"
}

// TestPageFollowsEdits: the page shows each edit without being loaded again, in the rows
// that it has.
func TestPageFollowsEdits(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n  - {name: payments, topics: [payments]}\n")
	s.produce("orders", 400)
	b := s.browse(browser.Options{}, "")
	b.Wait("the file to be in force", text("#config")+`.startsWith("synced The configuration applied at")`)
	browser.Eval[bool](b, `(kept = document.querySelector('[data-name=orders]'), true)`)

	s.Apply(s.file("  - {name: orders}\n  - {name: payments, topics: [payments], state: paused}\n  - {name: audit, topics: [audit], state: stopped}\n"))
	b.Wait("payments to be paused", state("payments")+`=== "PAUSED"`)
	b.Wait("audit to be listed", state("audit")+`=== "CREATED"`)
	b.Wait("the group of audit", text("[data-name=audit] [data-key=group]")+`=== "kcagent-audit"`)

	s.Apply(s.file("  - {name: orders}\n  - {name: audit, topics: [audit], state: stopped}\n"))
	b.Wait("payments to go", `!document.querySelector('[data-name=payments]')`)
	b.Click("#ended summary")
	b.Wait("payments among the ended", text("#ended tbody")+`.includes("payments")`)
	if !strings.Contains(browser.Eval[string](b, text("#ended tbody")), "cleanly") {
		t.Error("the page does not say how payments ended")
	}
	if !browser.Eval[bool](b, `kept === document.querySelector('[data-name=orders]') && kept.isConnected`) {
		t.Error("the row of orders was built again")
	}
	b.Wait("the records of orders", text("[data-name=orders] [data-key=records]")+`=== "400"`)
	b.Screenshot("edit")
}

// TestPageShowsABadEdit: the problems with their places, which configuration stays in force,
// and the difference, without secrets; all of it goes when the file is correct again.
func TestPageShowsABadEdit(t *testing.T) {
	t.Parallel()
	good := "  - {name: orders}\n"
	s := newScene(t, good)
	b := s.browse(browser.Options{}, "")
	b.Wait("the icon of a good state", `document.getElementById("icon").href.endsWith("/ok.svg")`)
	s.Write(s.file("  - {name: orders, topcs: [orders]}\n  - {name: orders, state: gone}\n"))
	b.Wait("the file to be rejected", text("#config .badge")+`=== "rejected"`)
	config := browser.Eval[string](b, text("#config"))
	for _, want := range []string{
		"The file has problems. The configuration applied at", "stays in force.",
		"consumers.yaml:5:20", "consumers[0].topcs", "unknown key", `hint: did you mean "topics"?`, "consumers.yaml:6:12",
	} {
		if !strings.Contains(config, want) {
			t.Errorf("the page does not show %q in\n%s", want, config)
		}
	}
	if title := browser.Eval[string](b, "document.title"); !strings.HasPrefix(title, "(rejected) kcagent ") {
		t.Errorf("the title is %s", title)
	}
	if !browser.Eval[bool](b, `document.getElementById("icon").href.endsWith("/error.svg")`) {
		t.Error("the icon does not change")
	}
	if got := browser.Eval[string](b, state("orders")); got != "RUNNING" {
		t.Errorf("orders is %s", got)
	}
	b.Screenshot("bad-edit")
	s.Apply(s.file(good))
	b.Wait("the problems to go", text("#config .badge")+`=== "synced" && `+text("#problems")+`=== ""`)
	b.Wait("the title", `document.title.startsWith("kcagent ")`)
}

// TestPageShowsErrorsAsText: an error with HTML in it is text, and stands below its consumer
// in every width.
func TestPageShowsErrorsAsText(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: broken, sink: {file: {path: '/proc/<img src=x>/x.log'}}}\n")
	b := s.browse(browser.Options{}, "")
	b.Wait("the error", text(".note")+`.includes("/proc/<img src=x>")`)
	b.Click("[data-name=broken] button")
	b.Wait("the details", text(".errors")+`.includes("/proc/<img src=x>")`)
	if browser.Eval[bool](b, `Boolean(document.querySelector("main img"))`) {
		t.Error("the error became an element")
	}
	if at := browser.Eval[string](b, text(".errors time")); !strings.Contains(at, ":") || !strings.Contains(at, "ago") {
		t.Errorf("the time of the error is %q", at)
	}
}

// TestPageShowsTheDifference between the file and the configuration in force, with signs
// beside the colours, and without the secrets of both.
func TestPageShowsTheDifference(t *testing.T) {
	t.Parallel()
	file := func(s *scene, password, entries string) string {
		return strings.Replace(s.file(entries), "clusters:\n", "clusters:\n  eu: {brokers: ['localhost:1'], tls: {}, sasl: {mechanism: PLAIN, username: u, password: "+password+"}}\n", 1)
	}
	s := newScene(t, "  - {name: orders}\n")
	s.Apply(file(s, "first-secret", "  - {name: orders}\n"))
	b := s.browse(browser.Options{}, "")
	s.Write(file(s, "second-secret", "  - {name: orders, topcs: [orders]}\n"))
	b.Wait("the file to be rejected", text("#config .badge")+`=== "rejected"`)
	b.Click("#diff summary")
	b.Wait("the difference", text("#diff pre .removed")+`.startsWith("-") && `+text("#diff pre")+`.includes("+  - {name: orders, topcs: [orders]}")`)
	if shown := browser.Eval[string](b, "document.body.innerText"); strings.Contains(shown, "-secret") {
		t.Errorf("the page shows a secret:\n%s", shown)
	}
	b.Screenshot("difference")
	s.Write(file(s, "second-secret", "  - {name: orders, topcs: [payments]}\n"))
	b.Wait("the difference of the next edit", text("#diff pre")+`.includes("+  - {name: orders, topcs: [payments]}")`)
}
