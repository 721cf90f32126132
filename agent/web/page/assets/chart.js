// Lines of the last minutes: one SVG path each, drawn for visible rows only.

import {svg} from "./dom.js";

const shortest = 60000; // milliseconds from the left edge to the right, at least
const gap = 45000; // without a sample for so long, the line is interrupted

export class Chart {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.line = svg("path", {class: "line"});
    this.area = svg("path", {class: "area"});
    this.node = svg("svg", {
      class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
    }, this.area, this.line);
    this.drawn = "";
  }

  // draw shows a series and returns its smallest and largest value, null if it has none. A
  // series of one value is a line over the whole width, so that it does not change while
  // time passes.
  draw(history, name, kind) {
    const points = [];
    let min = Infinity, max = -Infinity;
    history.read(name, kind, (time, value) => {
      points.push(time, value);
      if (value < min) min = value;
      if (value > max) max = value;
    });
    let path = "";
    if (min === max) {
      path = `M0 ${this.y(min, max)}H${this.width}`;
    } else if (min < max) {
      path = this.path(points, history.last, Math.max(shortest, history.span), max);
    }
    if (path !== this.drawn) {
      this.drawn = path;
      this.node.classList.toggle("flat", max === 0);
      this.line.setAttribute("d", path);
      this.area.setAttribute("d", path && !path.includes("M", 1) ? this.closed(path) : "");
    }
    return min <= max ? {min, max} : null;
  }

  path(points, last, span, max) {
    let path = "", x = -1, before = 0;
    for (let i = 0; i < points.length; i += 2) {
      const at = Math.round(this.width * (1 - (last - points[i]) / span));
      if (Number.isNaN(points[i + 1])) before = 0;
      if (at === x || Number.isNaN(points[i + 1])) continue;
      path += `${points[i] - before > gap ? "M" : "L"}${at} ${this.y(points[i + 1], max)}`;
      x = at;
      before = points[i];
    }
    return path;
  }

  y(value, max) {
    const share = max > 0 ? value / (max * 1.1) : 0;
    return Math.round((1 + (this.height - 2) * (1 - share)) * 10) / 10;
  }

  closed(path) {
    const start = /^M(\d+)/.exec(path)[1];
    return `${path}V${this.height}H${start}Z`.replace(/H(\d+)V/, "H$1V");
  }
}
