// Where one run stands, in words and figures.

import { bytes, duration, el, number, whole } from "./dom.js";
import { link } from "./address.js";

const STATES = { running: "running", stopped: "stopped", failed: "failed", unknown: "quiet", complete: "complete" };
const SPLITS = { test_config: "unseen configs", test_env: "unseen environments" };

export function card(run, fact, site, color) {
  const { place, life } = fact;
  return el("article", { class: "card", "data-run": run },
    el("h2", {}, site.runs.length > 1 && el("i", { class: "swatch", vars: { background: color } }), el("a", { href: link("/episodes", { run }) }, run),
      el("span", { class: `state ${life.state}`, title: life.because }, STATES[life.state])),
    el("p", { class: "where" }, site.stages[place.stage], place.steps ? ` · ${whole(place.step)} of ${whole(place.steps)}` : "",
      fact.left_s !== null && place.step < place.steps ? ` · ${duration(fact.left_s)} left at ${duration(fact.step_s)} a step` : "",
      el("span", { class: "note" }, ` · ${life.because}`)),
    place.steps ? el("progress", { max: place.steps, value: place.step, "aria-label": "Steps" }) : null,
    el("dl", { class: "figures" }, figures(fact)),
    fact.alarms.length ? el("ul", { class: "alarms" }, fact.alarms.map((text) => el("li", {}, text))) : null);
}

function figures(fact) {
  const rows = [];
  const row = (name, ...value) => rows.push(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  if (fact.rewards.length) row("Reward", number(fact.rewards.at(-1)));
  for (const [split, phases] of Object.entries(fact.success)) row(`Success, ${SPLITS[split] ?? split}`, rates(phases));
  if (fact.played) row("Invalid attempts", `${whole(fact.invalid)}`, el("small", {}, ` of ${whole(fact.played)}`));
  if (fact.checkpoint) row("Checkpoint", checkpoint(fact.checkpoint));
  const used = Object.values(fact.disk).reduce((sum, part) => sum + part, 0);
  row("Disk", bytes(used), el("small", {}, ` ${bytes(fact.free_bytes)} free`));
  return rows;
}

function rates(phases) {
  const told = Object.entries(phases).map(([phase, rate]) => [phase, rate.n ? `${(100 * rate.success).toFixed(1)}%` : "no tasks"]);
  return told.map(([phase, text], at) => [at ? " → " : "", el("span", { class: phase, title: phase }, text)]);
}

function checkpoint(found) {
  const judged = found.damage ? el("span", { class: "bad", title: found.damage }, "damaged") : found.intact ? "intact" : "complete";
  return [`step ${whole(found.step)} `, el("small", {}, judged, `, ${bytes(found.bytes)}, ${duration(found.age_s)} old`)];
}
