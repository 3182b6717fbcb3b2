// What calls cost: over time, by model with where the price is from, and by provider; and what has no price.

import { EVERYTHING, MOST, part } from "./api.js";
import { totals } from "./attention.js";
import { bar, timeChart } from "./chart.js";
import { h } from "./dom.js";
import { axis, figure, money } from "./format.js";
import { answered, cut, empty, panel } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

export const cost = {
  title: "Cost",

  async load(at) {
    const [points, models, providers, status] = await Promise.all([
      part(at.ask("/api/v1/analytics/requests/timeseries", { step: at.span.step })),
      part(at.ask("/v1/metrics", { step: "all", group_by: "model", limit: MOST })),
      part(at.ask("/api/v1/analytics/providers")),
      part(at.ask("/api/v1/status", EVERYTHING)),
    ]);
    return { points, models, providers, status };
  },

  draw({ points, models, providers, status }, { state, span }) {
    const catalogue = status.value?.price_catalogue;
    return [
      answered(points, ({ points: found }) => chart(found, span)),
      panel("By model", answered(models, ({ metrics, next }) => [byModel(merged(metrics), state), cut(next)]), { aside: catalogue && h("p", { class: "dim" }, `Prices: ${catalogue}`) }),
      panel("By provider", answered(providers, ({ providers: rows }) => byProvider(rows, state))),
    ];
  },
};

const summed = (rows, name = "estimated_cost_usd") => rows.reduce((sum, row) => sum + (row[name] ?? 0), 0);

function chart(points, span) {
  const sum = summed(points);
  return timeChart({
    title: "Cost over time", told: `${money(sum)} in all.`, times: points.map((point) => Date.parse(point.at) / 1000), span, format: money, axis: axis.money, size: "low",
    series: [{ name: "cost", values: points.map((point) => point.estimated_cost_usd), colour: "calls", bars: true, summary: sum }],
  });
}

const SUMS = ["requests", "priced", "unpriced", "prompt_tokens", "cached_tokens", "completion_tokens"];

/** One row of each model, whichever tenants called it. What nobody has a price for costs null. */
function merged(rows) {
  return totals(rows, "model", [...SUMS, "estimated_cost_usd"]).map(([model, sums]) => {
    const versions = rows.filter((row) => row.model === model).flatMap((row) => row.price_versions);
    return { ...sums, model, estimated_cost_usd: sums.priced ? sums.estimated_cost_usd : null, price_versions: [...new Set(versions)].sort() };
  });
}

function byModel(rows, state) {
  if (!rows.length) return empty("No calls in this time", "Choose a longer time above, or all tenants.");
  const sum = summed(rows);
  const missing = summed(rows, "unpriced");
  const columns = [
    { key: "model", label: "Model", wide: true },
    { key: "estimated_cost_usd", label: "Cost", number: true, cell: (row) => h("span", { class: "barred" }, bar(row.estimated_cost_usd / sum), figure(row.estimated_cost_usd, "money")) },
    { key: "share", label: "Share", number: true, value: (row) => row.estimated_cost_usd, cell: (row) => figure(row.estimated_cost_usd == null || !sum ? null : row.estimated_cost_usd / sum, "share") },
    { key: "each", label: "Per 1,000 calls", number: true, value: each, cell: (row) => figure(each(row), "money") },
    { key: "requests", label: "Calls", number: true, cell: (row) => figure(row.requests) },
    { key: "prompt_tokens", label: "Tokens in", number: true, cell: (row) => figure(row.prompt_tokens) },
    { key: "cached_tokens", label: "Cached", number: true, cell: (row) => figure(row.cached_tokens) },
    { key: "completion_tokens", label: "Tokens out", number: true, cell: (row) => figure(row.completion_tokens) },
    { key: "unpriced", label: "Unpriced", number: true, cell: unpriced },
    { key: "price_versions", label: "Priced by", fixed: true, cell: (row) => row.price_versions.join(", ") || "–" },
  ];
  return [
    table({ caption: "Cost by model", columns, rows, state, sort: "-estimated_cost_usd", quiet: true, href: (row) => link({ view: "calls", model: row.model, order: "slowest" }) }),
    missing > 0 && h("p", { class: "advice" }, figure(missing), ` calls have no price, ${((missing / summed(rows, "requests")) * 100).toFixed(1)} % of all, and are not in the cost. `,
      "Name a file of your own prices in STREAMLENS_PRICES_FILE; they count from then on."),
  ];
}

const each = (row) => (row.priced ? (row.estimated_cost_usd / row.priced) * 1000 : null);
const unpriced = (row) => h("span", { class: row.unpriced ? "warn" : "dim" }, figure(row.unpriced), row.unpriced ? ` (${((row.unpriced / row.requests) * 100).toFixed(0)} %)` : null);

function byProvider(rows, state) {
  if (!rows.length) return empty("No provider is known", "Calls that tell their provider are grouped here.");
  return table({
    caption: "Providers", name: "provider_", state, rows, sort: "-requests", quiet: true,
    columns: [
      { key: "provider", label: "Provider", wide: true, cell: (row) => row.provider ?? "not told" },
      { key: "requests", label: "Calls", number: true, cell: (row) => h("span", { class: "barred" }, bar(row.share), figure(row.requests)) },
      { key: "error_rate", label: "Errors", number: true, cell: (row) => h("span", { class: row.errors ? null : "dim" }, figure(row.error_rate, "share")) },
      { key: "avg_latency_ms", label: "Mean", number: true, cell: (row) => figure(row.avg_latency_ms, "ms") },
      { key: "p95_latency_ms", label: "p95", number: true, cell: (row) => figure(row.p95_latency_ms, "ms") },
      { key: "prompt_tokens", label: "Tokens in", number: true, cell: (row) => figure(row.prompt_tokens) },
      { key: "completion_tokens", label: "Tokens out", number: true, cell: (row) => figure(row.completion_tokens) },
      { key: "estimated_cost_usd", label: "Cost", number: true, cell: (row) => figure(row.estimated_cost_usd, "money") },
      { key: "unpriced", label: "Unpriced", number: true, cell: unpriced },
    ],
  });
}
