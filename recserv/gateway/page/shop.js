// The views of the shop: products, one product, the cart.

import { A, recommend } from "./api.js";
import { button, byId, h, notice, picture, price, short, titleOf } from "./dom.js";
import { cameFrom, categories, happen, itemOf, items, key, learn, lookUp, money, shopper } from "./shopper.js";
import { plural } from "./words.js";

const GRID_SIZE = 24;
const WITH_IT = 6;
const CATEGORIES_SHOWN = 12;
const REASONS = "EXPLAIN_MODE_REASONS";

const itemPath = (itemId) => `#/item/${encodeURIComponent(itemId)}`;

/** An event about a product, with the answer that it was clicked in. */
export function act(type, itemId, fields = {}) {
  const recommendationId = cameFrom.get(itemId);
  return happen(type, { itemId, ...(recommendationId && { recommendationId }), ...fields });
}

const inCart = (itemId) => shopper.cart.includes(itemId);

function cartButton(itemId) {
  const name = short(titleOf(itemOf(itemId)), 60);
  const within = inCart(itemId);
  const text = within ? "In the cart" : "Add to cart";
  const add = button(text, () => act("ADD_TO_CART", itemId, money(itemId)), { class: within ? "primary within" : "primary", "aria-label": `${text}: ${name}` });
  add.dataset.add = itemId;
  return add;
}

/** What the cart holds has changed: the buttons that are there say so. */
export function markCart(root) {
  for (const old of root.querySelectorAll("[data-add]")) {
    const within = inCart(old.dataset.add);
    if (within === old.classList.contains("within")) continue;
    const text = within ? "In the cart" : "Add to cart";
    old.classList.toggle("within", within);
    old.textContent = text;
    old.setAttribute("aria-label", `${text}: ${short(titleOf(itemOf(old.dataset.add)), 60)}`);
  }
}

function dislikeButton(itemId, whenDone) {
  const name = short(titleOf(itemOf(itemId)), 60);
  const click = async () => {
    if (await act("DISLIKE", itemId)) whenDone();
  };
  return button("Not for me", click, { class: "quiet", "aria-label": `Not for me: ${name}` });
}

function card(result, answer, withReason) {
  const item = itemOf(result.itemId);
  const reason = withReason ? result.reasons?.[0]?.text : "";
  const box = h("article", { class: "card", data: { id: item.itemId, answer: answer.recommendationId ?? "" } },
    h("a", { class: "card-link", href: itemPath(item.itemId) }, picture(item), h("h3", { class: "title", dir: "auto" }, titleOf(item))),
    h("p", { class: "brand", dir: "auto" }, item.brand ?? ""),
    h("p", { class: "price" }, price(item)),
    reason && h("p", { class: "why", dir: "auto" }, reason));
  const actions = h("div", { class: "actions" }, cartButton(item.itemId), dislikeButton(item.itemId, () => {
    box.classList.add("disliked");
    actions.replaceChildren(h("p", { class: "why" }, "Noted: it will not be recommended."));
  }));
  box.append(actions);
  return box;
}

const grid = (answer, withReason, results = answer.results ?? []) =>
  h("div", { class: "grid" }, results.map((result) => card(result, answer, withReason)));

const heading = (text, sub = "") => [h("h1", { tabindex: "-1", dir: "auto" }, text), sub && h("p", { class: "sub" }, sub)];

/** The categories seen so far: those of this visit first, then the most common. `chosen`: "" for all, null for none. */
export function categoryBar(chosen) {
  const weights = new Map((shopper.known?.categoryWeights ?? []).map(({ category, weight }) => [category, weight ?? 0]));
  const names = [...new Set([...weights.keys(), ...categories.keys()])];
  const worth = (name) => (weights.get(name) ?? 0) * 1000 + (categories.get(name) ?? 0);
  names.sort((one, other) => worth(other) - worth(one) || one.localeCompare(other));
  const shown = names.slice(0, CATEGORIES_SHOWN);
  if (chosen && !shown.includes(chosen)) shown.unshift(chosen);
  const chip = (name) => h("a", { class: "chip", href: `#/category/${encodeURIComponent(name)}`, dir: "auto",
    "aria-current": name === chosen ? "page" : null, data: weights.has(name) ? { known: "" } : {} }, short(name, 40));
  return h("nav", { class: "chips", "aria-label": "Categories" },
    h("a", { class: "chip", href: "#/", "aria-current": chosen === "" ? "page" : null }, "All"), shown.map(chip));
}

async function asked(request) {
  const { data } = await recommend(A, { explain: REASONS, ...request });
  learn(data);
  return data;
}

/** For `catch`: without what the server refuses. Where it does not answer the view says so, and is drawn once it does. */
const refusedIs = (nothing) => (error) => {
  if (error.mayPass) throw error;
  return nothing;
};

export async function home() {
  const answer = await asked({ pageSize: GRID_SIZE, placement: "home" });
  return [categoryBar(""), ...heading("Popular in this shop", "Look at something, search, fill the cart: “For you” answers each click."), grid(answer, false)];
}

