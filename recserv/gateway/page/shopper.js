// Who is looked at, what is known of the products, and the events of this page, stored one after the other.

import { A, B, CallFailed, context, ingest, recommend } from "./api.js";
import { clear, notice, short, titleOf } from "./dom.js";
import { DONE } from "./words.js";

const KEPT = "recserv-look-shopper";
const LOOKUP_MAX = 100;

export const items = new Map();
/** Categories of the products seen so far, the most general of each, with how many. */
export const categories = new Map();
export const shopper = { sessionId: "", userId: "", cart: [], known: null };
export const setup = { compares: false, images: false, watches: false };

const changed = new EventTarget();
export const onChange = (name, call) => changed.addEventListener(name, (event) => call(event.detail));
const tell = (name, detail) => changed.dispatchEvent(new CustomEvent(name, { detail }));

/** Of 128 bits. crypto.randomUUID is missing where a page comes over plain HTTP from another machine. */
function freshId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export function restoreShopper() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    if (typeof kept.sessionId === "string") shopper.sessionId = kept.sessionId;
    if (typeof kept.userId === "string") shopper.userId = kept.userId;
  } catch {
    // A browser that keeps nothing: a new shopper each time.
  }
  if (!shopper.sessionId && !shopper.userId) shopper.sessionId = freshId("look").slice(0, 17);
  keep();
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ sessionId: shopper.sessionId, userId: shopper.userId }));
  } catch {
    // As above.
  }
}

export function become(sessionId, userId) {
  shopper.sessionId = sessionId || (userId ? "" : freshId("look").slice(0, 17));
  shopper.userId = userId;
  shopper.cart = [];
  shopper.known = null;
  unsent.clear();
  clear("event");
  keep();
  tell("shopper");
}

export const newShopper = () => become("", "");

/** The fields that say who. */
export function key() {
  const { sessionId, userId } = shopper;
  return { ...(sessionId && { sessionId }), ...(userId && { userId }) };
}

export function learn(answer) {
  const before = categories.size;
  for (const { item } of answer.results ?? []) {
    if (!item || items.has(item.itemId)) continue;
    items.set(item.itemId, item);
    const general = item.categories?.[0];
    if (general) categories.set(general, (categories.get(general) ?? 0) + 1);
  }
  if (categories.size !== before) tell("categories");
}

export const itemOf = (itemId) => items.get(itemId) ?? { itemId };

/** Asks for the products that were not seen yet. */
export async function lookUp(itemIds) {
  const missing = [...new Set(itemIds)].filter((itemId) => !items.has(itemId)).slice(0, LOOKUP_MAX);
  if (missing.length === 0) return;
  const request = { candidateItemIds: missing, pageSize: missing.length, explain: "EXPLAIN_MODE_NONE", excludePurchased: false };
  learn((await recommend(A, request)).data);
}

/** Events that a server did not store, by id and in their order. */
const unsent = new Map();
let last = Promise.resolve();
let storing = 0;
/** Whether an event of this page is on its way: its own answer comes next. */
export const isStoring = () => storing > 0;

/**
 * Stores an event at every server; the promise is of its consistency tokens, by base. Events go one after the other, so
 * that the servers have them in the order of the clicks. What could not be stored is told, and may be sent again.
 */
export function happen(type, fields) {
  const event = { eventId: freshId("e"), eventType: `EVENT_TYPE_${type}`, ...key(), ...fields };
  return again(type, event);
}

function again(type, event) {
  storing += 1;
  const sent = last.then(() => send(type, event)).finally(() => (storing -= 1));
  last = sent.catch(() => {});
  return sent;
}

async function send(type, event) {
  const bases = setup.compares ? [A, B] : [A];
  const outcomes = await Promise.allSettled(bases.map((base) => ingest(base, event)));
  const tokens = {};
  outcomes.forEach((outcome, n) => (tokens[bases[n]] = outcome.status === "fulfilled" ? outcome.value : ""));
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed) unsent.set(event.eventId, { type, event });
  else unsent.delete(event.eventId);
  if (failed) tellUnsent(failed.reason, whereOf(outcomes));
  else if (unsent.size === 0) clear("event");
  const what = event.searchQuery ? `“${short(event.searchQuery, 40)}”` : short(titleOf(itemOf(event.itemId)), 40);
  tell("event", { text: `${DONE[type]} ${what}`, stored: outcomes[0].status === "fulfilled", type, tokens });
  return tokens;
}

/** Which of two servers did not store it, where only one did not. */
function whereOf(outcomes) {
  const failed = outcomes.map((outcome) => outcome.status === "rejected");
  return failed.every(Boolean) ? "" : ` at the ${failed[0] ? "first" : "second"} server`;
}

function tellUnsent(reason, where) {
  const why = reason instanceof CallFailed ? reason.message : String(reason);
  const one = unsent.size === 1;
  const run = () => [...unsent.values()].forEach(({ type, event }) => again(type, event));
  notice("event", `${one ? "This was" : `${unsent.size} events were`} not stored${where}: ${short(why, 160)}.`,
    { text: one ? "Send it again" : "Send them again", run });
}

let readings = 0;
/** Reads the context; the cart is the server's, and not this page's idea of it. Of two readings the later one counts. */
export async function readContext() {
  const mine = ++readings;
  const known = await context(A, key());
  if (mine !== readings) return;
  shopper.known = known;
  shopper.cart = known.cartItemIds ?? [];
  tell("context");
}

/** The value of one unit, for events that carry money. */
export function money(itemId) {
  const item = itemOf(itemId);
  return { quantity: 1, ...(item.price && { value: item.price }), ...(/^[A-Z]{3}$/.test(item.currencyCode ?? "") && { currencyCode: item.currencyCode }) };
}
