// Rows of /v1/metrics as a table: what all groupings share.

import { bar } from "./chart.js";
import { h } from "./dom.js";
import { figure } from "./format.js";
import { empty } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

/** A table of rows grouped by `by`: a route, model, facet or tenant. `top`: only so many, the busiest. */
export function grouped(rows, by, { state, top, tenants, name = "" }) {
  if (!rows.length) return empty("No calls in this time", "Choose a longer time above, or all tenants.");
  const label = { tenant: "tenant_id", route: "route", "route,model": "route", model: "model" }[by] ?? "value";
  const most = Math.max(...rows.map((row) => row.requests));
  const usual = rows.reduce((sum, row) => sum + row.errors, 0) / rows.reduce((sum, row) => sum + row.requests, 0);
  const shown = top ? [...rows].sort((a, b) => b.requests - a.requests).slice(0, top) : rows;
  const columns = [
    { key: label, label: LABELS[by] ?? by.replaceAll("_", " "), wide: true, cell: (row) => row[label] },
    by === "route,model" && { key: "model", label: "Model" },
    tenants && by !== "tenant" && { key: "tenant_id", label: "Tenant" },
    { key: "requests", label: "Calls", number: true, cell: (row) => h("span", { class: "barred" }, bar(row.requests / most), figure(row.requests)) },
    { key: "error_rate", label: "Errors", number: true, cell: (row) => h("span", { class: row.error_rate > 1.5 * usual ? "bad" : row.errors ? null : "dim" }, figure(row.error_rate, "share")) },
    { key: "p50_latency_ms", label: "p50", number: true, cell: (row) => figure(row.p50_latency_ms, "ms") },
    { key: "p95_latency_ms", label: "p95", number: true, cell: (row) => figure(row.p95_latency_ms, "ms") },
    { key: "p99_latency_ms", label: "p99", number: true, cell: (row) => figure(row.p99_latency_ms, "ms") },
    { key: "prompt_tokens", label: "Tokens in", number: true, cell: (row) => figure(row.prompt_tokens) },
    { key: "completion_tokens", label: "Tokens out", number: true, cell: (row) => figure(row.completion_tokens) },
    { key: "estimated_cost_usd", label: "Cost", number: true, cell: (row) => figure(row.estimated_cost_usd, "money") },
  ].filter(Boolean);
  const href = (row) => ({ route: link({ view: "calls", route: row.route }), model: link({ view: "calls", model: row.model }), tenant: link({ view: "overview", tenant: row.tenant_id }) })[by];
  return table({ caption: `Calls by ${LABELS[by] ?? by}`, name, columns, rows: shown, state, sort: "-requests", href, quiet: true });
}

export const LABELS = {
  route: "Route", model: "Model", "route,model": "Route", tenant: "Tenant", provider: "Provider", experiment: "Experiment", variant: "Variant",
  prompt_version: "Prompt version", model_version: "Model version", region: "Region", country: "Country", client_app: "Client app",
  error_type: "Error type", finish_reason: "Finish reason", sender: "Sender",
};
