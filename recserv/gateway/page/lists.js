// The lists at the side: one, or two beside each other, of the same shopper.

import { A, B, explanations, recommend, watch } from "./api.js";
import { byId, h, picture, say, short, titleOf } from "./dom.js";
import { moves, movesSaid, overlap, sameOrder } from "./moves.js";
import { Retry } from "./retry.js";
import { settingsForm } from "./settings.js";
import { isStoring, itemOf, key, learn, setup } from "./shopper.js";
import { CAUSE, SOURCE, SOURCE_LONG, bare, degradedWords, sourceOf } from "./words.js";

const GONE_SHOWN = 5;
const QUIET = matchMedia("(prefers-reduced-motion: reduce)");
const MARKS = { new: "new", up: "▲", down: "▼", same: "" };

const idsOf = (answer) => (answer?.results ?? []).map((result) => result.itemId);
const reasonsOf = (answer) => answer.degradedReasons ?? [];

export class Column {
  constructor(name, settings, onSettings) {
    this.name = name;
    this.settings = settings;
    this.answer = null;
    this.moves = { moved: new Map(), gone: [] };
    this.asked = 0;
    this.waiting = 0;
    this.missed = null;
    this.failed = false;
    this.retry = new Retry(() => this.refresh());
    this.end = () => {};
    this.texts = new Map();
    this.build(onSettings);
  }

  get ids() {
    return idsOf(this.answer);
  }

  build(onSettings) {
    this.facts = h("p", { class: "facts" });
    this.badge = h("p", { class: "badge", hidden: true });
    this.list = h("ol", { class: "entries" });
    this.gone = h("div", { class: "gone", hidden: true });
    this.title = h("h3", {});
    this.element = h("section", { class: "column", data: { column: this.name }, "aria-label": `List ${this.name}` },
      h("div", { class: "column-head" }, this.title, this.facts), settingsForm(this, onSettings), this.badge, this.list, this.gone);
  }

  /** The request, but for what a token says. */
  request() {
    const { diversity, excludePurchased, explain, pageSize } = this.settings;
    return { ...key(), pageSize, excludePurchased, explain, ...(diversity > 0 && { diversity }) };
  }

  /** Without a trace of the shopper before. */
  forget() {
    this.answer = null;
    this.moves = { moved: new Map(), gone: [] };
    this.missed = null;
  }

  /** It is shown no more: what is still asked for changes nothing. */
  close() {
    this.asked += 1;
    this.retry.stop();
    this.end();
  }

  /** `token`: of the event that it follows, empty where that was not stored; null: it follows none. */
  async refresh(token = null) {
    const { base } = this.settings;
    const mine = ++this.asked;
    this.waiting += 1;
    this.element.setAttribute("aria-busy", "true");
    try {
      const { data, tookMs, serverMs } = await recommend(base, { ...this.request(), ...(token && { consistencyToken: token }) });
      // A later question has been asked since: its answer counts.
      if (mine === this.asked) this.show(data, { tookMs, serverMs }, token !== null);
    } catch (error) {
      if (mine === this.asked) this.fail(error);
    } finally {
      this.waiting -= 1;
      if (this.waiting === 0) this.element.removeAttribute("aria-busy");
    }
    if (this.missed && this.waiting === 0) await this.catchUp();
  }

  /** What came by itself meanwhile may be older than the answer, or newer: where it is another list it is asked once more. */
  async catchUp() {
    const { answer, heard } = this.missed;
    const before = this.ids;
    this.missed = null;
    if (sameOrder(before, idsOf(answer))) return;
    await this.refresh();
    if (!sameOrder(before, this.ids)) heard();
  }

  /** An answer that came by itself; `heard` is called where it moves the list. */
  take(answer, heard) {
    if (this.waiting > 0 || isStoring(this.settings.base)) {
      this.missed = { answer, heard };
      return;
    }
    const moves = this.answer !== null && !sameOrder(this.ids, idsOf(answer));
    // What this page has asked for itself comes this way, too.
    if (this.answer && !moves && !this.failed && sameOrder(reasonsOf(this.answer), reasonsOf(answer))) return;
    this.show(answer, null);
    if (moves) heard();
  }

  fail(error) {
    this.failed = true;
    this.facts.dataset.kind = "failed";
    this.facts.textContent = "no answer";
    this.badge.hidden = false;
    this.badge.textContent = `No answer: ${short(error.message, 160)}.${error.mayPass ? " It is asked again." : ""}`;
    this.badge.dataset.kind = "failed";
    if (error.mayPass) this.retry.late();
    changed();
  }

