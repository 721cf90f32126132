// The panels below the table, which load what they show once they are open, and the banner
// for consumers that did not stop.

import {byId, fillTable, h, setHidden, setText} from "./dom.js";
import {bytes, clock, count, since, unknown} from "./format.js";
import {read} from "./poll.js";

const zombieInterval = 60000, threadInterval = 4000;
const mostThreads = 300;

function table(label, titles, numeric) {
  const body = h("tbody");
  const head = h("tr", {}, ...titles.map((title, i) => h("th", {scope: "col", className: numeric[i] ? "num" : ""}, title)));
  const node = h("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": label},
    h("table", {"aria-label": label}, h("thead", {}, head), body));
  return {node, fill: rows => fillTable(body, rows, numeric)};
}

export class EndedPanel {
  constructor() {
    this.panel = byId("ended");
    this.table = table("Ended consumers", ["Consumer", "Ended", "Records", "How"], [false, false, true, false]);
    this.panel.querySelector("div").append(this.table.node);
    this.panel.addEventListener("toggle", () => this.fill());
  }

  show(ended) {
    this.ended = ended;
    setText(this.panel.querySelector("b"), count(ended.length));
    setHidden(this.panel, ended.length === 0);
    this.fill();
  }

  fill() {
    if (!this.panel.open || !this.ended) return;
    this.table.fill([...this.ended].reverse().map(e => [
      e.name, since(e.at), count(e.records_total),
      e.clean ? "cleanly" : "not cleanly: it did not flush, commit and close everything in time",
    ]));
  }
}

export class ThreadPanel {
  constructor() {
    this.panel = byId("threads");
    this.process = h("p");
    this.table = table("Threads", ["Consumer", "Goroutines", "Function", "State"], [false, true, false, false]);
    this.panel.querySelector("div").append(this.process, this.table.node);
    this.panel.addEventListener("toggle", () => {
      this.checked = 0;
      if (this.panel.open) this.refresh([]).catch(() => {});
    });
    this.checked = 0;
    this.unclean = 0;
    this.zombies = 0;
  }

  // refresh reads the threads if they are shown, and otherwise now and then, to find zombies:
  // at once after a consumer has not ended cleanly.
  async refresh(ended) {
    const unclean = ended.filter(e => !e.clean).length;
    const due = this.panel.open ? threadInterval : zombieInterval;
    if (unclean === this.unclean && Date.now() - this.checked < due) return;
    this.unclean = unclean;
    this.checked = Date.now();
    const threads = await read("threads");
    this.showZombies(threads.zombies);
    if (!this.panel.open) return;
    const {resources: r} = await read("status?fields=resources");
    setText(this.process, [
      `${count(r.goroutines)} goroutines`, `${count(r.os_threads)} threads`, `${count(r.open_fds)} descriptors`,
      `${bytes(r.rss_bytes)} resident` + (r.memory_limit_bytes ? ` (limit ${bytes(r.memory_limit_bytes)})` : ""),
      `${bytes(r.heap_bytes)} heap`, `${count(r.cpu_seconds)} s CPU`,
    ].join(" · "));
    const rows = [...threads.threads].sort((a, b) => a.recognized - b.recognized).slice(0, mostThreads).map(t => [
      (t.consumer ?? (t.cluster ? `fetcher of ${t.cluster}` : "agent")) + (t.recognized ? "" : " (zombie)"),
      count(t.count), t.function, t.state,
    ]);
    if (threads.threads.length > mostThreads) rows.push([`and ${count(threads.threads.length - mostThreads)} more`, unknown, "", ""]);
    this.table.fill(rows);
  }

  showZombies(zombies) {
    this.zombies = zombies.length;
    const banner = byId("zombies");
    setHidden(banner, zombies.length === 0);
    setText(banner, zombies.length === 0 ? "" : "Consumers that did not stop: " + zombies.map(z =>
      `${z.consumer} since ${clock(z.since)}, ${z.goroutines} goroutines${z.functions.length > 0 ? " in " + z.functions.join(", ") : ""}`).join("; "));
  }
}
