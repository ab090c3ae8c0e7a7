// Shows the page that the address asks for, and keeps it up to date.

import { ask } from "./api.js";
import { link, path, query } from "./address.js";
import { compare } from "./compare.js";
import { curves } from "./curves.js";
import { el } from "./dom.js";
import { episode } from "./episode.js";
import { episodes } from "./episodes.js";

const PAGES = { "/": curves, "/episodes": episodes, "/episode": episode, "/compare": compare };
const POLL_MS = 1500;
const site = { live: {} };
let shown = null; // the page that is on: {update, key, close}
let turn = 0;

export function go(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  return show();
}

async function show() {
  const mine = ++turn;
  if (shown?.close) shown.close();
  shown = null;
  delete document.getElementById("main").dataset.shows;
  document.getElementById("tip").hidden = true;
  top();
  const main = document.getElementById("main");
  try {
    const page = await PAGES[path()](site, go);
    if (mine !== turn) return page.close?.();
    main.replaceChildren(...page.nodes);
    shown = page;
    main.dataset.shows = path() + location.search;
    document.title = page.title ? `${page.title} · codegym view` : "codegym view";
    page.shown?.();
    trouble("");
  } catch (error) {
    if (mine === turn) main.replaceChildren(el("p", { class: "missing" }, String(error.message ?? error)));
  }
}

function top() {
  const here = path();
  const run = query().get("run") ?? site.runs[0];
  const tab = (page, name, current) =>
    el("a", { href: link(page, page === "/" ? {} : { run }), "aria-current": current ? "page" : null }, name);
  const runs = site.runs.length > 1 && here !== "/" ? chooser(run) : el("span", { class: "run-name" }, here === "/" && site.runs.length > 1 ? "" : run);
  document.getElementById("top").replaceChildren(
    el("a", { href: "/", class: "brand" }, "codegym", el("b", {}, " view")),
    el("nav", { "aria-label": "Pages" }, tab("/", "Curves", here === "/"), tab("/episodes", "Episodes", here !== "/")),
    runs,
    el("span", { id: "pulse", role: "status" }),
  );
  pulse();
}

function chooser(run) {
  const options = site.runs.map((name) => el("option", { value: name, selected: name === run }, name));
  return el("label", { class: "run-name" }, el("span", { class: "label" }, "Run "),
    el("select", { id: "run", onchange: (event) => go(link("/episodes", { run: event.target.value })) }, options));
}

function pulse() {
  const states = Object.values(site.live);
  const episodes = states.reduce((sum, state) => sum + state.episodes, 0);
  const reading = states.some((state) => !state.up_to_date);
  const damaged = states.reduce((sum, state) => sum + state.damaged, 0);
  const parts = [`${episodes.toLocaleString("en-US")} episodes`];
  if (reading) parts.push("reading…");
  if (damaged) parts.push(`${damaged} damaged lines left out`);
  document.getElementById("pulse").replaceChildren(el("i", { class: reading ? "dot busy" : "dot" }), parts.join(" · "));
}

export function trouble(text) {
  const node = document.getElementById("trouble");
  node.hidden = !text;
  node.textContent = text;
}

async function poll() {
  try {
    const live = await ask("live");
    const before = site.live;
    site.live = live;
    trouble("");
    if (JSON.stringify(before) !== JSON.stringify(live)) {
      pulse();
      await shown?.update?.(before, live);
    }
  } catch (error) {
    trouble(error instanceof TypeError ? "The server does not answer; this page shows what it last said." : error.message);
  }
  setTimeout(poll, POLL_MS);
}

function follow(event) {
  const anchor = event.target.closest?.("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (anchor.origin !== location.origin) return;
  event.preventDefault();
  go(anchor.getAttribute("href")).then(() => window.scrollTo(0, 0));
}

function key(event) {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (shown?.key?.(event.key)) event.preventDefault();
}

addEventListener("popstate", show);
addEventListener("click", follow);
addEventListener("keydown", key);
const [about, live] = await Promise.all([ask("runs"), ask("live")]);
Object.assign(site, about, { live });
await show();
setTimeout(poll, POLL_MS);
