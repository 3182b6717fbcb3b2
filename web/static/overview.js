// What happens, at a glance: figures beside the period before, calls and latency over time, and what needs attention.

import { MOST, part } from "./api.js";
import { attention, totals } from "./attention.js";
import { bar, sparkline, timeChart } from "./chart.js";
import { h } from "./dom.js";
import { axis, count, figure, ms, share, text, time } from "./format.js";
import { answered, choice, cut, empty, panel } from "./panel.js";
import { grouped } from "./rows.js";
import { link } from "./url.js";

const RATE_MINUTES = 5;
const SHOWN = 5; // models

export const overview = {
  title: "Overview",

  async load(at) {
    const { span } = at;
    const recent = { from: new Date(span.end - (RATE_MINUTES + 1) * 60_000).toISOString(), to: span.to, step: "1m" };
    const [totals, points, models, routes, errors, letters, rate] = await Promise.all([
      part(at.ask("/api/v1/analytics/dashboard")),
      part(at.ask("/api/v1/analytics/requests/timeseries", { step: span.step })),
      part(at.ask("/v1/metrics", { step: "all", group_by: "model", limit: MOST })),
      part(at.ask("/v1/metrics", { step: "all", group_by: "route", limit: MOST })),
      part(at.ask("/v1/errors/top", { limit: MOST })),
      part(at.ask("/v1/dlq", { limit: 1000 })),
      part(span.live ? at.ask("/api/v1/analytics/requests/timeseries", recent) : Promise.resolve({ points: [] })),
    ]);
    return { totals, points, models, routes, errors, letters, rate };
  },

  draw(data, { state, span }) {
    const by = state.by === "model" ? "model" : "route";
    return [
      answered(data.totals, (totals) => tiles(totals, data.points.value?.points ?? [], data.rate.value?.points ?? [], span)),
      h("div", { class: "columns" },
        h("div", { class: "stack aside" },
          panel("What needs attention", attention(data)),
          panel("Cost by model", answered(data.models, ({ metrics, next }) => [costs(metrics), cut(next)]), { aside: h("a", { href: link({ view: "cost" }) }, "All →") })),
        answered(data.points, ({ points }) => h("div", { class: "stack" }, calls(points, span, data.totals.value), latency(points, span, data.totals.value)))),
      panel(`Busiest ${by}s`, answered(data[`${by}s`], ({ metrics, next }) => [grouped(metrics, by, { state, top: 8, tenants: !state.tenant }), cut(next)]), {
        aside: h("div", { class: "row" }, choice("Group by", [["route", "by route"], ["model", "by model"]], by, (value) => link({ by: value === "route" ? "" : value })),
          h("a", { href: link({ view: "breakdown", by }) }, "All →")),
      }),
    ];
  },
};

function tiles(now, points, recent, span) {
  const before = now.previous ?? {};
  const tokens = (row) => (row.prompt_tokens ?? 0) + (row.completion_tokens ?? 0);
  const over = span.live ? points.slice(0, -1) : points; // the step under way would look like a fall
  const values = (name) => over.map((point) => point[name]);
  return h("dl", { class: "tiles" },
    tile("Calls", figure(now.requests), change(now.requests, before.requests), `${count(now.active_routes)} routes, ${count(now.active_models)} models`, values("requests")),
    tile("Error rate", figure(now.error_rate, "share"), points_change(now.error_rate, before.error_rate), h("span", {}, figure(now.errors), " errors"),
      over.map((point) => (point.requests ? point.errors / point.requests : null)), "failing"),
    tile("Latency p95", figure(now.p95_latency_ms, "ms"), change(now.p95_latency_ms, before.p95_latency_ms, "worse"),
      h("span", {}, "p50 ", figure(now.p50_latency_ms, "ms"), " · p99 ", figure(now.p99_latency_ms, "ms")), values("p95_latency_ms")),
    tile("Tokens", figure(tokens(now)), change(tokens(now), before.requests == null ? null : tokens(before)),
      h("span", {}, figure(now.prompt_tokens), " in · ", figure(now.completion_tokens), " out"), over.map(tokens)),
    tile("Cost", figure(now.estimated_cost_usd, "money"), change(now.estimated_cost_usd, before.estimated_cost_usd),
      now.unpriced ? h("a", { href: link({ view: "cost" }) }, figure(now.unpriced), " unpriced calls") : "all calls priced", values("estimated_cost_usd")),
    rateTile(recent, span));
}

