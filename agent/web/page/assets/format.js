// How numbers and times read.

export const unknown = "–";

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const tenths = new Intl.NumberFormat("en", {minimumFractionDigits: 1, maximumFractionDigits: 1});
const known = n => typeof n === "number" && Number.isFinite(n);

export const count = n => known(n) ? whole.format(n) : unknown;

export const rate = n => !known(n) ? unknown : n === 0 || n >= 100 ? whole.format(n) : tenths.format(n);

export function bytes(n) {
  if (!known(n)) return unknown;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return (unit === "B" || n >= 100 ? whole : tenths).format(n) + " " + unit;
    n /= 1024;
  }
  return tenths.format(n) + " TiB";
}

// span is a number of seconds with one unit.
export function span(seconds) {
  if (!known(seconds)) return unknown;
  const s = Math.max(0, seconds);
  if (s > 0 && s < 1) return "< 1 s";
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " d";
}

// The agent and the browser may have different clocks.
let skew = 0;

export function setAgentTime(date) {
  const difference = Date.parse(date) - Date.now();
  skew = Math.abs(difference) > 2000 ? difference : 0;
}

export const now = () => Date.now() + skew;

export const age = time => time ? span((now() - Date.parse(time)) / 1000) : unknown;

const two = n => String(n).padStart(2, "0");

// clock is a time of day, with the date unless it is today.
export function clock(time) {
  if (!time) return unknown;
  const t = new Date(time);
  const day = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
  const hour = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  return t.toDateString() === new Date().toDateString() ? hour : `${day} ${hour}`;
}

export const since = time => time ? `${clock(time)} (${age(time)} ago)` : unknown;
