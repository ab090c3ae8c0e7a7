// The tokens of an episode: whose each one is, and how likely it was when it was drawn.

import { changed, link, query } from "./address.js";
import { el, shown } from "./dom.js";

const KINDS = { prompt: "Prompt", policy: "Policy", observation: "Observation" };
const COLORS = { policy: "log p of the policy", sampler: "log p as sampled", difference: "policy − sampler" };
const FULL = Math.log(1000); // as dark as it gets: one in a thousand, or a difference of a factor of e
const COMMON = 5e-3;

export function tokens(found, go) {
  const by = query().get("color") in COLORS ? query().get("color") : "policy";
  const choose = el("select", { id: "color", "aria-label": "Color by", onchange: (event) => go(link("/episode", changed({ color: event.target.value })), { replace: true }) },
    Object.entries(COLORS).map(([value, text]) => el("option", { value, selected: value === by }, text)));
  let place = 0;
  const stretches = found.stretches.map((stretch) => {
    const spans = stretch.tokens.map((token) => one(token, stretch.kind, place++, by));
    const sum = stretch.tokens.reduce((total, token) => total + token[3], 0);
    const note = stretch.kind === "policy" ? `log p ${sum.toFixed(2)}` : `${stretch.tokens.length} tokens`;
    return el("section", { class: `stretch ${stretch.kind}` }, el("h3", {}, KINDS[stretch.kind], el("small", {}, note)), el("pre", {}, spans));
  });
  const box = el("div", { class: `tokens by-${by}` }, el("div", { class: "scale" }, el("label", {}, el("span", { class: "label" }, "Color "), choose), scale(by)), stretches);
  for (const name of ["pointerover", "focusin"]) box.addEventListener(name, tell);
  for (const name of ["pointerout", "focusout"]) box.addEventListener(name, () => { document.getElementById("tip").hidden = true; });
  return box;
}

// How strong the color of a token is, from 0 to 1.
export function heat(sampler, policy, by) {
  if (by === "difference") return Math.min(Math.abs(policy - sampler), 1);
  return Math.min(-(by === "sampler" ? sampler : policy) / FULL, 1);
}

function one([id, text, sampler, policy], kind, place, by) {
  const strength = kind === "policy" ? heat(sampler, policy, by) : 0;
  const data = { "data-id": id, "data-place": place, "data-kind": kind, "data-text": text };
  if (kind === "policy") Object.assign(data, { "data-sampler": sampler, "data-policy": policy });
  return el("span", { class: "token", tabindex: kind === "policy" ? 0 : null, ...data, vars: strength > COMMON ? { "--heat": `${(100 * strength).toFixed(1)}%` } : {} },
    text === "" ? el("span", { class: "hidden-char" }, `#${id}`) : spelled(text));
}

function spelled(text) {
  const lines = text.split("\n");
  return lines.map((line, at) => [at ? [el("i", { class: "feed" }, "↵"), "\n"] : null, shown(line)]);
}

function tell(event) {
  const token = event.target.closest?.(".token");
  const tip = document.getElementById("tip");
  if (!token) return;
  const { id, place, kind, text, sampler, policy } = token.dataset;
  const row = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const odds = (value) => `${Number(value).toFixed(4)} (p ${Math.exp(Number(value)).toPrecision(3)})`;
  tip.replaceChildren(el("b", {}, shown(JSON.stringify(text))), el("dl", {}, row("kind", kind), row("id", id), row("position", place),
    kind === "policy" ? [row("log p, policy", odds(policy)), row("log p, sampled", odds(sampler))] : null));
  tip.hidden = false;
  const box = token.getBoundingClientRect(), mine = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), innerWidth - mine.width - 8);
  const below = box.bottom + 6 + mine.height < innerHeight;
  tip.style.setProperty("left", `${left}px`);
  tip.style.setProperty("top", `${below ? box.bottom + 6 : box.top - mine.height - 6}px`);
}

function scale(by) {
  const marks = by === "difference" ? ["0", "±0.5", "±1 and more"] : ["p = 1", "0.03", "0.001 and less"];
  return el("div", { class: "key" }, el("i", { class: "ramp" }), el("div", {}, marks.map((mark) => el("span", {}, mark))));
}