  /** `follows`: it is the answer to an event, whose marks it has, also where it moved nothing. */
  show(answer, timing, follows = false) {
    learn(answer);
    const before = this.ids;
    const now = idsOf(answer);
    const first = this.answer === null;
    // The same list once more says nothing new, and takes no mark away.
    const stays = !first && sameOrder(before, now);
    if (first) this.moves = { moved: new Map(), gone: [] };
    else if (!stays || follows) this.moves = moves(before, now);
    this.answer = answer;
    this.failed = false;
    // Not for the sake of texts: each question may cost some.
    if (reasonsOf(answer).some((reason) => reason !== "DEGRADED_REASON_EXPLANATION_UNAVAILABLE")) this.retry.late();
    else this.retry.well();
    this.showFacts(answer, timing);
    const places = this.places();
    this.draw();
    this.glide(places);
    this.explain(answer);
    changed();
    if (!first && (!stays || follows)) {
      const top = answer.results?.[0];
      say(`List ${this.name}: ${movesSaid(this.moves)}.${top ? ` First is ${short(titleOf(itemOf(top.itemId)), 60)}.` : ""}`);
    }
  }

  showFacts(answer, timing) {
    delete this.facts.dataset.kind;
    if (timing) {
      const server = timing.serverMs === null ? "" : `, server ${timing.serverMs.toFixed(timing.serverMs < 10 ? 1 : 0)} ms`;
      this.facts.textContent = `${timing.tookMs.toFixed(0)} ms${server}`;
      this.facts.title = "Measured in this page, from the question to the answer; the server's share is in it";
    } else {
      this.facts.textContent = "came by itself";
      this.facts.title = "An event from elsewhere changed the list";
    }
    this.title.textContent = setup.compares ? `${this.name}: ${this.settings.base === B ? "second" : "first"} server` : `List ${this.name}`;
    this.title.title = `model ${answer.modelVersion ?? ""}`;
    const reasons = reasonsOf(answer);
    this.badge.hidden = reasons.length === 0;
    this.badge.dataset.kind = "degraded";
    this.badge.textContent = reasons.length ? `Degraded: ${degradedWords(reasons)}.` : "";
  }

  draw(other = this.other) {
    this.other = other;
    this.texts.clear();
    const results = this.answer?.results ?? [];
    const focused = document.activeElement?.closest?.(".entry");
    const held = focused && this.list.contains(focused) ? focused.dataset.id : null;
    this.list.replaceChildren(...results.map((result) => this.entry(result, other)));
    if (this.answer && results.length === 0) this.list.append(h("li", { class: "none" }, "Nothing is left to recommend."));
    if (held !== null) [...this.list.children].find((entry) => entry.dataset.id === held)?.querySelector("a")?.focus({ preventScroll: true });
    this.drawGone();
  }

  entry(result, other) {
    const item = itemOf(result.itemId);
    const { kind, by } = this.moves.moved.get(result.itemId) ?? { kind: "same", by: 0 };
    const said = kind === "new" ? "new" : kind === "same" ? "" : `${kind} ${by}`;
    const mark = h("span", { class: "move", data: { kind }, title: said }, said && h("span", { class: "hidden" }, said),
      said && h("span", { "aria-hidden": "true" }, kind === "new" ? "new" : `${MARKS[kind]} ${by}`));
    const source = sourceOf(result);
    const reasons = (result.reasons ?? []).map((reason) => reason.text);
    const why = h("p", { class: "why", dir: "auto" }, reasons[0] ?? "");
    const text = h("p", { class: "text", dir: "auto", hidden: true });
    this.texts.set(result.itemId, { text, why });
    const entry = h("li", { class: "entry", data: { id: result.itemId, kind, answer: this.answer.recommendationId ?? "" } },
      h("span", { class: "rank" }, String(result.rank)), picture(item),
      h("div", { class: "entry-body" },
        h("div", { class: "entry-title" }, h("a", { href: `#/item/${encodeURIComponent(result.itemId)}`, dir: "auto" }, titleOf(item)), mark),
        why, text,
        h("p", { class: "tags" }, h("span", { class: "tag", title: SOURCE_LONG[source] ?? "" }, SOURCE[source] ?? "another source"),
          reasons[1] && h("span", { class: "also", dir: "auto", title: reasons[1] }, reasons[1]), this.beside(result.itemId, other))));
    this.tell({ itemId: result.itemId, text: result.explanation, state: result.explanationState });
    return entry;
  }

