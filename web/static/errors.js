// What fails: by type, by route and model, and the newest calls that failed, with what they said.

import { MOST, part } from "./api.js";
import { bar } from "./chart.js";
import { callTable } from "./calls.js";
import { h } from "./dom.js";
import { count, figure, minute, time } from "./format.js";
import { answered, cut, cutErrors, empty, panel } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

export const errors = {
  title: "Errors",

  async load(at) {
    const { route, type } = at.state;
    const [types, top, calls] = await Promise.all([
      part(at.ask("/api/v1/analytics/errors")),
      part(at.ask("/v1/errors/top", { limit: MOST })),
      part(at.ask("/v1/calls", { kept: "error", route, error_type: type, limit: 20 })),
    ]);
    return { types, top, calls };
  },

  draw({ types, top, calls }, { state }) {
    const { route, type } = state;
    const chosen = [route && `of ${route}`, type && `of type ${type}`].filter(Boolean).join(", ");
    const clear = chosen && h("a", { href: link({ route: "", type: "" }) }, `Only ${chosen} ✕`);
    return [
      panel("By type", answered(types, (answer) => byType(answer, state)), { aside: answered(types, total) }),
      panel("By route, model and type", answered(top, (answer) => {
        const rows = answer.errors.filter((row) => (!route || row.route === route) && (!type || row.error_type === type));
        const some = cutErrors(answer);
        return [(rows.length || !some) && byPlace(rows, state), cut(some)];
      }), { aside: clear }),
      panel("Newest failed calls", answered(calls, ({ calls: rows }) => (rows.length ? callTable(rows, state, { name: "calls_" }) : empty("None is kept", NONE))), {
        aside: h("a", { href: link({ view: "calls", kept: "error", route, error_type: type }) }, "All kept errors →"),
      }),
    ];
  },
};

const NONE = "No call has failed in this time, or those that did are older than recent calls are kept.";
const total = (answer) => h("p", {}, figure(answer.total), " errors, ", figure(answer.error_rate, "share"), " of the calls");

function byType({ errors: rows }, state) {
  if (!rows.length) return empty("No errors in this time", "Nothing has failed. Choose a longer time above to look further back.");
  return table({
    caption: "Errors by type", name: "type_", state, rows, sort: "-count", quiet: true,
    href: (row) => link({ type: row.error_type }),
    columns: [
      { key: "error_type", label: "Type", wide: true },
      { key: "count", label: "Errors", number: true, cell: (row) => h("span", { class: "barred" }, bar(row.share, "bad"), figure(row.count)) },
      { key: "share", label: "Share", number: true, cell: (row) => figure(row.share, "share") },
      { key: "routes", label: "Routes", fixed: true, cell: (row) => listed(row.routes) },
      { key: "models", label: "Models", fixed: true, cell: (row) => listed(row.models) },
      { key: "last_seen", label: "Last seen", cell: (row) => time(row.last_seen, minute) },
    ],
  });
}

const listed = (names) => (names.length > 3 ? `${names.slice(0, 2).join(", ")} and ${count(names.length - 2)} more` : names.join(", ") || "–");

function byPlace(rows, state) {
  if (!rows.length) return empty("No errors in this time", "Nothing has failed here.");
  return table({
    caption: "Errors by route, model and type", name: "place_", state, rows, sort: "-count", quiet: true, size: 12,
    href: (row) => link({ route: row.route, type: row.error_type }),
    columns: [
      { key: "route", label: "Route", wide: true },
      { key: "model", label: "Model" },
      { key: "error_type", label: "Type" },
      !state.tenant && { key: "tenant_id", label: "Tenant" },
      { key: "count", label: "Errors", number: true, cell: (row) => h("span", { class: "barred" }, bar(row.count / rows[0].count, "bad"), figure(row.count)) },
      { key: "share", label: "Of all errors", number: true, cell: (row) => figure(row.share, "share") },
      { key: "last_seen", label: "Last seen", cell: (row) => time(row.last_seen, minute) },
    ].filter(Boolean),
  });
}
