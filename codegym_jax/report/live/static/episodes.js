// The table of episodes: filtered, sorted and paged on the server.

import { ask } from "./api.js";
import { changed, chosen, FILTERS, link, query } from "./address.js";
import { config, el, number, shown, spelled, title, whole, words } from "./dom.js";

const COLUMNS = [
  ["place", "Step"], ["", "Environment"], ["", "Hidden config"], ["reward", "Reward"], ["", "Ended"],
  ["turns", "Turns"], ["errors", "Errors"], ["tokens", "Tokens"], ["logp", "Mean log p"],
];
const CHOICES = [["stage", "Stage"], ["split", "Split"], ["mode", "Sampling"], ["stop", "Ended by"], ["env", "Environment"], ["error", "Tool errors"]];
const RANGES = [["step", "Steps", 1], ["reward", "Reward", "any"]];
const TYPING_MS = 200;

export async function episodes(site, go) {
  const page = new Episodes(site, go, query().get("run") ?? site.runs[0]);
  await page.load();
  return page;
}

class Episodes {
  constructor(site, go, run) {
    Object.assign(this, { site, go, run, picked: new Set(), at: -1, title: `Episodes of ${run}` });
    this.form = el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() });
    this.summary = el("p", { class: "summary", role: "status", id: "summary" });
    this.body = el("tbody");
    this.head = el("tr");
    this.pager = el("nav", { class: "pager", "aria-label": "Pages of the table" });
    this.table = el("table", { class: "episodes" }, el("thead", {}, this.head), this.body);
    this.nodes = [this.form, el("div", { class: "over" }, this.summary, this.pager), el("div", { class: "scroll" }, this.table),
      el("p", { class: "keys" }, keys("j", "k"), " move  ", keys("Enter"), " open  ", keys("x"), " pick  ", keys("c"), " compare  ", keys("/"), " search  ", keys("n"), keys("p"), " page")];
    this.build();
  }

  get asked() { return { ...chosen(), run: this.run }; }
  get page() { return Math.max(1, Number(query().get("page") ?? 1) || 1); }

  async load() {
    this.stop?.abort();
    this.stop = new AbortController();
    const answer = await ask("episodes", { ...this.asked, page: this.page }, this.stop.signal);
    this.found = answer.episodes;
    this.total = answer.total;
    this.choices(answer.facets);
    this.draw();
  }

  close() { clearTimeout(this.typing); this.stop?.abort(); }

  async update(before, live) {
    const told = (state) => [state?.episodes, state?.changes, state?.up_to_date].join();
    if (told(before[this.run]) !== told(live[this.run])) await this.reload();
  }

  async reload() {
    try { await this.load(); } catch (error) {
      if (error.name !== "AbortError") this.summary.textContent = error.message;
    }
  }

  // The filter is changed: the address first, then the table.
  change(changes, replace = false) {
    history[replace ? "replaceState" : "pushState"](null, "", link("/episodes", changed({ run: this.run, page: "", ...changes })));
    this.at = -1;
    this.picked.clear();
    return this.reload();
  }

  build() {
    const now = this.asked;
    const later = (name) => (event) => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.change({ [name]: event.target.value }, true), TYPING_MS);
    };
    const search = el("input", { type: "search", id: "text", value: now.text, placeholder: "Search what the policy wrote and read", "aria-label": "Search transcripts", oninput: later("text") });
    this.selects = CHOICES.map(([name]) => el("select", { id: name, onchange: (event) => this.change({ [name]: event.target.value }) }));
    const box = (end, name, step) => el("input", { type: "number", id: `${end}_${name}`, step, value: now[`${end}_${name}`], "aria-label": `${end} ${name}`, placeholder: end, oninput: later(`${end}_${name}`) });
    this.form.replaceChildren(search,
      ...CHOICES.map(([name, label], at) => el("label", { for: name }, el("span", { class: "label" }, label), this.selects[at])),
      ...RANGES.map(([name, label, step]) => el("div", { class: "range" }, el("span", { class: "label" }, label), el("span", {}, box("from", name, step), box("to", name, step)))),
      this.clear = el("a", { href: link("/episodes", { run: this.run }), class: "clear" }, "Clear"));
  }

  choices(facets) {
    const now = this.asked;
    this.selects.forEach((select, at) => {
      const name = CHOICES[at][0], value = now[name];
      const there = facets[name].some(([one]) => one === value) || !value ? facets[name] : [...facets[name], [value, 0]];
      const option = ([one, number]) => el("option", { value: one, selected: one === value }, `${shownName(name, one)} (${whole(number)})`);
      if (document.activeElement !== select) select.replaceChildren(el("option", { value: "" }, "all"), ...there.map(option));
      select.classList.toggle("set", Boolean(value));
    });
    this.clear.hidden = !FILTERS.some((name) => now[name]);
  }

  draw() {
    const { episodes, reward, turns } = this.total, pages = Math.max(1, Math.ceil(episodes / this.site.page));
    const first = (this.page - 1) * this.site.page;
    const facts = episodes ? ` · mean reward ${number(reward)} · ${number(turns)} turns` : "";
    const task = query().get("task");
    this.summary.replaceChildren(el("b", {}, `${whole(episodes)} episode${episodes === 1 ? "" : "s"}`), facts, task ? " · of one task" : "",
      this.site.live[this.run]?.up_to_date ? "" : " · still reading…");
    this.head.replaceChildren(el("th", {}, ""), ...COLUMNS.map(([by, name]) => el("th", { scope: "col", class: by && by !== "place" ? "figure" : null }, by ? this.sorter(by, name) : name)));
    this.body.replaceChildren(...this.found.map((one, at) => this.row(one, at)));
    if (!episodes) this.body.replaceChildren(el("tr", {}, el("td", { colspan: COLUMNS.length + 1, class: "missing" }, "No episode passes these filters.")));
    const to = (page, name, rel) => page >= 1 && page <= pages ? el("a", { href: link("/episodes", changed({ run: this.run, page: page === 1 ? "" : page })), rel }, name) : el("span", { class: "off" }, name);
    this.pager.replaceChildren(this.compareLink(), episodes ? el("span", { id: "shown" }, `${whole(Math.min(first + 1, episodes))}–${whole(Math.min(first + this.site.page, episodes))}`) : "",
      to(this.page - 1, "‹ previous", "prev"), el("span", {}, `page ${whole(this.page)} of ${whole(pages)}`), to(this.page + 1, "next ›", "next"));
    this.mark();
  }

  sorter(by, name) {
    const now = query().get("sort") || "-place";
    const falling = now === `-${by}`, rising = now === by;
    const next = falling ? by : `-${by}`;
    return el("a", { href: link("/episodes", changed({ run: this.run, sort: next === "-place" ? "" : next, page: "" })), class: falling ? "falling" : rising ? "rising" : null }, name);
  }

  address(one) { return link("/episode", { ...this.asked, id: one.id }); }

  row(one, at) {
    const pick = el("input", { type: "checkbox", "aria-label": "Pick to compare", checked: this.picked.has(one.id) });
    pick.addEventListener("change", () => this.pick(one.id, pick.checked));
    const stage = one.stage === "train" ? el("b", {}, whole(one.step)) : el("span", {}, words(one.stage.replace(/^eval_/, "")), " ", el("small", {}, `${words(one.split)} ${one.mode}`));
    return el("tr", { "data-id": one.id, onclick: (event) => this.open(event, one) },
      el("td", { class: "pick" }, pick),
      el("td", {}, el("a", { href: this.address(one) }, stage), el("small", {}, ` #${one.attempt}`)),
      el("td", { class: "env", title: spelled(one.env) }, shown(title(one.env))),
      el("td", { class: "config" }, el("code", {}, shown(config(one.task).slice(0, 120)))),
      el("td", { class: "figure" }, el("span", { class: one.reward >= 1 ? "mark solved" : one.reward > 0 ? "mark part" : "mark failed" }, number(one.reward))),
      el("td", { class: one.stop === "done" ? null : "bad" }, spelled(words(one.stop))),
      el("td", { class: "figure" }, whole(one.turns)),
      el("td", { class: one.errors ? "figure bad" : "figure quiet", title: spelled(words(one.kinds.replaceAll(",", " ").trim())) }, whole(one.errors)),
      el("td", { class: "figure" }, whole(one.tokens)),
      el("td", { class: "figure" }, number(one.logp)));
  }

  open(event, one) {
    if (event.target.closest("a, input") || getSelection().toString()) return;
    this.go(this.address(one)).then(() => scrollTo(0, 0));
  }

  pick(id, on) {
    if (on) this.picked.add(id); else this.picked.delete(id);
    this.pager.firstChild.replaceWith(this.compareLink());
  }

  compareLink() {
    if (this.picked.size < 2) return el("span", { class: "quiet" }, "");
    return el("a", { class: "button", href: link("/compare", { run: this.run, ids: [...this.picked].join(",") }) }, `Compare ${this.picked.size} picked`);
  }

  mark() {
    [...this.body.children].forEach((row, at) => row.classList.toggle("here", at === this.at));
    this.body.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  key(name) {
    const one = this.found[this.at];
    if (name === "j") this.at = Math.min(this.at + 1, this.found.length - 1);
    else if (name === "k") this.at = Math.max(this.at - 1, 0);
    else if (name === "/") return document.getElementById("text").focus(), true;
    else if (name === "Enter" && one) return this.go(this.address(one)), true;
    else if (name === "x" && one) {
      const box = this.body.children[this.at].querySelector("input");
      box.checked = !box.checked;
      this.pick(one.id, box.checked);
    } else if (name === "c" && (one || this.picked.size > 1)) {
      return this.go(this.picked.size > 1 ? this.compareLink().getAttribute("href") : link("/compare", { run: this.run, id: one.id })), true;
    } else if (name === "n" || name === "p") {
      return this.pager.querySelector(`a[rel=${name === "n" ? "next" : "prev"}]`)?.click(), true;
    } else return false;
    this.mark();
    return true;
  }
}

function shownName(field, value) {
  return spelled(field === "env" ? `${title(value)} · ${value.split("__")[0]}` : words(value || "none"));
}

export const keys = (...names) => names.map((name) => el("kbd", {}, name));
