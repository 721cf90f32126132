// The page that stays open: it polls the agent, and updates in place what has changed.

import {columns} from "./columns.js";
import {ConfigPanel} from "./config.js";
import {byId, h, setAttribute, setDisabled, setHidden, setText} from "./dom.js";
import {age, clock, count, now} from "./format.js";
import {History} from "./history.js";
import {EndedPanel, ThreadPanel} from "./panels.js";
import {Poller, read} from "./poll.js";
import {setIcon, setTitle, Summary} from "./summary.js";
import {Table} from "./table.js";
import {pageSize, View} from "./view.js";

// The values of liveFields change all the time, the values of fixedFields only with an edit.
const liveFields = ["agent", "config", "terminated", ...[
  "id", "name", "status", "status_since", "lag", "lag_seconds", "catch_up_seconds", "records_per_second", "records_total",
  "last_error", "pending_change",
].map(field => "consumers." + field)].join();
const fixedFields = ["name", "id", "group", "sink", "cluster", "topics", "topics_regex"].map(field => "consumers." + field).join();
const fixedInterval = 60000; // topics that match a pattern change without an edit

let status = null; // the last one
let consumers = []; // all of them, in the order of the file
let fixed = new Map(); // by name: what only an edit changes
let fixedFor = "", fixedAt = 0;

const samples = new History();
const view = new View(render);
const summary = new Summary(view);
const configuration = new ConfigPanel();
const ended = new EndedPanel();
const threads = new ThreadPanel();
let table = null; // from the first response on; the content from the server stays until then
const headers = new Map();

async function update() {
  const next = await read("status?fields=" + liveFields);
  const edition = next.config.sha256 + next.consumers.map(c => c.id + (c.pending_change ? "!" : "")).join();
  if (edition !== fixedFor || Date.now() - fixedAt > fixedInterval) {
    const {consumers: rows} = await read("status?fields=" + fixedFields);
    fixed = new Map(rows.map(c => [c.name, {...c, text: searchText(c)}]));
    [fixedFor, fixedAt] = [edition, Date.now()];
  }
  const start = performance.now();
  accept(next);
  performance.measure("update", {start}); // for the benchmark
  performance.clearMeasures("update"); // the page stays open for weeks
  await Promise.all(table.details.map(detail => detail.refresh()));
  await threads.refresh(next.terminated ?? []).catch(() => {}); // the consumers are current all the same
}

const searchText = c => [c.group, c.sink, c.cluster, c.topics_regex ?? "", ...c.topics].join("\n").toLowerCase();

function accept(next) {
  if (reloads(next.agent.version)) return;
  status = next;
  consumers = next.consumers;
  for (const c of consumers) c.fixed = fixed.get(c.name) ?? {};
  samples.push(Date.now(), consumers);
  table ??= new Table(byId("consumers"), name => view.toggleOpen(name));
  setHidden(byId("stale"), true);
  document.body.classList.toggle("is-stale", false);
  render();
}

function render() {
  if (!table) return;
  const selected = view.select(consumers);
  const pages = Math.max(1, Math.ceil(selected.length / pageSize));
  const page = view.page = Math.min(view.page, pages), first = (page - 1) * pageSize;
  table.show(selected.slice(first, first + pageSize), view.open, samples);
  for (const detail of table.details) if (!detail.id) detail.refresh();
  summary.show(status, consumers, threads.zombies);
  configuration.show(status.config, consumers);
  ended.show(status.terminated ?? []);
  showControls(selected.length, page, pages);
  const {agent} = status;
  setText(byId("agent"), `${agent.version} on ${agent.hostname}, process ${agent.pid}, up ${age(agent.started_at)}`);
  setText(byId("updated"), `as of ${clock(now())}`);
}

function showControls(selected, page, pages) {
  const first = (page - 1) * pageSize, last = Math.min(selected, first + pageSize);
  const of = selected < consumers.length ? `${count(selected)} that match, ${count(consumers.length)} in all` : count(consumers.length);
  const none = consumers.length === 0 ? "no consumers" : `no consumer matches, ${count(consumers.length)} in all`;
  setText(byId("range"), selected === 0 ? none : `${count(first + 1)} to ${count(last)} of ${of}`);
  setHidden(byId("pages"), pages === 1);
  setDisabled(byId("previous"), page === 1);
  setDisabled(byId("next"), page === pages);
  for (const [column, header] of headers) {
    setAttribute(header, "aria-sort", column !== view.column ? "none" : view.descending ? "descending" : "ascending");
  }
  const order = byId("order");
  if (order.value !== view.column.key) order.value = view.column.key;
  const search = byId("search");
  if (document.activeElement !== search && search.value !== view.search) search.value = view.search;
}

// reloads loads the page again if it came from another version of the agent, at most once
// in a minute, because two versions may be behind one address.
function reloads(version) {
  if (version === document.documentElement.dataset.version) return false;
  const last = Number(sessionStorage.getItem("reloaded") ?? 0);
  if (Date.now() - last < 60000) return false;
  sessionStorage.setItem("reloaded", String(Date.now()));
  location.reload();
  return true;
}

// failed marks the page as stale after two failures in a row: a single one may be transient.
function failed(error, failures) {
  if (failures < 2) return;
  const banner = byId("stale");
  const since = samples.last ? clock(samples.last) : "the page was loaded";
  setText(banner, `The agent has not responded since ${since}: ${error.message}. Everything below is as of then.`);
  setHidden(banner, false);
  document.body.classList.toggle("is-stale", true);
  setTitle("no response", status?.agent.hostname ?? location.host);
  setIcon("stale");
}

function wire() {
  for (const column of columns) {
    const header = document.querySelector(`thead th[data-key="${column.key}"]`);
    const button = h("button", {type: "button"}, column.title);
    button.addEventListener("click", () => view.sortBy(column));
    header.replaceChildren(button);
    headers.set(column, header);
    byId("order").append(h("option", {value: column.key}, column.title));
  }
  byId("order").addEventListener("change", event => view.sortBy(columns.find(c => c.key === event.target.value)));
  const search = byId("search");
  search.value = view.search;
  search.addEventListener("input", () => view.set({search: search.value.trim()}));
  document.querySelector(".skip").addEventListener("click", event => {
    event.preventDefault(); // the fragment is the view
    byId("consumers").focus();
  });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  addEventListener("keydown", event => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.target.matches("input, select, textarea")) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      view.set({search: ""});
    }
  });
  setHidden(byId("controls"), false);
  setHidden(byId("panels"), false);
}

function turn(by) {
  view.set({page: view.page + by});
  byId("consumers").scrollIntoView({block: "start"});
}

wire();
new Poller(update, failed).now();
