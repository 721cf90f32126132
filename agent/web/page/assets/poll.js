// Requests to the agent. All URLs are relative to the page, so that it works behind a
// reverse proxy, and free of credentials, which fetch rejects.

import {setAgentTime} from "./format.js";

const base = location.origin + location.pathname.replace(/[^/]*$/, "");
const timeout = 8000;
const tags = new Map(); // by path: the ETag and the body of the last response

// read requests a path and returns its JSON. If the agent responds that it is unchanged, read
// returns the same object as before.
export async function read(path) {
  const known = tags.get(path);
  const response = await fetch(new URL(path, base), {
    cache: "no-store",
    headers: known ? {"If-None-Match": known.tag} : {},
    signal: AbortSignal.timeout(timeout),
  }).catch(explain);
  if (response.headers.has("Date")) setAgentTime(response.headers.get("Date"));
  if (response.status === 304 && known) return known.body;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `the agent responded with status ${response.status}`);
  const tag = response.headers.get("ETag");
  if (tag) {
    if (tags.size > 20) tags.clear();
    tags.set(path, {tag, body});
  }
  return body;
}

// explain replaces the messages of browsers, which differ and do not name the cause.
function explain(error) {
  throw new Error(error.name === "TimeoutError" ? "it did not respond in time" : "the connection failed");
}

const interval = 2000, hiddenInterval = 20000, longest = 15000;

// Poller calls update periodically: every two seconds while the page is visible, rarely
// while it is hidden, and with a growing pause while it fails.
export class Poller {
  constructor(update, failed) {
    this.update = update;
    this.failed = failed;
    this.failures = 0;
    this.busy = false;
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    addEventListener("online", () => this.now());
  }

  async now() {
    if (this.busy) return;
    clearTimeout(this.timer);
    this.busy = true;
    try {
      await this.update();
      this.failures = 0;
    } catch (error) {
      this.failures++;
      this.failed(error, this.failures);
    }
    this.busy = false;
    this.timer = setTimeout(() => this.now(), this.pause());
  }

  pause() {
    if (this.failures > 0) return Math.min(longest, 500 * 2 ** this.failures);
    return document.hidden ? hiddenInterval : interval;
  }
}