export async function category(name) {
  const answer = await asked({ ...key(), category: name, pageSize: GRID_SIZE, excludePurchased: true, placement: "category" });
  const found = answer.results ?? [];
  return [categoryBar(name), ...heading(name, found.length ? "In the order that suits this shopper." : "Nothing is recommended here."), grid(answer, true)];
}

export async function search(text) {
  const answer = await asked({ ...key(), pageSize: GRID_SIZE, excludePurchased: true, placement: "search" });
  const found = answer.results ?? [];
  const hits = found.filter((result) => (result.reasons ?? []).some((reason) => reason.type === "REASON_TYPE_MATCHES_SEARCH"));
  const rest = found.filter((result) => !hits.includes(result));
  const holding = `${plural(hits.length, "product holds", "products hold")} every word; what suits this visit follows.`;
  const told = hits.length === 0 ? "No product holds every word; this is what suits the visit." : rest.length === 0 ? "All of these hold every word." : holding;
  return [categoryBar(null), ...heading(`“${short(text, 60)}”`, told), grid(answer, true, [...hits, ...rest])];
}

export async function product(itemId) {
  const goesWith = asked({ anchorItemIds: [itemId], pageSize: WITH_IT, placement: "product" });
  const [answer] = await Promise.all([goesWith.catch(refusedIs({})), lookUp([itemId]).catch(refusedIs())]);
  const item = itemOf(itemId);
  const path = (item.categories ?? []).map((name) => h("li", {}, h("a", { href: `#/category/${encodeURIComponent(name)}`, dir: "auto" }, short(name, 60))));
  const facts = h("div", { class: "product-facts" },
    path.length > 0 && h("nav", { "aria-label": "Categories of the product" }, h("ol", { class: "path" }, path)),
    h("h1", { tabindex: "-1", dir: "auto", class: "product-title" }, titleOf(item)),
    item.brand && h("p", { class: "brand", dir: "auto" }, item.brand),
    h("p", { class: "price" }, price(item)),
    item.available === false && h("p", { class: "badge" }, "Not available now."),
    item.description && h("p", { class: "description", dir: "auto" }, item.description),
    !items.has(itemId) && h("p", { class: "sub" }, "The model does not know this product."),
    h("div", { class: "actions" }, cartButton(itemId), dislikeButton(itemId, () => notice("dislike", "Noted: it will not be recommended."))),
    h("p", { class: "sub id" }, `Item ${short(itemId, 80)}`));
  const found = answer.results ?? [];
  return [h("div", { class: "product" }, picture(item), facts), h("h2", { class: "goes" }, "What goes with it"),
    found.length ? grid(answer, true) : h("p", { class: "sub" }, "Nothing that this server knows of.")];
}

export async function cart() {
  const held = shopper.cart;
  if (held.length === 0) return [...heading("Cart"), h("p", { class: "empty" }, "It is empty. ", h("a", { href: "#/" }, "To the products"))];
  await lookUp(held).catch(refusedIs());
  const lines = held.map((itemId) => {
    const item = itemOf(itemId);
    const name = short(titleOf(item), 60);
    return h("li", { class: "line", data: { id: itemId } }, picture(item), h("a", { href: itemPath(itemId), class: "title", dir: "auto" }, titleOf(item)),
      h("span", { class: "price" }, price(item)), button("Remove", () => act("REMOVE_FROM_CART", itemId), { class: "quiet", "aria-label": `Remove ${name}` }));
  });
  const goesWith = await asked({ anchorItemIds: held, pageSize: WITH_IT, placement: "cart" }).catch(refusedIs({}));
  const total = held.reduce((sum, itemId) => sum + (itemOf(itemId).price ?? 0), 0);
  const currency = itemOf(held[0]).currencyCode;
  const buy = button(`Buy ${held.length === 1 ? "it" : `all ${held.length}`}`, () => buyAll([...held]), { class: "primary large", id: "buy", disabled: buying });
  return [...heading("Cart", plural(held.length, "product")), h("ul", { class: "lines" }, lines),
    h("div", { class: "total" }, h("span", {}, "Total"), h("b", {}, price({ price: total, currencyCode: currency })), buy),
    goesWith.results?.length && [h("h2", { class: "goes" }, "What goes with it"), grid(goesWith, true)]].flat();
}

let buying = false;
/** One event for each line of the order. The view is drawn anew meanwhile, and its button must not buy the rest twice. */
async function buyAll(itemIds) {
  if (buying) return;
  buying = true;
  byId("buy").disabled = true;
  const stored = await Promise.all(itemIds.map((itemId) => act("PURCHASE", itemId, money(itemId))));
  if (stored.every(Boolean)) notice("bought", `Bought ${plural(itemIds.length, "product")}. The lists leave ${itemIds.length === 1 ? "it" : "them"} out from now on.`);
  buying = false;
  byId("buy")?.removeAttribute("disabled");
}
