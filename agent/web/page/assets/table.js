// The table of consumers. Each consumer has a table body of its own, with up to three rows:
// its figures, a note with its error, and its details. Bodies are keyed by name and updated
// in place.

import {Chart} from "./chart.js";
import {columns, note} from "./columns.js";
import {Detail} from "./detail.js";
import {h, setAttribute, setHidden, setText} from "./dom.js";
import {clock, unknown} from "./format.js";

let ids = 0;

class Row {
  constructor(name, toggle) {
    this.name = name;
    this.id = `detail-${++ids}`;
    this.cells = {};
    this.charts = {};
    this.button = h("button", {
      type: "button", className: "open", "aria-expanded": "false", "aria-label": `Details of ${name}`,
    });
    this.button.addEventListener("click", () => toggle(name));
    this.main = h("tr", {role: "row"}, ...columns.map(column => this.cell(column)));
    this.main.addEventListener("click", event => {
      if (!event.target.closest("button, a") && getSelection().isCollapsed) toggle(name);
    });
    this.body = h("tbody", {role: "rowgroup", "data-name": name}, this.main);
    this.body.row = this;
    this.visible = false; // until the observer says so
  }

  cell(column) {
    if (column.key === "name") {
      return h("th", {role: "rowheader", scope: "row", "data-key": "name"}, this.button, h("span", {className: "name"}, this.name));
    }
    const cell = h("td", {role: "cell", "data-key": column.key, "data-title": column.title});
    if (column.numeric) cell.className = "num";
    if (column.chart) {
      this.charts[column.chart] = new Chart(64, 18);
      cell.append(this.charts[column.chart].node);
    }
    const tag = column.key === "since" ? "time" : "span";
    const text = h(tag, column.key === "state" ? {className: "state"} : {});
    if (column.key === "state") cell.append(h("span", {className: "dot", "aria-hidden": "true"}));
    cell.append(text);
    this.cells[column.key] = text;
    return cell;
  }

  update(c, history) {
    setAttribute(this.body, "class", c.status);
    for (const column of columns) {
      if (!column.text) continue;
      const cell = this.cells[column.key], text = column.text(c);
      setText(cell, text);
      if (column.numeric) {
        if (text === unknown) setAttribute(cell, "aria-label", "unknown");
        else if (cell.hasAttribute("aria-label")) cell.removeAttribute("aria-label");
      }
    }
    setAttribute(this.cells.since, "datetime", c.status_since);
    setAttribute(this.cells.since, "title", clock(c.status_since));
    setAttribute(this.cells.sink, "title", c.fixed.sink ?? "");
    setAttribute(this.cells.group, "title", c.fixed.group ?? "");
    this.updateNote(c);
    this.last = {c, history};
    this.draw();
  }

  draw() {
    if (!this.visible || !this.last) return;
    for (const kind in this.charts) this.charts[kind].draw(this.last.history, this.name, kind);
  }

  updateNote(c) {
    const text = note(c);
    if (!text && !this.note) return;
    if (!this.note) {
      this.noteText = h("span");
      this.note = h("tr", {role: "row", className: "note"}, h("td", {role: "cell", colSpan: columns.length}, this.noteText));
      this.main.after(this.note);
    }
    setHidden(this.note, !text);
    setAttribute(this.note, "class", c.last_error ? "note" : "note pending");
    setText(this.noteText, text);
  }

  setOpen(open, history) {
    if (open === Boolean(this.detail)) return;
    setAttribute(this.button, "aria-expanded", String(open));
    this.body.toggleAttribute("data-open", open);
    if (!open) {
      this.detail.node.closest("tr").remove();
      this.detail = null;
      this.button.removeAttribute("aria-controls");
      return;
    }
    this.detail = new Detail(this.name, history);
    this.button.setAttribute("aria-controls", this.id);
    this.body.append(h("tr", {role: "row", className: "detail", id: this.id},
      h("td", {role: "cell", colSpan: columns.length}, this.detail.node)));
  }
}

export class Table {
  constructor(node, toggle) {
    this.node = node;
    this.toggle = toggle;
    this.rows = new Map(); // by name: the rows in the document
    this.seen = new IntersectionObserver(entries => {
      for (const {target, isIntersecting} of entries) {
        target.row.visible = isIntersecting;
        target.row.draw();
      }
    }, {rootMargin: "200px"});
    for (const body of [...node.tBodies]) body.remove(); // the rows that the server rendered
  }

  // show makes the table have exactly these consumers, in this order.
  show(consumers, open, history) {
    const rows = new Map();
    for (const c of consumers) {
      const row = this.rows.get(c.name) ?? this.create(c.name);
      rows.set(c.name, row);
      row.update(c, history);
      row.setOpen(open.has(c.name), history);
    }
    for (const [name, row] of this.rows) {
      if (rows.has(name)) continue;
      this.seen.unobserve(row.body);
      row.body.remove();
    }
    this.rows = rows;
    this.arrange([...rows.values()].map(row => row.body));
  }

  create(name) {
    const row = new Row(name, this.toggle);
    this.seen.observe(row.body);
    return row;
  }

  // arrange puts the bodies in order. To move a node takes focus and selection away, so both
  // are restored.
  arrange(bodies) {
    if (bodies.every((body, i) => this.node.tBodies[i] === body)) return;
    const focused = document.activeElement, selection = getSelection(), collapsed = selection.isCollapsed;
    const {anchorNode, anchorOffset, focusNode, focusOffset} = selection;
    let at = this.node.tBodies[0] ?? null;
    for (const body of bodies) {
      if (body === at) {
        at = at.nextElementSibling;
      } else {
        this.node.insertBefore(body, at);
      }
    }
    if (focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
    if (!collapsed && anchorNode?.isConnected && focusNode?.isConnected) {
      selection.setBaseAndExtent(anchorNode, anchorOffset, focusNode, focusOffset);
    }
  }

  // details returns the open rows.
  get details() {
    return [...this.rows.values()].filter(row => row.detail).map(row => row.detail);
  }
}
