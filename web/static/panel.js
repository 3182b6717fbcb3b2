// The frame around each part of a view, and what stands there when there is nothing to show.

import { ApiError, MOST } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";

/** A titled part of the page. `aside` stands at the right of the title. */
export function panel(title, content, { aside = null, kind = "" } = {}) {
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return h("section", { class: `panel ${kind}`, "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), aside), content);
}

/** What `draw` makes of an answer's value, or why there is none. */
export function answered(answer, draw) {
  return answer.error ? problem(answer.error) : draw(answer.value);
}

/** An error, and what to do. */
export function problem(error) {
  const [title, advice] = advise(error);
  return h("div", { class: "notice error", role: "alert" }, h("h3", {}, title), h("p", {}, advice));
}

function advise(error) {
  if (!(error instanceof ApiError)) return ["The page has failed", `${error.message}. Reload it; if this stays, it is a bug.`];
  switch (error.status) {
    case 0: return ["StreamLens does not answer", `${error.message}. See whether it runs and whether /health answers; this page tries again by itself.`];
    case 403: return ["This key may not see this", `${error.message}. Sign in with another key.`];
    case 404: return ["Not on this server", `It has nothing at ${error.path}. A newer version of StreamLens may.`];
    case 400: return ["The question was refused", `${error.message}. Choose something else above.`];
    case 503: return ["No numbers at the moment", `${error.message}. Events are taken and count later; /ready says which part is away. This page tries again by itself.`];
    default: return ["The server has failed", `${error.message}. Its log has the details; this page tries again by itself.`];
  }
}

/** Nothing is there, which is no error. */
export function empty(title, advice, ...more) {
  return h("div", { class: "notice" }, h("h3", {}, title), h("p", {}, advice), more);
}

/** What to say under numbers that are not of all rows, if `some` is true. */
export function cut(some) {
  return some && h("p", { class: "dim" }, `Only ${count(MOST)} rows are shown: choose a tenant or a shorter time.`);
}

/** Whether an answer of /v1/errors/top leaves errors out. */
export const cutErrors = ({ errors, total }) => errors.reduce((sum, each) => sum + each.count, 0) < total;

/** A choice of one of a few, as links. */
export function choice(label, options, chosen, href) {
  return h("nav", { class: "choice", "aria-label": label },
    options.map(([value, text]) => h("a", { href: href(value), "aria-current": value === chosen ? "true" : null }, text ?? value)));
}

/** A select that changes the state `name` of the URL. */
export function select(label, name, options, chosen) {
  return h("label", { class: "field" }, h("span", {}, label),
    h("select", { "data-set": name }, options.map(([value, text]) => h("option", { value, selected: value === (chosen ?? "") }, text ?? value))));
}

/** A field that changes the state `name` of the URL while one types. */
export function search(label, name, value, { list } = {}) {
  return h("label", { class: "field" }, h("span", {}, label),
    h("input", { type: "search", "data-set": name, value: value ?? "", spellcheck: "false", autocomplete: "off", list }));
}
