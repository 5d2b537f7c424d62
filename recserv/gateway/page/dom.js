// Elements, made without markup: whatever comes from a catalogue is text here, and can be nothing else.

export const byId = (id) => document.getElementById(id);

/** An element. `props`: `class`, `on` (listeners by name), `data`, `vars` (CSS variables), or attributes. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "vars") for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One press is one call: not the second half of a double click, and not while the first is being answered. */
export function button(text, pressed, props = {}) {
  let busy = false;
  const click = async (event) => {
    if (busy || event.detail > 1) return;
    busy = true;
    try {
      await pressed(event);
    } finally {
      busy = false;
    }
  };
  return h("button", { type: "button", on: { click }, ...props }, text);
}

/** A stable number of a text, to colour it by. */
function hashOf(text) {
  let hash = 2166136261;
  for (const unit of text) hash = Math.imul(hash ^ unit.codePointAt(0), 16777619) >>> 0;
  return hash;
}

function initialsOf(item) {
  const words = titleOf(item).match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  const first = words.slice(0, 2).map((word) => [...word][0]);
  return first.join("").toUpperCase();
}

export const titleOf = (item) => item.title || item.itemId;

/** Of what may be very long: titles are cut by the style, and this is for names of things and for what is read out. */
export function short(text, most = 80) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

let imagesAllowed = false;
export function allowImages(allowed) {
  imagesAllowed = allowed;
}

const shows = (uri) => uri.startsWith("data:image/") || (imagesAllowed && uri.startsWith("https://"));

/** The product's image where it may be shown, else its initials on a colour of its own. Says nothing aloud. */
export function picture(item) {
  const frame = h("span", { class: "picture", "aria-hidden": "true", vars: { "--hue": String(hashOf(item.itemId) % 360) } });
  const letters = h("span", { class: "initials" }, initialsOf(item));
  if (!item.imageUri || !shows(item.imageUri)) {
    frame.append(letters);
    return frame;
  }
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", referrerpolicy: "no-referrer" });
  image.addEventListener("error", () => image.replaceWith(letters));
  image.src = item.imageUri;
  frame.append(image);
  return frame;
}

export function price(item) {
  if (!item.price) return "";
  try {
    if (item.currencyCode) return new Intl.NumberFormat(undefined, { style: "currency", currency: item.currencyCode }).format(item.price);
  } catch {
    // A code that is none: the number alone is still right.
  }
  return new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(item.price);
}

export function say(text) {
  byId("said").textContent = text;
}

/** A line above everything, until it is closed or `clear` is called with its key; `bad`: of something that failed. */
export function notice(key, text, action = null, bad = action !== null) {
  clear(key);
  const line = h("p", { class: bad ? "notice bad" : "notice", data: { key } }, h("span", {}, text));
  if (action) line.append(button(action.text, () => (clear(key), action.run())));
  line.append(button("Close", () => clear(key), { class: "quiet" }));
  byId("notices").append(line);
}

export function clear(key) {
  for (const line of byId("notices").children) if (line.dataset.key === key) line.remove();
}