  /** Where the other list has it. */
  beside(itemId, other) {
    if (!other) return null;
    const place = other.ids.indexOf(itemId);
    return place < 0 ? h("span", { class: "tag only" }, `only in ${this.name}`) : h("span", { class: "tag both" }, `${place + 1} in ${other.name}`);
  }

  drawGone() {
    const { gone } = this.moves;
    this.gone.hidden = gone.length === 0;
    const names = gone.slice(0, GONE_SHOWN).map((id) => h("li", { dir: "auto", data: { id } }, short(titleOf(itemOf(id)), 60)));
    const more = gone.length > GONE_SHOWN ? h("li", { class: "more" }, `and ${gone.length - GONE_SHOWN} more`) : null;
    this.gone.replaceChildren(h("h4", {}, `Gone from the list`), h("ul", {}, names, more));
  }

  places() {
    return new Map([...this.list.children].map((entry) => [entry.dataset.id, entry.offsetTop]));
  }

  /** Each entry from where it was to where it is. */
  glide(places) {
    if (QUIET.matches) return;
    for (const entry of this.list.children) {
      const by = places.has(entry.dataset.id) ? places.get(entry.dataset.id) - entry.offsetTop : null;
      const from = by === null ? { opacity: 0, transform: "translateX(12px)" } : { transform: `translateY(${by}px)` };
      if (by !== 0) entry.animate([from, { opacity: 1, transform: "none" }], { duration: 320, easing: "cubic-bezier(.2,.7,.2,1)" });
    }
  }

  explain(answer) {
    this.end();
    const pending = (answer.results ?? []).some((result) => result.explanationState === "EXPLANATION_STATE_PENDING");
    if (!pending || !answer.explanationToken) return;
    this.end = explanations(this.settings.base, answer.explanationToken, (explanation) => {
      const result = this.answer.results.find((one) => one.itemId === explanation.itemId);
      if (this.answer !== answer || !result) return;
      // Kept with the answer, so that it is there when the list is drawn once more.
      Object.assign(result, { explanation: explanation.text, explanationState: explanation.state, cause: explanation.cause });
      this.tell(explanation);
    });
  }

  tell({ itemId, text, state, cause }) {
    const place = this.texts.get(itemId);
    if (!place) return;
    const kind = bare(state, "EXPLANATION_STATE_").toLowerCase();
    place.text.dataset.state = kind;
    place.text.hidden = !(kind === "ready" || kind === "pending");
    place.text.textContent = kind === "ready" ? text : kind === "pending" ? "A sentence is being written" : "";
    if (kind === "template") place.why.title = CAUSE[bare(cause, "TEMPLATE_CAUSE_")] ?? "";
  }
}

let changed = () => {};
export const onLists = (call) => (changed = call);

/** A list that is no longer the answer is compared with none. */
export const comparable = (one, other) => Boolean(other && [one, other].every((column) => column.answer && !column.failed));

export function drawOverlap(one, other) {
  const line = byId("overlap");
  line.hidden = !comparable(one, other);
  if (line.hidden) return;
  const { shared, of, rank } = overlap(one.ids, other.ids);
  line.title = "Rank overlap: the share that both have, averaged over the first 1, 2, … of the lists; 100 % is the same order";
  line.replaceChildren(h("span", { class: "meter", vars: { "--share": String(rank) }, "aria-hidden": "true" }),
    h("span", {}, h("b", {}, `${shared} of the first ${of}`), ` shared, rank overlap ${Math.round(rank * 100)} %`));
}

/** Listens to events from elsewhere while the page is looked at: a browser has few connections to one host. */
export class Watcher {
  constructor(column) {
    this.column = column;
    this.end = () => {};
    document.addEventListener("visibilitychange", () => this.start());
  }

  start() {
    this.end();
    this.end = () => {};
    if (!setup.watches || document.hidden) return;
    const { base } = this.column.settings;
    const { sessionId, userId, pageSize, excludePurchased, explain, diversity } = this.column.request();
    const fields = { session_id: sessionId, user_id: userId, page_size: pageSize, exclude_purchased: excludePurchased, explain, diversity };
    this.end = watch(base, { ...fields, return_items: true }, (answer) => this.column.take(answer, this.heard));
  }

  heard() {}
}

export const settingsOf = (base, changes = {}) => ({ base, diversity: 0, excludePurchased: true, explain: "EXPLAIN_MODE_LLM_ASYNC", pageSize: 10, ...changes });
export const secondBase = () => (setup.compares ? B : A);
