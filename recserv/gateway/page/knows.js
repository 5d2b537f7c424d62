// What the server knows of the shopper: GetContext, as it is.

import { button, h, short, titleOf } from "./dom.js";
import { become, itemOf, lookUp, newShopper, shopper } from "./shopper.js";

function table(caption, itemIds, none) {
  if (itemIds.length === 0) return h("section", { class: "panel" }, h("h2", {}, caption), h("p", { class: "sub" }, none));
  const row = (itemId, n) => h("tr", {}, h("td", {}, String(n + 1)),
    h("td", { dir: "auto" }, h("a", { href: `#/item/${encodeURIComponent(itemId)}` }, short(titleOf(itemOf(itemId)), 80))), h("td", { class: "id" }, short(itemId, 40)));
  return h("section", { class: "panel" }, h("table", {}, h("caption", {}, `${caption} (${itemIds.length})`),
    h("thead", { class: "hidden" }, h("tr", {}, ["Place", "Product", "Id"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, itemIds.map(row))));
}

function taste(weights) {
  if (weights.length === 0) return h("section", { class: "panel" }, h("h2", {}, "Taste"), h("p", { class: "sub" }, "No category weighs anything yet."));
  const most = Math.max(...weights.map(({ weight }) => weight ?? 0)) || 1;
  const row = ({ category, weight = 0 }) => h("tr", {}, h("th", { scope: "row", dir: "auto" }, short(category, 48)),
    h("td", { class: "bar-cell" }, h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": String(weight / most) } })),
    h("td", { class: "number" }, `${(weight * 100).toFixed(1)} %`));
  return h("section", { class: "panel wide" }, h("table", { class: "bars" }, h("caption", {}, "Taste: the categories' shares of this visit"), h("tbody", {}, weights.map(row))));
}

function who() {
  const session = h("input", { id: "session-id", value: shopper.sessionId, maxlength: "256", autocomplete: "off", spellcheck: "false" });
  const user = h("input", { id: "user-id", value: shopper.userId, maxlength: "256", autocomplete: "off", spellcheck: "false" });
  const take = (event) => {
    event.preventDefault();
    become(session.value.trim(), user.value.trim());
  };
  return h("form", { class: "panel who", on: { submit: take }, "aria-label": "Whose list it is" },
    h("label", { for: "session-id" }, "Session"), session, h("label", { for: "user-id" }, "User"), user,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Take these"), button("New shopper", newShopper, { id: "new-shopper" })));
}

export async function knows() {
  const known = shopper.known;
  const top = [h("h1", { tabindex: "-1" }, "What it knows"), h("p", { class: "sub" }, "GetContext of this shopper: all that the server keeps, and nothing that this page made up."), who()];
  if (!known) return [...top, h("p", { class: "sub" }, "The server could not say what it knows.")];
  const { recentItemIds = [], recentSearches = [], cartItemIds = [], purchasedItemIds = [], categoryWeights = [], eventCount = "0" } = known;
  await lookUp([...recentItemIds, ...cartItemIds, ...purchasedItemIds]).catch(() => {});
  const searches = h("section", { class: "panel" }, h("h2", {}, "Searches"),
    recentSearches.length ? h("ol", { class: "searches" }, recentSearches.map((text) => h("li", { dir: "auto" }, short(text, 120)))) : h("p", { class: "sub" }, "Nothing was searched for."));
  return [...top, h("div", { class: "panels" },
    h("section", { class: "panel figure" }, h("b", { id: "event-count" }, String(eventCount)), h("span", {}, eventCount === "1" ? "event in all" : "events in all")),
    taste(categoryWeights), table("Recent products", recentItemIds, "Nothing was looked at."), searches,
    table("In the cart", cartItemIds, "The cart is empty."), table("Bought", purchasedItemIds, "Nothing was bought."))];
}
