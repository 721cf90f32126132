// The configuration: which file is in force, and what is wrong with the one on disk.

import {byId, h, setAttribute, setHidden, setText} from "./dom.js";
import {clock, count} from "./format.js";
import {read} from "./poll.js";

const mostNames = 5;

export class ConfigPanel {
  constructor() {
    this.diff = byId("diff");
    this.diff.addEventListener("toggle", () => this.diff.open && this.loadDiff());
    this.shown = ""; // the problems in the document
  }

  show(config, consumers) {
    const panel = byId("config");
    setAttribute(panel, "data-state", config.state);
    setText(panel.querySelector(".badge"), config.state);
    setText(byId("verdict"), verdict(config, consumers));
    setText(panel.querySelector(".path"), config.path);
    this.showProblems(config.problems ?? []);
    const differs = config.sha256 !== config.file_sha256 && config.sha256 !== "";
    setHidden(this.diff, !differs);
    const files = config.sha256 + config.file_sha256;
    if (differs && this.diff.open && files !== this.files) this.loadDiff();
    this.files = files;
  }

  showProblems(problems) {
    const shown = JSON.stringify(problems);
    if (shown === this.shown) return;
    this.shown = shown;
    byId("problems").replaceChildren(...problems.map(p => {
      const place = p.file + (p.line ? `:${p.line}:${p.column}` : "");
      const item = h("li", {}, h("code", {}, place), " ");
      if (p.path) item.append(h("b", {}, p.path), ": ");
      item.append(p.message);
      if (p.hint) item.append(h("span", {className: "hint"}, `hint: ${p.hint}`));
      return item;
    }));
  }

  async loadDiff() {
    const box = this.diff.querySelector("div");
    try {
      const {diff, truncated} = await read("config/diff");
      const rows = (diff || "The file and the configuration in force do not differ in a setting.").replace(/\n$/, "").split("\n");
      if (truncated) rows.push("… the rest is left out");
      box.replaceChildren(h("pre", {tabIndex: 0, "aria-label": "Difference"}, ...rows.map(text => h("span", {className: kind(text)}, text + "\n"))));
    } catch (error) {
      box.replaceChildren(h("p", {className: "muted"}, `The difference is not available: ${error.message}`));
    }
  }
}

function kind(row) {
  if (row.startsWith("+++") || row.startsWith("---") || row.startsWith("@@")) return "place";
  return row.startsWith("+") ? "added" : row.startsWith("-") ? "removed" : "";
}

// verdict says in a sentence which configuration is in force. It names one time only: when
// that configuration was applied.
export function verdict(config, consumers) {
  if (!config.applied_at) return "No configuration is in force yet.";
  const applied = `configuration applied at ${clock(config.applied_at)}`;
  if (config.state === "rejected") return `The file has problems. The ${applied} stays in force.`;
  if (config.state !== "applying") return `The ${applied} is in force.`;
  const moving = consumers.filter(c => c.pending_change || c.status === "STARTING" || c.status === "STOPPING").map(c => c.name);
  const names = moving.slice(0, mostNames).join(", ") + (moving.length > mostNames ? ` and ${count(moving.length - mostNames)} more` : "");
  return `The ${applied} is in force. ${names ? `Not converged yet: ${names}.` : "Not every consumer has converged yet."}`;
}
