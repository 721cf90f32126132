// The summary of all consumers: the chips with the number of consumers by state, the title and
// the icon of the page, and the announcement for screen readers.

import {states, waits} from "./columns.js";
import {byId, h, setAttribute, setHidden, setText} from "./dom.js";
import {count} from "./format.js";

export class Summary {
  constructor(view) {
    this.view = view;
    this.chips = new Map();
    const all = this.chip("all", () => view.set({states: new Set()}));
    byId("chips").replaceChildren(all, ...states.map(state => this.chip(state, () => view.toggleState(state))));
  }

  chip(state, click) {
    const name = state === "all" ? "All" : state === "PENDING" ? "pending change" : state;
    const number = h("b");
    const node = h("button", {type: "button", className: `chip ${state}`}, h("span", {className: "dot", "aria-hidden": "true"}), `${name} `, number);
    node.addEventListener("click", click);
    this.chips.set(state, {node, number});
    return node;
  }

  show(status, consumers, zombies) {
    const counts = new Map([["all", consumers.length], ["PENDING", consumers.filter(waits).length]]);
    for (const c of consumers) counts.set(c.status, (counts.get(c.status) ?? 0) + 1);
    for (const [state, {node, number}] of this.chips) {
      const n = counts.get(state) ?? 0;
      const pressed = state === "all" ? this.view.states.size === 0 : this.view.states.has(state);
      setText(number, count(n));
      setAttribute(node, "aria-pressed", String(pressed));
      setHidden(node, n === 0 && !pressed && state !== "all");
    }
    const spoken = states.filter(s => counts.get(s)).map(s => `${count(counts.get(s))} ${s === "PENDING" ? "pending changes" : s}`);
    setText(byId("live"), `Configuration ${status.config.state}. ${spoken.join(", ") || "No consumers"}`);
    this.titleAndIcon(status, counts, consumers.some(c => c.pending_change?.error), zombies);
  }

  titleAndIcon({agent, config}, counts, failedChange, zombies) {
    const errors = counts.get("ERROR") ?? 0, problems = [];
    if (config.state === "rejected") problems.push("rejected");
    if (errors > 0) problems.push(`${errors} ERROR`);
    if (zombies > 0) problems.push(zombies === 1 ? "1 zombie" : `${zombies} zombies`);
    const moving = config.state === "applying" || failedChange;
    const state = problems.join(", ") || (moving ? "applying" : "");
    setTitle(state, agent.hostname);
    setIcon(problems.length > 0 ? "error" : moving ? "change" : "ok");
  }
}

export function setTitle(state, host) {
  const title = (state ? `(${state}) ` : "") + `kcagent ${host}`;
  if (document.title !== title) document.title = title;
}

export function setIcon(name) {
  setAttribute(byId("icon"), "href", `assets/${name}.svg`);
}
