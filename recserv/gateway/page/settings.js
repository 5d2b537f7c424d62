// The settings of one list: a small form, folded away.

import { A, B } from "./api.js";
import { h } from "./dom.js";
import { setup } from "./shopper.js";

const EXPLAIN = [
  ["EXPLAIN_MODE_LLM_ASYNC", "reasons, sentences later"],
  ["EXPLAIN_MODE_REASONS", "reasons"],
  ["EXPLAIN_MODE_NONE", "none"],
];
const SIZES = [5, 10, 20, 50].map((size) => [String(size), String(size)]);
const SERVERS = [
  [A, "first"],
  [B, "second"],
];

function choice(options, value, change) {
  const select = h("select", {}, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  select.addEventListener("change", () => change(select.value));
  return select;
}

export function settingsForm(column, changed) {
  const { settings } = column;
  const set = (name, value) => {
    settings[name] = value;
    summary.textContent = told(settings);
    changed(column);
  };
  const summary = h("span", { class: "told" }, told(settings));
  const shown = h("span", {}, settings.diversity.toFixed(1));
  const range = h("input", { type: "range", min: "0", max: "1", step: "0.1", value: String(settings.diversity) });
  range.addEventListener("input", () => (shown.textContent = Number(range.value).toFixed(1)));
  range.addEventListener("change", () => set("diversity", Number(range.value)));
  const check = h("input", { type: "checkbox", checked: settings.excludePurchased });
  check.addEventListener("change", () => set("excludePurchased", check.checked));
  return h("details", { class: "settings" }, h("summary", {}, "Settings ", summary),
    h("div", { class: "fields" },
      setup.compares && h("label", {}, "Server", choice(SERVERS, settings.base, (value) => set("base", value))),
      h("label", {}, h("span", {}, "Diversity ", shown), range),
      h("label", {}, "Length", choice(SIZES, String(settings.pageSize), (value) => set("pageSize", Number(value)))),
      h("label", {}, "Why", choice(EXPLAIN, settings.explain, (value) => set("explain", value))),
      h("label", { class: "check" }, check, "leave out what was bought")));
}

function told({ diversity, excludePurchased, pageSize }) {
  return `diversity ${diversity.toFixed(1)}, ${pageSize} long${excludePurchased ? "" : ", with what was bought"}`;
}
