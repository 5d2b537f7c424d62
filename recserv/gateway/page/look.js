// The page: which view is shown, and what follows an event.
//
//   a click -> an event, stored (shopper.js) -> the lists at the side asked again with its token (lists.js)
//                                            -> the context read again: cart, categories, "what it knows"

import { A, config } from "./api.js";
import { allowImages, byId, clear, h, notice, short } from "./dom.js";
import { knows } from "./knows.js";
import { Column, Watcher, comparable, drawOverlap, onLists, secondBase, settingsOf } from "./lists.js";
import { act, cart, category, categoryBar, home, markCart, product, search } from "./shop.js";
import { movesSaid } from "./moves.js";
import { Retry } from "./retry.js";
import { cameFrom, happen, onChange, readContext, restoreShopper, setup, shopper } from "./shopper.js";

const VIEWS = { "": home, category, search, item: product, cart, knows };
const main = byId("main");
let columns = [];
let watcher = null;
let drawn = 0;

/** "#/item/a%2Fb" is ["item", "a/b"]. */
function place() {
  const [name, rest = ""] = location.hash.replace(/^#\/?/, "").split(/\/(.*)/s);
  try {
    return [name in VIEWS ? name : "", decodeURIComponent(rest)];
  } catch {
    return ["", ""];
  }
}

const retryView = new Retry(() => draw(false));
const retryContext = new Retry(() => contextRead());

async function draw(focus) {
  const [name, argument] = place();
  const mine = ++drawn;
  retryView.stop();
  main.setAttribute("aria-busy", "true");
  const shown = name === "cart" || name === "knows" ? name : "shop";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let content;
  try {
    content = await VIEWS[name](argument);
    if (mine !== drawn) return;
    clear("view");
    retryView.well();
  } catch (error) {
    if (mine !== drawn) return;
    if (error.mayPass) retryView.late();
    content = [h("h1", { tabindex: "-1" }, "No answer"), h("p", { class: "empty" }, `This view is empty: ${short(error.message, 160)}.`)];
    notice("view", "The recommendation server gave no answer.", { text: "Try again", run: () => draw(false) });
  }
  const typed = focus ? [] : [...main.querySelectorAll("input")].filter((input) => input.value !== input.defaultValue);
  main.replaceChildren(...content.filter(Boolean));
  for (const { id, value } of typed) if (byId(id)) byId(id).value = value;
  main.removeAttribute("aria-busy");
  main.dataset.view = name || "home";
  document.title = `${short(main.querySelector("h1")?.textContent ?? "", 60)} · recserv`;
  if (focus) {
    main.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

async function arrive() {
  // What was told of the view before.
  for (const key of ["bought", "dislike"]) clear(key);
  const [name, argument] = place();
  if (name === "item" && argument) act("VIEW", argument).catch(() => {});
  await draw(true);
}

async function redrawLive() {
  const [name] = place();
  if (name === "cart" || name === "knows") {
    const held = main.contains(document.activeElement) ? document.activeElement.id : null;
    await draw(false);
    // What had the focus may be gone: then whoever has no mouse goes on from the heading.
    if (held !== null && document.activeElement === document.body) (byId(held) ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  }
}

const refresh = () => Promise.all(columns.map((column) => column.refresh()));

const contextRead = () => readContext().then(() => retryContext.well(), (error) => error.mayPass && retryContext.late());

function compare(on) {
  byId("compare").setAttribute("aria-pressed", String(on));
  document.body.classList.toggle("comparing", on);
  if (!on) for (const column of columns.splice(1)) column.close();
  else if (columns.length === 1) {
    const base = secondBase();
    columns.push(new Column("B", settingsOf(base, base === A ? { diversity: 0.6 } : {}), settingsChanged));
    columns[1].refresh();
  }
  byId("columns").replaceChildren(...columns.map((column) => column.element));
  listsChanged();
}

function settingsChanged(column) {
  column.refresh();
  if (column === columns[0]) watcher.start();
}

let drawing = false;
/** Each list says what the other one has. */
function listsChanged() {
  if (drawing) return;
  drawing = true;
  const [one, other] = columns;
  drawOverlap(one, other);
  if (comparable(one, other)) {
    one.draw(other);
    other.draw(one);
  } else for (const column of columns) if (column.other) column.draw(null);
  drawing = false;
  const moved = [...one.moves.moved.values()].filter((move) => move.kind !== "same").length;
  const told = byId("moved");
  told.hidden = one.moves.moved.size === 0;
  told.textContent = `${other ? "List A: " : ""}${movesSaid(one.moves)}`;
  byId("jump").textContent = moved ? `For you: ${moved} moved` : "For you";
}

/** Links to a place of the page itself; a hash is a view here. */
function within(link, target) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    byId(target).focus({ preventScroll: true });
    byId(target).scrollIntoView();
  });
}

function listen() {
  within(byId("skip"), "main");
  within(byId("jump"), "for-you");
  // Before whatever the click does.
  document.addEventListener("click", ({ target }) => {
    const { id, answer } = target.closest("[data-answer]")?.dataset ?? {};
    if (answer) cameFrom.set(id, answer);
  }, true);
  onChange("event", ({ base, text, stored, token }) => {
    for (const column of columns) if (column.settings.base === base) column.refresh(token);
    if (base !== A) return;
    byId("after").textContent = stored ? `After: ${text}` : `Not stored: ${text}`;
    contextRead();
  });
  onChange("context", () => {
    const count = shopper.cart.length;
    byId("cart-count").textContent = String(count);
    byId("cart-count").setAttribute("aria-label", `${count} products in the cart`);
    markCart(main);
    drawCategories();
    redrawLive();
  });
  onChange("categories", drawCategories);
  onChange("shopper", () => {
    byId("after").textContent = "Another shopper: nothing of the one before is used.";
    for (const column of columns) column.forget();
    for (const input of main.querySelectorAll("input")) input.value = input.defaultValue;
    refresh();
    contextRead().then(() => draw(false));
    watcher.start();
  });
  addEventListener("hashchange", arrive);
  byId("search").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = byId("search-text").value.trim();
    if (!text) return;
    await happen("SEARCH", { searchQuery: text });
    const there = `#/search/${encodeURIComponent(text)}`;
    if (location.hash === there) draw(true);
    else location.hash = there;
  });
  new IntersectionObserver(([seen]) => (byId("jump").hidden = seen.isIntersecting)).observe(byId("columns"));
  byId("compare").addEventListener("click", () => compare(columns.length === 1));
}

function drawCategories() {
  const old = main.querySelector(".chips");
  if (!old) return;
  const [name, argument] = place();
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const bar = categoryBar(name === "category" ? argument : name === "" ? "" : null);
  old.replaceWith(bar);
  if (focused) [...bar.children].find((chip) => chip.getAttribute("href") === focused)?.focus();
}

async function start() {
  try {
    Object.assign(setup, await config());
  } catch {
    notice("view", "The gateway does not answer.", { text: "Try again", run: () => location.reload() });
    return;
  }
  allowImages(setup.images);
  restoreShopper();
  columns = [new Column("A", settingsOf(A), settingsChanged)];
  byId("columns").replaceChildren(columns[0].element);
  onLists(listsChanged);
  watcher = new Watcher(columns[0]);
  watcher.heard = () => {
    byId("after").textContent = "After: an event from elsewhere";
    for (const column of columns.slice(1)) column.refresh();
    contextRead();
  };
  listen();
  await Promise.all([refresh(), contextRead().then(() => draw(false))]);
  const [name, argument] = place();
  if (name === "item" && argument) act("VIEW", argument).catch(() => {});
  watcher.start();
  document.body.dataset.ready = "";
}

start();
