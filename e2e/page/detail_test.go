package page

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/browser"
)

// TestOpenRowShowsTheConsumer: figures, members, partitions, settings in force, a pending
// change with its reason, and the errors with their times.
func TestOpenRowShowsTheConsumer(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n  - {name: payments, topics: [payments]}\n")
	s.produce("orders", 400)
	s.WaitConsumer("orders", "commit 400", func(c agenttest.Consumer) bool { return c.Committed() == 400 })
	b := s.browse(browser.Options{}, "")
	b.Click("[data-name=orders] button")
	b.Wait("the address to have the row", `location.hash === "#open=orders"`)
	b.Wait("the partitions", text(".detail .scroll tbody")+`.split("\n").length >= 4`)
	detail := browser.Eval[string](b, text(".detail"))
	for _, want := range []string{
		"RUNNING since ", "main: " + s.addr, "kcagent-orders", "in generation 1", "400 records, 39.1 KiB", "0 skipped, 0 dead letters", "Partitions: 4", "orders\t3\t100\t100\t100\t0\t0 s\t0 s",
	} {
		if !strings.Contains(detail, want) {
			t.Errorf("the details lack %q:\n%s", want, detail)
		}
	}
	if strings.Contains(detail, "0 to 0") {
		t.Errorf("the caption of a constant lag shows a range:\n%s", detail)
	}
	b.Click(".detail summary")
	b.Wait("the settings of the sink", text(".detail pre")+`.includes("delivery: exactly_once") && `+text(".detail pre")+`.includes("path: `+s.dir+`/orders.log")`)

	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody will listen there
	if err != nil {
		t.Fatal(err)
	}
	nowhere := l.Addr().String()
	l.Close()
	s.Write(s.file("  - {name: orders, brokers: ['" + nowhere + "']}\n  - {name: payments, topics: [payments]}\n"))
	b.Wait("the pending change", text(".detail .pending")+`.includes("`+nowhere+`") && `+text("[data-name=orders] .note")+`.includes("is pending")`)
	for selector, want := range map[string]string{
		".detail .pending":                     "Pending change: replace because of ",
		"#config":                              "Not converged yet: orders.",
		"#chips .PENDING":                      "pending change 1",
		"[data-name=orders] .state":            "RUNNING",
		"[data-name=orders] .note":             "replace of ",
		"tbody[data-name]:first-of-type .name": "orders",
	} {
		if got := browser.Eval[string](b, text(selector)); !regexp.MustCompile(want).MatchString(strings.ReplaceAll(got, "\n", " ")) {
			t.Errorf("%s shows %q, not %q", selector, got, want)
		}
	}
	b.Click("#chips .PENDING")
	b.Wait("the filter", names+`.join() === "orders"`)
	b.Screenshot("detail")
}

// TestOpenRowShowsObjectsAndOpenPlans: which objects are open, how large they are and when they are
// published, and the plans that are open with the next attempt and the error; nothing of it for
// another sink. The test adds them to the response of the agent.
func TestOpenRowShowsObjectsAndOpenPlans(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n  - {name: payments, topics: [payments]}\n")
	s.WaitState("orders", "RUNNING")
	b := s.browse(browser.Options{Init: `
		const json = Response.prototype.json;
		const soon = seconds => new Date(Date.now() + seconds * 1000).toISOString();
		Response.prototype.json = async function () {
			const body = await json.call(this);
			if (body.name !== "orders" || !body.partitions) return body;
			body.objects = {objects_total: 12, object_bytes_total: 3145728, open: 3, spool_bytes: 2048, open_plans: 1};
			body.partitions = [0, 1, 2].map(partition => ({topic: "orders", partition, next_offset: 0, committed_offset: 0, high_water_mark: 0}));
			body.partitions[0].objects = {open: 2, records: 55, bytes: 1024, first_offset: 1120, since: soon(-60), due_at: soon(245)};
			body.partitions[1].objects = {open: 1, records: 1, bytes: 100, first_offset: 20, since: soon(-60), due_at: soon(185)};
			body.partitions[2].objects = {open: 0, records: 0, bytes: 0, first_offset: 20, since: null, due_at: null};
			body.partitions[1].open_plan = {first_offset: 10, last_offset: 19, records: 9, objects: 3, uploaded: 1, planned: true,
				since: soon(-125), retry_at: soon(9), error: "put <b>x</b>: access denied"};
			return body;
		};
	`}, "#open=orders")
	b.Wait("the open plan", text(".objects")+`.includes("access denied")`)
	section := browser.Eval[string](b, text(".objects"))
	for _, want := range []string{
		"12 published with 3.0 MiB; 3 open, 2.0 KiB in the spool",
		`orders\t1\t10 to 19\t1 of 3\t9\t\S+ \(2 min ago\)\t\S+ \(in \d s\)\tput <b>x</b>: access denied`,
		`orders\t1\t20\t1\t1\t100 B\t\S+ \(in 3 min\)\norders\t0\t1,120\t2\t55\t1.0 KiB\t\S+ \(in 4 min\)`,
	} {
		if !regexp.MustCompile(want).MatchString(section) {
			t.Errorf("the objects lack %q:\n%s", want, section)
		}
	}
	b.Screenshot("objects")
	b.Click("[data-name=payments] button")
	b.Wait("the details of the other consumer", text("[data-name=payments] .detail dl")+`.includes("kcagent-payments")`)
	if !browser.Eval[bool](b, `document.querySelector("[data-name=payments] .objects").hidden`) {
		t.Error("a consumer with another sink has objects")
	}
}

