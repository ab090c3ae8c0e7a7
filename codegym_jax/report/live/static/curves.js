// The first page: where each run stands, and curves of any metric, several runs over one another.

import { ask, rows } from "./api.js";
import { changed, link, query } from "./address.js";
import { Chart } from "./chart.js";
import { el, words } from "./dom.js";
import { card } from "./run_card.js";

const FIRST = ["train/reward", "train/success", "train/pass_at/8", "train/entropy", "train/calls_per_episode", "train/signal_share",
  "train/grad_norm", "train/tokens_per_second", "train/step_s", "sft/loss", "control/loss"];
const HEAD = new Set(["stage", "step", "wall_s"]);
const FACTS_MS = 5000;

export async function curves(site, go) {
  const asked = query().getAll("run").filter((run) => site.runs.includes(run));
  const page = new Curves(site, go, asked.length ? asked : site.runs);
  await page.load();
  return page;
}

class Curves {
  constructor(site, go, runs) {
    Object.assign(this, { site, go, runs, charts: new Map(), data: new Map(), title: "Curves" });
    this.cards = el("section", { class: "cards", "aria-label": "Runs" });
    this.grid = el("section", { class: "grid", "aria-label": "Curves" });
    this.list = el("div", { class: "metric-list" });
    this.nodes = [this.cards, el("div", { class: "with-side" }, this.side(), this.grid)];
    this.timer = setInterval(() => this.facts().catch(() => {}), FACTS_MS);
  }

  close() {
    clearInterval(this.timer);
    this.charts.forEach((chart) => chart.close());
  }

  get weight() { return Number(query().get("smooth") ?? 0.6); }

  get metrics() {
    const asked = query().get("metrics");
    if (asked !== null) return asked.split(",").filter(Boolean);
    const there = FIRST.filter((name) => this.known.has(name));
    return there.length ? there : [...this.known].slice(0, 6);
  }

  async load() {
    await Promise.all([this.read(), this.facts()]);
    this.draw();
  }

  async read() {
    await Promise.all(this.runs.map(async (run) => this.data.set(run, await rows(run))));
    this.known = new Set([...this.data.values()].flatMap((all) => {
      const found = new Set();
      for (const row of all) for (const name in row) if (!HEAD.has(name)) found.add(`${row.stage}/${name}`);
      return [...found];
    }));
  }

  async facts() {
    const facts = await Promise.all(this.runs.map((run) => ask("facts", { run })));
    this.cards.replaceChildren(...facts.map((fact, at) => card(this.runs[at], fact, this.site, this.color(at))));
  }

  async update(before, live) {
    const moved = this.runs.some((run) => before[run]?.rows !== live[run].rows || before[run]?.generation !== live[run].generation);
    if (!moved) return;
    await Promise.all([this.read(), this.facts()]);
    this.draw();
  }

  color(at) { return this.runs.length > 1 ? `var(--c${(at % 8) + 1})` : "var(--c1)"; }

  draw() {
    const names = this.metrics;
    this.choose(names);
    for (const [name, chart] of this.charts) if (!names.includes(name)) { chart.close(); this.charts.delete(name); }
    const nodes = names.map((name) => {
      if (!this.charts.has(name)) this.charts.set(name, new Chart(label(name), ...this.about(name)));
      const chart = this.charts.get(name);
      chart.update(this.lines(name), this.weight);
      return chart.node;
    });
    if (nodes.length !== this.grid.children.length || nodes.some((node, at) => node !== this.grid.children[at]))
      this.grid.replaceChildren(...nodes);
    if (!nodes.length) this.grid.replaceChildren(el("p", { class: "missing" }, this.known.size ? "Choose a metric." : "No metrics yet; they appear here as they are written."));
  }

  lines(name) {
    const [stage, metric] = split(name);
    return this.runs.map((run, at) => {
      const there = this.data.get(run).filter((row) => row.stage === stage && metric in row);
      return { label: run, color: this.color(at), steps: there.map((row) => row.step), values: there.map((row) => row[metric]) };
    }).filter((line) => line.steps.length);
  }

  about(name) {
    const metric = split(name)[1];
    const found = this.site.metrics.find((one) => one.name === metric) ?? this.site.metrics.find((one) => one.name.includes("<") && metric.startsWith(one.name.split("<")[0]));
    return [found?.unit ?? "", (found?.meaning ?? "").replaceAll("`", "")];
  }

  side() {
    const smooth = el("input", { type: "range", id: "smooth", min: 0, max: 0.98, step: 0.02, value: this.weight, "aria-label": "Smoothing" });
    smooth.addEventListener("input", () => {
      history.replaceState(null, "", link("/", changed({ smooth: smooth.value })));
      this.draw();
    });
    this.find = el("input", { type: "search", id: "find-metric", placeholder: "Find a metric", "aria-label": "Find a metric" });
    this.find.addEventListener("input", () => this.choose(this.metrics));
    const runs = this.site.runs.length > 1 ? el("fieldset", {}, el("legend", {}, "Runs"), this.site.runs.map((run) => this.runBox(run))) : null;
    return el("aside", { class: "side" }, runs, el("label", { class: "smooth" }, "Smoothing", smooth), this.find, this.list);
  }

  runBox(run) {
    const at = this.runs.indexOf(run);
    const box = el("input", { type: "checkbox", checked: at >= 0, value: run });
    box.addEventListener("change", () => {
      const wanted = this.site.runs.filter((one) => (one === run ? box.checked : this.runs.includes(one)));
      this.go(link("/", changed({ run: wanted })), { replace: true });
    });
    return el("label", { class: "choice" }, box, at >= 0 && el("i", { class: "swatch", vars: { background: this.color(at) } }), el("span", {}, run));
  }

  // The list to choose from; it is made anew only when it would change.
  choose(names) {
    const part = this.find.value.toLowerCase();
    const key = JSON.stringify([names, part, this.known.size]);
    if (key === this.listed) return;
    this.listed = key;
    const stages = Map.groupBy([...this.known].filter((name) => label(name).toLowerCase().includes(part)).sort(), (name) => split(name)[0]);
    const order = ["train", ...[...stages.keys()].filter((stage) => stage !== "train")];
    this.list.replaceChildren(...order.filter((stage) => stages.has(stage)).map((stage) =>
      el("fieldset", {}, el("legend", {}, this.site.stages[stage] ?? stage), stages.get(stage).map((name) => this.metricBox(name, names)))));
  }

  metricBox(name, names) {
    const box = el("input", { type: "checkbox", checked: names.includes(name), value: name });
    box.addEventListener("change", () => {
      const wanted = box.checked ? [...this.metrics, name] : this.metrics.filter((one) => one !== name);
      history.replaceState(null, "", link("/", changed({ metrics: wanted.join(",") || "," })));
      this.draw();
    });
    return el("label", { class: "choice" }, box, el("span", {}, words(split(name)[1])));
  }

  key(name) {
    if (name === "/") return this.find.focus(), true;
    return false;
  }
}

function split(name) {
  const at = name.indexOf("/");
  return [name.slice(0, at), name.slice(at + 1)];
}

function label(name) {
  const [stage, metric] = split(name);
  return stage === "train" ? words(metric) : `${words(metric)} (${stage})`;
}
