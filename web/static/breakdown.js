// Calls by anything that they are counted by: route, model, tenant, or a facet; the busiest ones over time.

import { EVERYTHING, MOST, part } from "./api.js";
import { timeChart } from "./chart.js";
import { h } from "./dom.js";
import { axis, count, money, ms, share } from "./format.js";
import { answered, choice, cut, panel, search, select } from "./panel.js";
import { grouped, LABELS } from "./rows.js";
import { link } from "./url.js";

const DRAWN = 5;
const PLAIN = ["route", "model", "route,model", "tenant"];
const GROUPS = { tenant: "none" }; // the API's name, where it is another one
const FILTERS = { route: "route", model: "model", tenant: "tenant_id" }; // what a line over time is asked by
const MEASURES = {
  requests: ["calls", (point) => point.requests, count, axis.count],
  errors: ["errors", (point) => (point.requests ? point.errors / point.requests : null), share, axis.share],
  p95: ["p95", (point) => point.p95_latency_ms, ms, axis.ms],
  cost: ["cost", (point) => point.estimated_cost_usd, money, axis.money],
};

export const breakdown = {
  title: "Breakdown",

  async load(at) {
    const by = Object.hasOwn(LABELS, at.state.by) ? at.state.by : "route";
    const [rows, status] = await Promise.all([
      part(at.ask("/v1/metrics", { step: "all", group_by: GROUPS[by] ?? by, limit: MOST })),
      part(at.ask("/api/v1/status", EVERYTHING)),
    ]);
    const names = by in FILTERS ? busiest(rows.value?.metrics ?? [], FILTERS[by]) : [];
    const lines = await Promise.all(names.map((name) => part(at.ask("/api/v1/analytics/requests/timeseries", { step: at.span.step, [FILTERS[by]]: name }))));
    return { by, rows, facets: status.value?.settings?.facets, names, lines };
  },

  draw({ by, rows, facets, names, lines }, { state, span }) {
    const words = (state.q ?? "").toLowerCase();
    const options = Object.entries(LABELS).map(([value, label]) => [value, value === "route,model" ? "Route and model" : label]);
    const kept = options.filter(([value]) => PLAIN.includes(value) || !facets || facets.includes(value));
    const controls = h("div", { class: "row" }, select("Group by", "by", kept, by), search("Filter", "q", state.q));
    return [
      names.length > 0 && lines.every((line) => line.value) && overTime(by, names, lines.map((line) => line.value.points), state, span),
      panel(`By ${(LABELS[by] ?? by).toLowerCase()}`, answered(rows, ({ metrics, next }) => {
        const found = metrics.filter((row) => [row.tenant_id, row.route, row.model, row.value].some((name) => name?.toLowerCase().includes(words)));
        return [
          grouped(found, by, { state, tenants: !state.tenant }),
          cut(next),
        ];
      }), { aside: controls }),
    ];
  },
};

/** The names with the most calls, of all tenants together. */
function busiest(rows, name) {
  const sums = new Map();
  for (const row of rows) sums.set(row[name], (sums.get(row[name]) ?? 0) + row.requests);
  return [...sums].sort(([, a], [, b]) => b - a).slice(0, DRAWN).map(([value]) => value);
}

function overTime(by, names, lines, state, span) {
  const measure = Object.hasOwn(MEASURES, state.measure) ? state.measure : "requests";
  const [, value, format, axis] = MEASURES[measure];
  const series = names.map((name, index) => {
    const values = lines[index].map(value);
    const whole = span.live ? values.slice(0, -1) : values; // not the step under way
    return { name, values, colour: `c${index + 1}`, summary: whole.findLast((each) => each != null) };
  });
  return timeChart({
    title: `The busiest ${LABELS[by].toLowerCase()}s`,
    told: `Newest: ${series.map(({ name, summary }) => `${name} ${summary == null ? "nothing" : format(summary)}`).join(", ")}.`,
    aside: choice("Show", Object.entries(MEASURES).map(([key, [label]]) => [key, label]), measure, (key) => link({ measure: key === "requests" ? "" : key })),
    times: lines[0].map((point) => Date.parse(point.at) / 1000),
    span, format, axis, series, size: "low",
  });
}
