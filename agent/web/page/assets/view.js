// Which consumers the page shows: filter, search, order, page and open rows. They are kept
// in the fragment of the URL, so that a view can be shared and survives a reload.

import {columns, note, rank, states, waits} from "./columns.js";

export const pageSize = 100;
const mostOpen = 5;

export class View {
  constructor(changed) {
    this.changed = changed;
    this.parse();
    addEventListener("hashchange", () => {
      this.parse();
      changed();
    });
  }

  parse() {
    const query = new URLSearchParams(location.hash.slice(1));
    this.states = new Set((query.get("state") ?? "").split(",").filter(s => states.includes(s)));
    this.search = query.get("q") ?? "";
    const order = query.get("sort") ?? "state";
    this.descending = order.startsWith("-");
    const key = order.replace(/^-/, "");
    this.column = columns.find(c => c.key === key) ?? columns.find(c => c.key === "state");
    this.page = Math.max(1, Number.parseInt(query.get("page") ?? "1", 10) || 1);
    this.open = new Set(query.getAll("open").slice(-mostOpen));
  }

  // set changes the view, writes it to the URL and shows it.
  set(change) {
    Object.assign(this, change);
    if (!("page" in change) && !("open" in change)) this.page = 1;
    const query = new URLSearchParams();
    if (this.states.size > 0) query.set("state", [...this.states].join(","));
    if (this.search) query.set("q", this.search);
    const order = (this.descending ? "-" : "") + this.column.key;
    if (order !== "state") query.set("sort", order);
    if (this.page > 1) query.set("page", this.page);
    for (const name of this.open) query.append("open", name);
    const hash = query.toString();
    history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
    this.changed();
  }

  toggleState(state) {
    const chosen = new Set(this.states);
    if (!chosen.delete(state)) chosen.add(state);
    this.set({states: chosen});
  }

  toggleOpen(name) {
    const open = new Set(this.open);
    if (!open.delete(name)) open.add(name);
    this.set({open: new Set([...open].slice(-mostOpen))});
  }

  sortBy(column) {
    this.set({column, descending: column === this.column ? !this.descending : Boolean(column.largest)});
  }

  // select returns the consumers that match, in order.
  select(consumers) {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = consumers.filter(c => this.hasState(c) && words.every(word => matches(c, word)));
    const {value} = this.column, sign = this.descending ? -1 : 1;
    return chosen.sort((a, b) => sign * compare(value(a), value(b)) || rank(a) - rank(b) || compare(a.name, b.name));
  }

  hasState(c) {
    return this.states.size === 0 || this.states.has(c.status) || (this.states.has("PENDING") && waits(c));
  }
}

const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;

function matches(c, word) {
  return c.name.includes(word) || c.fixed.text?.includes(word) || note(c).toLowerCase().includes(word);
}
