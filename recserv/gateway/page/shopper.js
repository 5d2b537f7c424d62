// Who is looked at, what is known of the products, and the events of this page, stored one after the other.

import { A, B, CallFailed, context, ingest, recommend } from "./api.js";
import { clear, notice, short, titleOf } from "./dom.js";
import { DONE } from "./words.js";

const KEPT = "recserv-look-shopper";
const LOOKUP_MAX = 100;

export const items = new Map();
/** Categories of the products seen so far, the most general of each, with how many. */
export const categories = new Map();
/** By product: the answer that it was last clicked in. */
export const cameFrom = new Map();
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
  cameFrom.clear();
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

/** Events that a server did not store, by server and id, in their order. */
const unsent = new Map();
const queues = { [A]: Promise.resolve(), [B]: Promise.resolve() };
const storing = { [A]: 0, [B]: 0 };
/** Whether an event of this page is on its way to a server: its own answer comes next. */
export const isStoring = (base) => storing[base] > 0;

/**
 * Stores an event at every server; the promise is whether the first one has it. Each server has a queue of its own: it
 * gets the events in the order of the clicks, and one that does not answer keeps no other waiting. What could not be
 * stored is told, and may be sent again.
 */
export function happen(type, fields) {
  const event = { eventId: freshId("e"), eventType: `EVENT_TYPE_${type}`, ...key(), ...fields };
  const [first] = (setup.compares ? [A, B] : [A]).map((base) => queue(base, type, event));
  return first;
}

function queue(base, type, event) {
  storing[base] += 1;
  queues[base] = queues[base].then(() => send(base, type, event)).finally(() => (storing[base] -= 1));
  return queues[base];
}

/** Whether it is stored. */
async function send(base, type, event) {
  const place = `${base} ${event.eventId}`;
  let token = "";
  let failure = null;
  try {
    token = await ingest(base, event);
    unsent.delete(place);
    if (unsent.size === 0) clear("event");
  } catch (reason) {
    failure = reason;
    unsent.set(place, { base, type, event });
    tellUnsent(reason);
  }
  const what = event.searchQuery ? `“${short(event.searchQuery, 40)}”` : short(titleOf(itemOf(event.itemId)), 40);
  tell("event", { base, text: `${DONE[type]} ${what}`, stored: failure === null, token });
  return failure === null;
}

/** Which of two servers lacks them, where only one does. */
function whereUnsent() {
  const bases = new Set([...unsent.values()].map(({ base }) => base));
  return setup.compares && bases.size === 1 ? ` at the ${bases.has(A) ? "first" : "second"} server` : "";
}

function tellUnsent(reason) {
  const why = reason instanceof CallFailed ? reason.message : String(reason);
  const count = new Set([...unsent.values()].map(({ event }) => event.eventId)).size;
  const run = () => [...unsent.values()].forEach(({ base, type, event }) => queue(base, type, event));
  notice("event", `${count === 1 ? "This was" : `${count} events were`} not stored${whereUnsent()}: ${short(why, 160)}.`,
    { text: count === 1 ? "Send it again" : "Send them again", run });
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
