// The columns of the table: what each shows, and how it sorts.

import {age, count, rate, span} from "./format.js";

// States by urgency, as StatesByUrgency in agent/web/status.go. PENDING stands for a pending
// change.
export const states = ["ERROR", "PENDING", "STOPPING", "STARTING", "RUNNING", "PAUSED", "CREATED"];

const ranks = new Map(states.map((state, i) => [state, i]));

// waits reports whether the consumer has a pending change. The chip PENDING selects by it.
export const waits = c => Boolean(c.pending_change);

// rank is the position of a consumer in the order by urgency. A consumer whose pending change has
// failed its pre-check comes directly after those in ERROR.
export function rank(c) {
  if (c.status !== "ERROR" && c.pending_change?.error) return ranks.get("PENDING");
  return ranks.get(c.status) ?? 0;
}

const number = key => c => c[key] ?? -1;

// Each column: its key and title; the value it sorts by; the text of its cell; whether it
// sorts the largest value first.
export const columns = [
  {key: "name", title: "Consumer", value: c => c.name},
  {key: "state", title: "State", value: rank, text: c => c.status},
  {key: "since", title: "Since", numeric: true, value: c => Date.parse(c.status_since), text: c => age(c.status_since), largest: true},
  {key: "lag", title: "Lag", numeric: true, value: number("lag"), text: c => count(c.lag), largest: true, chart: "lag"},
  {key: "lagtime", title: "Lag time", numeric: true, value: number("lag_seconds"), text: c => span(c.lag_seconds), largest: true},
  {key: "catchup", title: "Catch-up", numeric: true, value: number("catch_up_seconds"), text: c => span(c.catch_up_seconds), largest: true},
  {key: "rate", title: "Records/s", numeric: true, value: number("records_per_second"), text: c => rate(c.records_per_second), largest: true, chart: "rate"},
  {key: "records", title: "Records", numeric: true, value: number("records_total"), text: c => count(c.records_total), largest: true},
  {key: "group", title: "Group", value: c => c.fixed.group ?? "", text: c => c.fixed.group ?? ""},
  {key: "sink", title: "Sink", value: c => c.fixed.sink ?? "", text: c => c.fixed.sink ?? ""},
];

// note returns the line below a consumer: its error or its pending change.
export function note(c) {
  if (c.last_error) return c.last_error;
  const p = c.pending_change;
  if (!p) return "";
  return `${p.action} of ${p.fields.join(", ")} is pending: ${p.error || "the pre-check is in progress"}`;
}