// TestPageReportsZombies: a consumer that did not stop is named at the top of the page. The
// test adds it to the response of the agent, because no consumer hangs on purpose.
func TestPageReportsZombies(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n")
	b := s.browse(browser.Options{Init: `
		const json = Response.prototype.json;
		Response.prototype.json = async function () {
			const body = await json.call(this);
			if (body.zombies) body.zombies.push({consumer: "stuck", since: "2026-03-04T12:03:10Z", goroutines: 3, functions: ["kcagent/sink/stdout.write"]});
			return body;
		};
	`}, "")
	b.Wait("the banner", text("#zombies")+`.startsWith("Consumers that did not stop: stuck since 2026-03-04 ")`)
	if got := browser.Eval[string](b, text("#zombies")); !strings.HasSuffix(got, "3 goroutines in kcagent/sink/stdout.write") {
		t.Errorf("the banner is %q", got)
	}
	b.Wait("the title", `document.title.startsWith("(1 zombie) kcagent ")`)
	b.Click("#threads summary")
	b.Wait("the threads", text("#threads tbody")+`.includes("orders") && `+text("#threads p")+`.includes("goroutines · ")`)
}

// recordPauses records the pauses between the polls of a page.
const recordPauses = `
	globalThis.pauses = [];
	const timeout = globalThis.setTimeout;
	globalThis.setTimeout = (f, pause) => (pauses.push(pause), timeout(f, pause));
`

// TestPagePollsRarelyInTheBackground: every two seconds while it is visible, every twenty
// seconds while it is not.
func TestPagePollsRarelyInTheBackground(t *testing.T) {
	t.Parallel()
	s := newScene(t, "  - {name: orders}\n")
	background := recordPauses + `
		globalThis.background = false;
		Object.defineProperty(Document.prototype, "hidden", {get: () => background});
	`
	b := s.browse(browser.Options{Init: background}, "")
	b.Wait("a pause", `pauses.length > 0`)
	browser.Eval[bool](b, `(background = true)`)
	b.Wait("a long pause", `pauses.at(-1) === 20000`)
	if first := browser.Eval[int](b, `pauses[0]`); first != 2000 {
		t.Errorf("the pause is %d ms", first)
	}
	browser.Eval[bool](b, `(background = false, document.dispatchEvent(new Event("visibilitychange")))`)
	b.Wait("a short pause", `pauses.at(-1) === 2000`)
}

// TestRenderedRowsHaveTheOrderOfTheScripts: rows keep their places when the scripts take over.
func TestRenderedRowsHaveTheOrderOfTheScripts(t *testing.T) {
	t.Parallel()
	const another = "  - {name: another, topics: [audit]}\n"
	s := newScene(t, mixed+another)
	s.WaitState("broken", "ERROR")
	s.WaitSynced(s.file(mixed + another))
	_, body := s.Get("/")
	var first []string
	for _, m := range regexp.MustCompile(`class="name">([^<]*)<`).FindAllSubmatch(body, -1) {
		first = append(first, string(m[1]))
	}
	b := s.browse(browser.Options{}, "")
	if got := browser.Eval[[]string](b, names); strings.Join(got, " ") != strings.Join(first, " ") {
		t.Errorf("the rendered page has %v, the scripts %v", first, got)
	}
}
