// Sessions of users: what each did and cost, and the calls of one.

import { ALWAYS, part } from "./api.js";
import { callPanel, callTable, oneCall } from "./calls.js";
import { h } from "./dom.js";
import { figure, seconds, time } from "./format.js";
import { answered, empty, panel, search } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

const LIMIT = 100;

export const sessions = {
  title: "Sessions",

  async load(at) {
    const { session, user, cursor } = at.state;
    const [list, one, call] = await Promise.all([
      part(at.ask("/v1/sessions", { user_id: user, cursor, limit: LIMIT })),
      session ? part(at.ask(`/v1/sessions/${encodeURIComponent(session)}`, ALWAYS)) : null,
      oneCall(at),
    ]);
    return { list, one, call };
  },

  draw({ list, one, call }, { state }) {
    return [
      call && callPanel(call, state),
      one && panel(`Session ${state.session}`, answered(one, (answer) => detail(answer, state)), {
        aside: h("a", { href: link({ session: "" }), "data-close": call ? null : true }, "Close ✕"), kind: "details",
      }),
      panel("Sessions", answered(list, ({ sessions: rows, next }) => [
        rows.length ? listing(rows, state) : empty("No sessions", "No call in this time has told a session_id. Send one with each request, and what a user did is here as a whole."),
        h("nav", { class: "turner", "aria-label": "Pages" },
          state.cursor ? h("a", { href: link({ cursor: "" }) }, "← First") : h("span", { class: "dim" }, "← First"),
          next ? h("a", { href: link({ cursor: next }) }, "Next →") : h("span", { class: "dim" }, "Next →")),
      ]), { aside: search("User id", "user", state.user) }),
    ];
  },
};

const lasted = (row) => (Date.parse(row.last_at) - Date.parse(row.started_at)) / 1000;

function listing(rows, state) {
  return table({
    caption: "Sessions", state, rows, quiet: true,
    href: (row) => link({ session: row.session_id, call: "", of: "" }),
    columns: [
      { key: "session_id", label: "Session", wide: true, fixed: true },
      !state.tenant && { key: "tenant_id", label: "Tenant", fixed: true },
      { key: "user", label: "User", fixed: true, cell: (row) => (row.user ? h("code", { title: row.user }, row.user.slice(0, 8)) : "–") },
      { key: "started_at", label: "Started", fixed: true, cell: (row) => time(row.started_at) },
      { key: "last_at", label: "Lasted", fixed: true, number: true, cell: (row) => (row.calls > 1 ? seconds(lasted(row)) : "–") },
      { key: "calls", label: "Calls", fixed: true, number: true, cell: (row) => figure(row.calls) },
      { key: "errors", label: "Errors", fixed: true, number: true, cell: (row) => h("span", { class: row.errors ? "bad" : "dim" }, figure(row.errors)) },
      { key: "tokens", label: "Tokens", fixed: true, number: true, cell: (row) => figure(row.prompt_tokens + row.completion_tokens) },
      { key: "cost", label: "Cost", fixed: true, number: true, cell: (row) => figure(row.estimated_cost_usd, "money") },
      { key: "routes", label: "Routes", fixed: true, cell: (row) => row.routes.join(" → ") },
    ].filter(Boolean),
  });
}

function detail({ sessions: found, calls: rows }, state) {
  return [
    found.map((row) => h("dl", { class: "facts" }, [
      ["Tenant", row.tenant_id], ["User", row.user && h("code", {}, row.user)], ["Started", time(row.started_at)], ["Lasted", seconds(lasted(row))],
      ["Calls", figure(row.calls)], ["Errors", figure(row.errors)], ["Cost", figure(row.estimated_cost_usd, "money")], ["Routes", row.routes.join(", ")],
    ].filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))),
    rows.length ? callTable(rows, state, { name: "calls_" }) : empty("None of its calls is kept", "Errors, the slowest calls and a sample are; this session's are only in its sums."),
  ];
}
