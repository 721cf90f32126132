// An open row: everything that the agent knows about one consumer.

import {Chart} from "./chart.js";
import {fillTable, h, setAttribute, setHidden, setText} from "./dom.js";
import {bytes, clock, count, rate, since, span, unknown} from "./format.js";
import {ObjectsSection} from "./objects.js";
import {read} from "./poll.js";

const mostPartitions = 200;

const facts = [
  ["State", c => `${c.status} since ${since(c.status_since)}`],
  ["Desired state", c => c.desired],
  ["Cluster", c => [c.cluster, c.brokers.join(", ")].filter(Boolean).join(": ")],
  ["Topics", c => (c.topics_regex ? `${c.topics_regex} matches ` : "") + (c.topics.join(", ") || "none")],
  ["Group", c => c.group],
  ["Members", c => c.member_ids.length > 0 ? `${c.member_ids.join(", ")} in generation ${c.generation}` : "not a member of the group"],
  ["Sink", c => c.sink],
  ["Created", c => since(c.created_at)],
  ["Last record", c => since(c.last_record_at)],
  ["Last flush", c => since(c.last_flush_at)],
  ["Written", c => `${count(c.records_total)} records, ${bytes(c.bytes_total)}`],
  ["Not decoded", c => `${count(c.skipped_records_total)} skipped, ${count(c.dead_letters_total)} dead letters`],
  ["Rebalances", c => count(c.rebalances_total)],
  ["Restarts", c => count(c.restarts_total)],
];

const partitionColumns = [
  ["Topic", p => p.topic],
  ["Partition", p => String(p.partition)],
  ["Next offset", p => count(p.next_offset)],
  ["Committed", p => p.committed_offset < 0 ? "none" : count(p.committed_offset)],
  ["End of log", p => count(p.high_water_mark)],
  ["Lag", p => count(p.lag)],
  ["Lag time", p => span(p.lag_seconds)],
  ["Catch-up", p => span(p.catch_up_seconds)],
];

export class Detail {
  constructor(name, history) {
    this.name = name;
    this.history = history;
    this.values = facts.map(() => h("dd"));
    this.charts = {lag: new Chart(320, 56), rate: new Chart(320, 56)};
    this.captions = {lag: h("figcaption"), rate: h("figcaption")};
    this.pending = h("p", {className: "pending", hidden: true});
    this.errors = h("ul", {className: "errors"});
    this.errorTitle = h("h3", {hidden: true}, "Last errors");
    this.partitions = h("tbody");
    this.partitionTitle = h("h3", {}, "Partitions");
    this.objects = new ObjectsSection(name);
    this.settings = h("pre", {tabIndex: 0, "aria-label": `Settings of ${name}`});
    this.message = h("p", {className: "muted"}, "Loading");
    this.node = h("div", {className: "details", role: "group", "aria-label": `Details of ${name}`}, this.message, this.build());
    this.content.hidden = true;
  }

