// The objects of an open row: those that grow, and the ranges that are closed and not published yet.

import {fillTable, h, setHidden, setText} from "./dom.js";
import {bytes, clock, count, now, since, span, unknown} from "./format.js";

const mostRows = 200;

const until = time => time ? `${clock(time)} (in ${span((Date.parse(time) - now()) / 1000)})` : unknown;

const openColumns = [
  ["Topic", p => p.topic],
  ["Partition", p => String(p.partition)],
  ["First offset", p => count(p.objects.first_offset)],
  ["Objects", p => count(p.objects.open)],
  ["Records", p => count(p.objects.records)],
  ["Size", p => bytes(p.objects.bytes)],
  ["Published", p => until(p.objects.due_at)],
];

const planColumns = [
  ["Topic", p => p.topic],
  ["Partition", p => String(p.partition)],
  ["Offsets", p => `${count(p.open_plan.first_offset)} to ${count(p.open_plan.last_offset)}`],
  ["Uploaded", p => `${p.open_plan.uploaded} of ${p.open_plan.objects}`],
  ["Records", p => count(p.open_plan.records)],
  ["Closed", p => since(p.open_plan.since)],
  ["Next attempt", p => until(p.open_plan.retry_at)],
  ["Error", p => p.open_plan.error ?? ""],
];

// A list is a table with a title, hidden while it has no rows.
class List {
  constructor(label, columns) {
    this.columns = columns;
    this.title = h("h3");
    this.body = h("tbody");
    const table = h("table", {"aria-label": label},
      h("thead", {}, h("tr", {}, ...columns.map(([title], i) => h("th", {scope: "col", className: this.numeric(i) ? "num" : ""}, title)))), this.body);
    this.node = h("div", {}, this.title, h("div", {className: "scroll", tabIndex: 0, role: "region", "aria-label": label}, table));
  }

  numeric(i) {
    return i > 0 && this.columns[i][0] !== "Error";
  }

  show(name, partitions) {
    setHidden(this.node, partitions.length === 0);
    const shown = partitions.slice(0, mostRows);
    setText(this.title, shown.length < partitions.length
      ? `${name}: the first ${shown.length} of ${count(partitions.length)}` : `${name}: ${partitions.length}`);
    fillTable(this.body, shown.map(p => this.columns.map(([, text]) => text(p))), this.columns.map((_, i) => this.numeric(i)));
  }
}

// at is a time for comparison: partitions with the oldest one come first.
const at = time => time ? Date.parse(time) : Infinity;

export class ObjectsSection {
  constructor(name) {
    this.summary = h("p");
    this.open = new List(`Open objects of ${name}`, openColumns);
    this.plans = new List(`Open plans of ${name}`, planColumns);
    this.node = h("div", {className: "objects", hidden: true}, h("h3", {}, "Objects"), this.summary, this.plans.node, this.open.node);
  }

  // show shows the objects of a consumer; nothing if it has another sink.
  show(c) {
    setHidden(this.node, !c.objects);
    if (!c.objects) return;
    const {objects_total: total, object_bytes_total: size, open, spool_bytes: spool} = c.objects;
    setText(this.summary, `${count(total)} published with ${bytes(size)}; ${count(open)} open, ${bytes(spool)} in the spool`);
    const plans = c.partitions.filter(p => p.open_plan).sort((a, b) => at(a.open_plan.since) - at(b.open_plan.since));
    const growing = c.partitions.filter(p => p.objects?.open > 0).sort((a, b) => at(a.objects.due_at) - at(b.objects.due_at));
    this.plans.show("Partitions with an open plan", plans);
    this.open.show("Partitions with open objects", growing);
  }
}