function tile(name, value, difference, note, line, kind = "") {
  return h("div", { class: `tile ${kind}` }, h("dt", {}, name), h("dd", { class: "value" }, value, difference), h("dd", { class: "note" }, note),
    h("dd", { class: "line" }, sparkline(line)));
}

/** Dollars an hour at the pace of the last whole minutes. */
function rateTile(recent, span) {
  if (!span.live) return tile("Time", h("span", {}, time(span.from)), null, h("span", {}, "to ", time(span.to)), []);
  const whole = recent.slice(0, -1).slice(-RATE_MINUTES);
  const known = whole.map((point) => point.estimated_cost_usd).filter((cost) => cost != null);
  const rate = known.length ? (known.reduce((sum, cost) => sum + cost, 0) * 60) / RATE_MINUTES : null;
  return tile("Cost now", h("span", {}, figure(rate, "money"), h("small", {}, "/h")), null, `pace of the last ${RATE_MINUTES} min`, whole.map((point) => point.estimated_cost_usd));
}

function change(now, before, meaning = "") {
  if (now == null || !before) return null;
  const ratio = now / before - 1;
  const told = `${text(Math.abs(ratio), "share")} ${ratio < 0 ? "less" : "more"} than in the period before (${count(before)})`;
  return arrow(ratio, Math.abs(ratio) < 0.005 ? "±0 %" : text(Math.abs(ratio), "share"), told, meaning);
}

function points_change(now, before) {
  if (now == null || before == null) return null;
  const difference = (now - before) * 100;
  const told = `${share(before)} in the period before`;
  return arrow(difference, Math.abs(difference) < 0.05 ? "±0" : `${Math.abs(difference).toFixed(1)} pt`, told, "worse");
}

/** `meaning` "worse": more is worse. Otherwise more is just more. */
function arrow(difference, shown, told, meaning) {
  const still = shown.startsWith("±");
  const kind = still || !meaning ? "" : difference > 0 ? "worse" : "better";
  const mark = still ? "" : difference > 0 ? "▲ " : "▼ ";
  return h("span", { class: `change ${kind}`, title: told }, h("span", { "aria-hidden": "true" }, `${mark}${shown}`), h("span", { class: "hidden" }, told));
}

/** The models that cost most, of all tenants together. */
function costs(rows) {
  const models = totals(rows.filter((row) => row.estimated_cost_usd != null), "model", ["estimated_cost_usd"]);
  if (!models.length) return empty("Nothing has a price", "Calls cost what the price catalogue or STREAMLENS_PRICES_FILE says.");
  const ranked = models.map(([model, sums]) => [model, sums.estimated_cost_usd]).sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  return h("ol", { class: "ranks" }, ranked.map(([model, cost]) =>
    h("li", {}, h("a", { href: link({ view: "calls", model }) }, model), figure(cost, "money"), bar(cost / ranked[0][1]))));
}

const times = (points) => points.map((point) => Date.parse(point.at) / 1000);

function calls(points, span, totals) {
  const busiest = points.reduce((most, point) => (point.requests > (most?.requests ?? 0) ? point : most), null);
  const errors = points.reduce((sum, point) => sum + point.errors, 0);
  return timeChart({
    title: `Calls per ${STEPS[span.step]}`,
    told: busiest ? `${count(totals?.requests ?? 0)} calls, ${count(errors)} of them errors. Most at once: ${count(busiest.requests)} at ${busiest.at}.` : "No calls.",
    times: times(points),
    span,
    format: count,
    axis: axis.count,
    series: [
      { name: "calls", values: points.map((point) => point.requests), colour: "calls", bars: true, summary: totals?.requests },
      { name: "errors", values: points.map((point) => point.errors), colour: "errors", bars: true, summary: totals?.errors },
    ],
  });
}

const STEPS = { "1m": "minute", "5m": "5 minutes", "1h": "hour", "1d": "day" };

function latency(points, span, totals) {
  const names = ["p99", "p95", "p50"];
  return timeChart({
    title: "Latency",
    told: totals?.requests ? `Half of the calls took up to ${text(totals.p50_latency_ms, "ms")}, 95 % up to ${text(totals.p95_latency_ms, "ms")}, 99 % up to ${text(totals.p99_latency_ms, "ms")}.` : "No calls.",
    times: times(points),
    span,
    format: ms,
    axis: axis.ms,
    series: names.map((name) => ({ name, values: points.map((point) => point[`${name}_latency_ms`]), colour: name, summary: totals?.[`${name}_latency_ms`] })),
    bands: [[0, 1, "p99-soft"], [1, 2, "p95-soft"]],
    size: "low",
  });
}