  build() {
    const settings = h("details", {}, h("summary", {}, "Sink and other settings in force"), this.settings);
    settings.addEventListener("toggle", () => settings.open && this.loadSettings());
    this.settingsNode = settings;
    const figure = kind => h("figure", {}, this.captions[kind], this.charts[kind].node);
    const table = h("table", {"aria-label": `Partitions of ${this.name}`},
      h("thead", {}, h("tr", {}, ...partitionColumns.map(([title], i) => h("th", {scope: "col", className: i > 0 ? "num" : ""}, title)))),
      this.partitions);
    this.scroller = h("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": `Partitions of ${this.name}`}, table);
    this.content = h("div", {className: "content"},
      h("div", {className: "charts"}, figure("lag"), figure("rate")),
      this.pending, this.errorTitle, this.errors,
      h("dl", {}, ...facts.map(([title], i) => h("div", {}, h("dt", {}, title), this.values[i]))),
      this.partitionTitle, this.scroller, this.objects.node, settings);
    return this.content;
  }

  async refresh() {
    let c;
    try {
      c = await read("status/" + encodeURIComponent(this.name));
    } catch (error) {
      setText(this.message, `Details are not available: ${error.message}`);
      setHidden(this.message, false);
      return;
    }
    setHidden(this.message, true);
    setHidden(this.content, false);
    facts.forEach(([, text], i) => setText(this.values[i], text(c)));
    this.showPending(c.pending_change);
    this.showErrors(c);
    this.showPartitions(c.partitions);
    this.objects.show(c);
    this.draw();
    if (c.id !== this.id && this.settingsNode.open) this.loadSettings();
    this.id = c.id;
  }

  draw() {
    const minutes = Math.max(1, Math.round(this.history.span / 60000));
    for (const [kind, title, text] of [["lag", "Lag", count], ["rate", "Records/s", rate]]) {
      const range = this.charts[kind].draw(this.history, this.name, kind);
      const [min, max] = range ? [text(range.min), text(range.max)] : [unknown, unknown];
      setText(this.captions[kind], `${title} in the last ${minutes} min: ${min === max ? min : `${min} to ${max}`}`);
    }
  }

  showPending(p) {
    setHidden(this.pending, !p);
    if (!p) return;
    const next = p.next_try_at ? `, next pre-check at ${clock(p.next_try_at)}` : "";
    setText(this.pending, `Pending change: ${p.action} because of ${p.fields.join(", ")}, since ${since(p.since)}, ` +
      `${p.tries} pre-check${p.tries === 1 ? "" : "s"}${next}. ${p.error || "The pre-check is in progress."}`);
  }

  showErrors(c) {
    const errors = c.recent_errors ?? [];
    if (errors.length === 0 && c.last_error) errors.push({error: c.last_error, at: c.status_since});
    setAttribute(this.errors, "class", c.last_error ? "errors now" : "errors");
    setHidden(this.errorTitle, errors.length === 0);
    while (this.errors.children.length > errors.length) this.errors.lastChild.remove();
    errors.forEach((e, i) => {
      const item = this.errors.children[i] ?? this.errors.appendChild(h("li", {}, h("time"), h("b"), h("span")));
      const [time, times, text] = item.children;
      setAttribute(time, "datetime", e.at ?? "");
      setText(time, since(e.at));
      setText(times, e.count > 1 ? `${count(e.count)} times` : "");
      setText(text, e.error);
    });
  }

  showPartitions(partitions) {
    const shown = [...partitions].sort((a, b) => (b.lag ?? -1) - (a.lag ?? -1)).slice(0, mostPartitions);
    const title = shown.length < partitions.length
      ? `Partitions: the ${shown.length} with the largest lag of ${count(partitions.length)}` : `Partitions: ${partitions.length}`;
    setText(this.partitionTitle, title);
    setHidden(this.scroller, partitions.length === 0);
    shown.sort((a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition);
    fillTable(this.partitions, shown.map(p => partitionColumns.map(([, text]) => text(p))), partitionColumns.map((_, i) => i > 0));
  }

  async loadSettings() {
    try {
      const {config} = await read("config");
      const own = config.consumers?.find(c => c.name === this.name);
      const {name, sink, ...rest} = own ?? {};
      setText(this.settings, own ? lines({name, sink, ...rest}).join("\n") : "The consumer is not in the configuration in force.");
    } catch (error) {
      setText(this.settings, error.message);
    }
  }
}

// lines writes a value as YAML does, for people.
function lines(value, indent = "") {
  return Object.entries(value).flatMap(([key, v]) => {
    if (Array.isArray(v)) return [`${indent}${key}: [${v.map(String).join(", ")}]`];
    if (v && typeof v === "object") return [`${indent}${key}:`, ...lines(v, indent + "  ")];
    return [`${indent}${key}: ${v === "" ? '""' : v}`];
  });
}
