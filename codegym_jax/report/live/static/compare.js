// Attempts side by side, turn by turn; each is held against the first, and marked where it first goes another way.

import { ask } from "./api.js";
import { changed, link, query } from "./address.js";
import { el, shown, title, whole, words } from "./dom.js";
import { exchange, verdict, where } from "./episode.js";
import { keys } from "./episodes.js";

const WORDS = /\w+|\W/gu;

export async function compare(site, go) {
  const run = query().get("run") ?? site.runs[0];
  const found = await ask("compare", { run, id: query().get("id") ?? "", ids: query().get("ids") ?? "" });
  if (!found.columns.length) throw new Error("None of these episodes is in this run.");
  const { columns } = found;
  const length = Math.max(...columns.map((column) => column.turns.length));
  const rows = Array.from({ length }, (_, at) => el("tr", {}, el("th", { scope: "row" }, at + 1), columns.map((column) => cell(column, columns[0], at))));
  const table = el("table", { class: "compared" }, el("thead", {}, el("tr", {}, el("th", {}), columns.map((column, at) => head(column, at, columns, run)))), el("tbody", {}, rows));
  const back = link("/episode", { run, id: columns[0].id });
  const envs = new Set(columns.map((column) => column.env));
  return {
    title: "Side by side",
    nodes: [
      el("nav", { class: "steps" }, el("a", { href: back }, "← the first of them")),
      el("h1", {}, envs.size === 1 ? shown(title(columns[0].env)) : "Episodes", el("small", {}, ` ${columns.length} side by side`)),
      el("p", { class: "note" }, summary(columns), found.left_out ? ` ${found.left_out} more are left out.` : ""),
      el("div", { class: "scroll" }, table),
      el("p", { class: "keys" }, keys("u"), " back"),
    ],
    key(name) { if (name !== "u") return false; go(back); return true; },
  };
}

function summary(columns) {
  const apart = columns.slice(1).filter((column) => column.differs !== null).map((column) => column.differs);
  if (!apart.length) return "All of them are the same, turn by turn.";
  const first = Math.min(...apart);
  return `The same up to turn ${first}; the first difference is in turn ${first + 1}. Marked is where each leaves the first column.`;
}

function head(column, at, columns, run) {
  const others = [column.id, ...columns.map((one) => one.id).filter((id) => id !== column.id)];
  return el("th", { scope: "col", "data-id": column.id },
    el("a", { href: link("/episode", { run, id: column.id }) }, `attempt ${column.attempt}`), " ", el("small", {}, where(column)),
    el("div", {}, verdict(column), " ", el("small", {}, `${words(column.stop)}, ${whole(column.tokens)} tokens`)),
    at === 0 ? el("small", { class: "base" }, "held against") : el("a", { class: "base", href: link("/compare", changed({ ids: others.join(",") })) }, "hold against this"));
}

function cell(column, base, at) {
  const turn = column.turns[at];
  const parts = column.differs === at ? "differs" : column.differs !== null && at > column.differs ? "after" : "";
  if (!turn) return el("td", { class: `${parts} ended` }, column.differs === at ? "ended here" : "");
  const other = column.differs === at && column !== base ? base.turns[at] : null;
  return el("td", { class: parts }, exchange(turn, (text, name) => (other ? difference(text, other[name]) : shown(text))));
}

// The text with what lies between the common beginning and the common end marked.
export function difference(text, other) {
  if (text === other) return shown(text);
  const [mine, theirs] = [text.match(WORDS), other.match(WORDS)].map((found) => found ?? []);
  let begin = 0, end = 0;
  while (begin < mine.length && begin < theirs.length && mine[begin] === theirs[begin]) begin++;
  while (end < mine.length - begin && end < theirs.length - begin && mine.at(-1 - end) === theirs.at(-1 - end)) end++;
  const part = (from, to) => shown(mine.slice(from, to).join(""));
  return [part(0, begin), el("mark", {}, part(begin, mine.length - end)), part(mine.length - end, mine.length)];
}
