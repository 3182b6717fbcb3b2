// What a person should look at first, each with its reason and where to go on.

import { h } from "./dom.js";
import { count, figure, money, share } from "./format.js";
import { cut, cutErrors, empty } from "./panel.js";
import { link } from "./url.js";

/** The list, from the answers of the overview; what could not be asked is left out, and then nothing is not known. */
export function attention({ routes, models, errors, letters }) {
  const found = [
    routes.value && failing(routes.value.metrics, errors.value?.errors ?? []),
    models.value && costly(models.value.metrics),
    models.value && unpriced(models.value.metrics),
    letters.value && refused(letters.value.letters),
  ].filter(Boolean);
  const some = routes.value?.next || models.value?.next || (errors.value && cutErrors(errors.value));
  const known = [routes, models, errors, letters].every(({ value }) => value) && !some;
  if (!found.length && known) return empty("Nothing", "No call has failed, every call has a price, and every event could be counted.");
  if (!found.length) return [empty("Not known", "Not all questions were answered in full; those that were found nothing."), cut(some)];
  const items = found.map(({ kind, title, why, href, action }) =>
    h("li", { class: kind }, h("h3", {}, title), h("p", {}, why), h("a", { href }, action)));
  return [h("ol", { class: "attends" }, items), cut(some)];
}

/** Sums of rows by one of their names: [name, sums], in no order. */
export function totals(rows, name, fields) {
  const sums = new Map();
  for (const row of rows) {
    const sum = sums.get(row[name]) ?? Object.fromEntries(fields.map((field) => [field, 0]));
    for (const field of fields) sum[field] += row[field] ?? 0;
    sums.set(row[name], sum);
  }
  return [...sums];
}

const first = (entries, rank) => entries.reduce((best, each) => (!best || rank(each) > rank(best) ? each : best), null);

/** The route with the most errors above what its share of calls would give it, and its most frequent type. */
function failing(rows, errors) {
  const routes = totals(rows, "route", ["requests", "errors"]);
  const all = routes.reduce((sum, [, each]) => ({ requests: sum.requests + each.requests, errors: sum.errors + each.errors }), { requests: 0, errors: 0 });
  if (!all.errors) return null;
  const rate = all.errors / all.requests;
  const [route, worst] = first(routes.filter(([, each]) => each.errors), ([, each]) => each.errors - rate * each.requests + each.errors * 1e-6);
  const types = totals(errors.filter((each) => each.route === route), "error_type", ["count"]);
  const type = first(types, ([, each]) => each.count);
  const why = type ? ["mostly ", h("b", {}, type[0]), ` (${share(type[1].count / worst.errors)} of its errors)`] : "see its errors for the reason";
  return {
    kind: "bad",
    title: [h("b", {}, route), " fails most: ", figure(worst.errors / worst.requests, "share")],
    why: [figure(worst.errors), " of ", figure(worst.requests), " calls; ", why],
    href: link({ view: "errors", route }),
    action: "See why",
  };
}

function costly(rows) {
  const models = totals(rows, "model", ["estimated_cost_usd", "requests"]);
  const all = models.reduce((sum, [, each]) => sum + each.estimated_cost_usd, 0);
  if (!all) return null;
  const [model, most] = first(models, ([, each]) => each.estimated_cost_usd);
  return {
    kind: "info",
    title: [h("b", {}, model), " costs most: ", figure(most.estimated_cost_usd, "money")],
    why: `${share(most.estimated_cost_usd / all)} of the cost, ${money((most.estimated_cost_usd / most.requests) * 1000)} per 1,000 calls`,
    href: link({ view: "cost" }),
    action: "See the cost by model",
  };
}

function unpriced(rows) {
  const models = totals(rows, "model", ["unpriced"]).filter(([, each]) => each.unpriced);
  if (!models.length) return null;
  const [model, most] = first(models, ([, each]) => each.unpriced);
  const others = models.length - 1;
  return {
    kind: "warn",
    title: [h("b", {}, model), others ? ` and ${count(others)} more have no price` : " has no price"],
    why: [figure(most.unpriced), " of its calls are not in the cost. Give it one with STREAMLENS_PRICES_FILE"],
    href: link({ view: "cost" }),
    action: "See what is unpriced",
  };
}

function refused(letters) {
  if (!letters.length) return null;
  const reasons = new Map();
  for (const { reason } of letters) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  return {
    kind: "warn",
    title: [letters.length === 1000 ? "1,000 or more" : figure(letters.length), letters.length === 1 ? " event could not be counted" : " events could not be counted"],
    why: [...reasons].map(([reason, number]) => `${count(number)} ${reason}`).join(", "),
    href: link({ view: "pipeline" }),
    action: "See the dead letters",
  };
}
