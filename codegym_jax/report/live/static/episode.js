// One episode: what the policy was asked, wrote and read; as turns, or as tokens.

import { ask } from "./api.js";
import { changed, chosen, link, query } from "./address.js";
import { config, el, number, shown, spelled, title, whole, words } from "./dom.js";
import { keys } from "./episodes.js";
import { tokens } from "./tokens.js";

export async function episode(site, go) {
  const run = query().get("run") ?? site.runs[0];
  const found = await ask("episode", { ...chosen(), run, id: query().get("id") ?? "" });
  const view = query().get("view") === "tokens" ? "tokens" : "turns";
  const at = (id) => (id === null ? null : link("/episode", changed({ id })));
  const [previous, next] = [at(found.around.previous), at(found.around.next)];
  const back = link("/episodes", { ...chosen(), run });
  const compared = link("/compare", { run, id: found.id });
  const moves = {
    j: next, k: previous, u: back, c: compared,
    t: link("/episode", changed({ view: view === "tokens" ? "" : "tokens" })),
  };
  const body = view === "tokens" ? tokens(found, go) : turns(found);
  return {
    title: spelled(`${title(found.env)}, ${where(found)}`),
    nodes: [
      el("nav", { class: "steps" }, el("a", { href: back }, "← all that pass the filters"),
        el("span", {}, previous ? el("a", { href: previous, rel: "prev" }, "‹ previous") : el("span", { class: "off" }, "‹ previous"),
          next ? el("a", { href: next, rel: "next" }, "next ›") : el("span", { class: "off" }, "next ›"))),
      el("div", { class: "with-side right" }, el("article", { class: "episode" }, heading(found), tabs(view), body), aside(found, run, compared)),
      el("p", { class: "keys" }, keys("j"), " next  ", keys("k"), " previous  ", keys("t"), " turns or tokens  ", keys("c"), " compare  ", keys("u"), " back to the list"),
    ],
    key(name) {
      if (!moves[name]) return false;
      go(moves[name]);
      return true;
    },
  };
}

export const where = (one) => (one.stage === "train" ? `step ${whole(one.step)}` : `${words(one.stage)}, ${words(one.split)}, ${one.mode}`);
export const verdict = (one) => el("span", { class: one.reward >= 1 ? "mark solved" : one.reward > 0 ? "mark part" : "mark failed" }, `reward ${number(one.reward)}`);

function heading(found) {
  return el("header", {},
    el("h1", {}, shown(title(found.env)), " ", verdict(found), " ", el("span", { class: found.stop === "done" ? "mark" : "mark failed" }, spelled(words(found.stop)))),
    el("p", { class: "note" }, shown(found.env), ` · ${where(found)} · attempt ${found.attempt} · policy after ${whole(found.version)} updates · ${whole(found.tokens)} tokens`),
    el("p", { class: "hidden" }, el("span", { class: "label" }, "Hidden config "), el("code", {}, shown(config(found.task)))),
    found.prompt ? el("details", {}, el("summary", {}, "Prompt"), el("pre", {}, shown(found.prompt))) : null);
}

function tabs(view) {
  const tab = (name, text) => el("a", { href: link("/episode", changed({ view: name === "turns" ? "" : name })), "aria-current": view === name ? "page" : null }, text);
  return el("nav", { class: "tabs" }, tab("turns", "Turns"), tab("tokens", "Tokens"));
}

function turns(found) {
  return el("ol", { class: "turns" }, found.turns.map((turn) => el("li", {}, exchange(turn))));
}

// A message and what came back; `marks` gives the nodes of a text in place of plain ones.
export function exchange(turn, marks = (text) => shown(text)) {
  return [
    turn.call ? el("div", { class: "call", title: "the call as it was sent" }, el("b", {}, shown(turn.call.tool)), "(",
      turn.call.parameters.map(([name, value], at) => [at ? ", " : "", el("span", { class: "name" }, shown(name), "="), shown(value)]), ")") : el("div", { class: "call none" }, "no call"),
    el("pre", { class: "message" }, marks(turn.message, "message")),
    turn.observation ? el("pre", { class: turn.error ? "back error" : "back" }, marks(turn.observation, "observation")) : null,
    turn.error ? el("span", { class: "chip" }, words(turn.error)) : null,
  ];
}

function aside(found, run, compared) {
  const { group, elsewhere } = found.attempts;
  const one = (other) => el("li", {}, el("a", { href: link("/episode", changed({ id: other.id })), "aria-current": other.id === found.id ? "true" : null },
    el("i", { class: other.reward >= 1 ? "dot solved" : other.reward > 0 ? "dot part" : "dot failed" }), `attempt ${other.attempt}`), el("small", {}, ` ${number(other.reward)}, ${other.turns} turns`));
  const other = (row) => el("li", {}, el("a", { href: link("/episode", changed({ id: row.id })) },
    el("i", { class: row.reward >= 1 ? "dot solved" : row.reward > 0 ? "dot part" : "dot failed" }), where(row)), el("small", {}, ` ${number(row.reward)}`));
  return el("aside", { class: "side" },
    el("h2", {}, `${group.length === 1 ? "One attempt" : `${group.length} attempts`} at this task`), el("ul", { class: "attempts" }, group.map(one)),
    group.length > 1 ? el("a", { class: "button", href: compared }, "Side by side") : null,
    elsewhere.length ? [el("h2", {}, "The same task elsewhere"), el("ul", { class: "attempts" }, elsewhere.slice(0, 24).map(other)),
      el("a", { class: "button", href: link("/compare", { run, id: found.id, ids: [found, ...elsewhere.slice(0, 7)].map((row) => row.id).join(",") }) }, "Compare with these")] : null);
}
