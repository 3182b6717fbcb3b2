// Recent calls that are kept whole: all errors, the slowest, and a sample; and everything about one of them.

import { ALWAYS, part } from "./api.js";
import { h } from "./dom.js";
import { figure, time } from "./format.js";
import { answered, empty, panel, search, select } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

const LIMIT = 100;
const KEPT = [["", "any"], ["error", "errors"], ["slow", "slowest"], ["sample", "sample"]];
const TYPES = ["timeout", "rate_limit", "server_error", "client_error", "content_filter", "cancelled", "model_error", "other"];

export const calls = {
  title: "Calls",

  async load(at) {
    const { route, model, kept, error_type, order, cursor, session_id } = at.state;
    const [list, one] = await Promise.all([
      part(at.ask("/v1/calls", { route, model, kept, error_type, order, cursor, session_id, limit: LIMIT })),
      oneCall(at),
    ]);
    return { list, one };
  },

  draw({ list, one }, { state }) {
    const controls = h("div", { class: "row" },
      search("Route", "route", state.route), search("Model", "model", state.model),
      select("Kept as", "kept", KEPT, state.kept),
      select("Error type", "error_type", [["", "any"], ...TYPES.map((type) => [type, type])], state.error_type),
      select("Order", "order", [["", "newest first"], ["slowest", "slowest first"]], state.order));
    return [
      one && callPanel(one, state),
      panel("Recent calls", answered(list, ({ calls: rows, next }) => [
        rows.length ? callTable(rows, state, { sortable: false }) : empty("No calls", "None that is kept fits. Of the others only their sums are known: see Breakdown. Loosen a filter, or choose a longer time."),
        h("nav", { class: "turner", "aria-label": "Pages" },
          state.cursor ? h("a", { href: link({ cursor: "" }) }, "← First") : h("span", { class: "dim" }, "← First"),
          next ? h("a", { href: link({ cursor: next }) }, "Next →") : h("span", { class: "dim" }, "Next →")),
      ]), { aside: controls }),
    ];
  },
};

/** The answer about the call that the URL names, or null. */
export function oneCall(at) {
  const { call, of } = at.state;
  return call ? part(at.ask(`/v1/calls/${encodeURIComponent(call)}`, { tenant_id: of, ...ALWAYS })) : null;
}

/** A table of calls; its rows open one of them in the view that is shown. */
export function callTable(rows, state, { name = "", sortable = true } = {}) {
  const columns = [
    { key: "at", label: "Time", cell: (row) => time(row.at) },
    { key: "route", label: "Route" },
    { key: "model", label: "Model" },
    !state.tenant && { key: "tenant_id", label: "Tenant" },
    { key: "error_type", label: "Outcome", cell: outcome, wide: true },
    { key: "latency_ms", label: "Latency", number: true, cell: (row) => figure(row.latency_ms, "ms") },
    { key: "ttft_ms", label: "First token", number: true, cell: (row) => figure(row.ttft_ms, "ms") },
    { key: "prompt_tokens", label: "In", number: true, cell: (row) => figure(row.prompt_tokens) },
    { key: "completion_tokens", label: "Out", number: true, cell: (row) => figure(row.completion_tokens) },
    { key: "estimated_cost_usd", label: "Cost", number: true, cell: (row) => figure(row.estimated_cost_usd, "money") },
    { key: "kept", label: "Kept as", fixed: true, cell: (row) => row.kept.map((why) => h("span", { class: `tag ${why}` }, why)) },
  ].filter(Boolean).map((column) => (sortable ? column : { ...column, fixed: true }));
  return table({ caption: "Calls", name, columns, rows, state, quiet: true, href: (row) => link({ call: row.request_id, of: row.tenant_id }) });
}

function outcome(row) {
  if (!row.error_type && !row.error) return h("span", { class: "dim" }, row.finish_reason ?? "ok");
  const why = [row.error_type_raw ?? row.error_type, row.error].filter(Boolean).join(": ");
  return h("span", { class: "bad", title: why }, why);
}

/** Everything about one call, with a way to close it (Escape does it too). */
export function callPanel(answer, state) {
  const close = h("a", { href: link({ call: "", of: "" }), "data-close": true }, "Close ✕");
  return panel(`Call ${state.call}`, answered(answer, ({ calls: found }) => found.map(details)), { aside: close, kind: "details" });
}

function details(call) {
  const facts = [
    ["Outcome", outcome(call)], ["Time", time(call.at)], ["Tenant", call.tenant_id], ["Route", call.route],
    ["Model", [call.model, call.model_version].filter(Boolean).join(" ")], ["Provider", call.provider],
    ["Latency", figure(call.latency_ms, "ms")], ["First token", figure(call.ttft_ms, "ms")],
    ["Cost", figure(call.estimated_cost_usd, "money")], ["Tokens in", figure(call.prompt_tokens)], ["of them cached", figure(call.cached_tokens)],
    ["Tokens out", figure(call.completion_tokens)], ["of them reasoning", figure(call.reasoning_tokens)], ["Finish reason", call.finish_reason],
    ["User", call.user_id_hash && h("code", {}, call.user_id_hash)],
    ["Session", call.session_id && h("a", { href: link({ view: "sessions", session: call.session_id }) }, call.session_id)],
    ["Experiment", call.experiment && [call.experiment, call.variant].filter(Boolean).join(" / ")], ["Prompt version", call.prompt_version], ["Region", call.region],
    ...Object.entries(call.metadata ?? {}),
  ];
  return h("div", {},
    h("dl", { class: "facts" }, facts.filter(([, value]) => value != null && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    ["prompt", "response"].map((name) => (call[name] == null ? null : [h("h3", {}, name === "prompt" ? "Prompt" : "Response"), h("pre", { tabindex: "0" }, call[name])])),
    call.prompt == null && call.response == null && h("p", { class: "dim" }, "Its texts are not kept: STREAMLENS_CAPTURE_CONTENT was off when it was counted."));
}
