// One metric of one stage by step: a line for each run, smoothed over its own pale raw line.

import { el, number, svg } from "./dom.js";

const WIDTH = 460, HEIGHT = 190, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 22;
const all = new Set(); // charts on the page: they point at the same step together

// An exponential mean that begins at the first value; `weight` is the past's, from 0 to less than 1.
export function smoothed(values, weight) {
  let mean = 0, mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

// Three to five round numbers that span the values.
export function ticks(low, high) {
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const rough = (high - low) / 4;
  const base = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * base >= rough) * base;
  const first = Math.floor(low / step + 1e-9) * step, found = [];
  for (let at = 0; found.length === 0 || found.at(-1) < high - 1e-9 * step; at++) found.push(Number((first + at * step).toPrecision(12)));
  return found;
}

const tick = (value) => (Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-4) ? value.toExponential(1) : value.toLocaleString("en-US", { maximumSignificantDigits: 6 }));

export class Chart {
  constructor(name, unit, meaning) {
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${name} by step` });
    this.legend = el("ul", { class: "legend" });
    const note = unit && unit !== "1" ? ` (${unit})` : "";
    this.last = el("span", { class: "trend" });
    this.node = el("figure", { "data-chart": name },
      el("figcaption", {}, el("b", {}, name), this.last, el("span", { class: "note" }, `${meaning}${note}`)), this.picture, this.legend);
    this.picture.addEventListener("pointermove", (event) => this.hover(event));
    this.picture.addEventListener("pointerleave", () => all.forEach((chart) => chart.point(null)));
    all.add(this);
  }

  close() { all.delete(this); }

  // lines: [{label, color, steps, values}], values with null where there is none.
  update(lines, weight) {
    this.lines = lines.map((line) => ({ ...line, smooth: smoothed(line.values, weight) }));
    const values = this.lines.flatMap((line) => line.values).filter((value) => value !== null);
    const steps = this.lines.flatMap((line) => line.steps);
    this.steps = [steps.reduce((a, b) => Math.min(a, b), Infinity), steps.reduce((a, b) => Math.max(a, b), -Infinity)];
    const marks = values.length ? ticks(values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))) : [0, 1];
    this.range = [marks[0], marks.at(-1)];
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.picture.replaceChildren(...this.axes(marks), ...this.lines.flatMap((line) => this.paths(line, weight)), this.cursor);
    this.node.dataset.points = String(values.length);
    this.point(null);
  }

  x(step) { const [a, b] = this.steps; return LEFT + ((WIDTH - LEFT - RIGHT) * (step - a)) / (b - a || 1); }
  y(value) { const [a, b] = this.range; return HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value - a)) / (b - a || 1); }

  axes(marks) {
    const rules = marks.flatMap((mark) => [
      svg("line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: this.y(mark), y2: this.y(mark) }),
      svg("text", { class: "tick", x: LEFT - 6, y: this.y(mark) + 3.5, "text-anchor": "end" }, tick(mark)),
    ]);
    const [first, last] = this.steps;
    const ends = Number.isFinite(first) ? [...new Set([first, last])] : [];
    return [...rules, ...ends.map((step, at) =>
      svg("text", { class: "tick", x: this.x(step), y: HEIGHT - 6, "text-anchor": at ? "end" : "start" }, number(step)))];
  }

  paths(line, weight) {
    const draw = (values, kind) => svg("path", { class: kind, d: this.d(line.steps, values), vars: { stroke: line.color } });
    const dot = line.values.length === 1 ? [svg("circle", { class: "only", cx: this.x(line.steps[0]), cy: this.y(line.values[0] ?? 0), r: 3, vars: { fill: line.color } })] : [];
    return [...(weight > 0 ? [draw(line.values, "raw")] : []), draw(line.smooth, "line"), ...dot];
  }

  d(steps, values) {
    let path = "", pen = "M";
    values.forEach((value, at) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${this.x(steps[at]).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = "L";
    });
    return path;
  }

  hover(event) {
    const box = this.picture.getBoundingClientRect();
    const [first, last] = this.steps;
    const share = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    const step = Math.round(first + Math.min(Math.max(share, 0), 1) * (last - first));
    all.forEach((chart) => chart.point(step));
  }

  // Tells the values at a step, or the last ones.
  point(step) {
    if (!this.lines) return;
    const inside = step !== null && step >= this.steps[0] && step <= this.steps[1];
    this.cursor.setAttribute("visibility", inside ? "visible" : "hidden");
    if (inside) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(step));
    const told = this.lines.map((line) => {
      const at = inside ? line.steps.findIndex((one) => one >= step) : line.steps.length - 1;
      return [line, at < 0 ? null : line.smooth[at], at < 0 ? null : line.steps[at]];
    });
    this.last.textContent = told.length === 1 ? number(told[0][1]) + (inside ? ` at ${told[0][2]}` : "") : inside ? `step ${step}` : "";
    this.legend.replaceChildren(...(told.length > 1 ? told.map(([line, value]) =>
      el("li", {}, el("i", { vars: { background: line.color } }), `${line.label} `, el("b", {}, number(value)))) : []));
  }
}
