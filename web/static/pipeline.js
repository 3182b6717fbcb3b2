// Whether the numbers can be trusted: the parts of this server, how far it is behind, the ledger, and what was refused.

import { EVERYTHING, MOST, part } from "./api.js";
import { h } from "./dom.js";
import { count, figure, minute, time } from "./format.js";
import { answered, empty, panel } from "./panel.js";
import { table } from "./table.js";

const COLUMNS = ["received", "aggregated", "pending", "orphaned", "duplicate", "late", "rejected"];

export const pipeline = {
  title: "Pipeline",

  async load(at) {
    const [status, ledger, letters] = await Promise.all([
      part(at.ask("/api/v1/status", EVERYTHING)),
      part(at.ask("/v1/ledger", { limit: MOST })),
      part(at.ask("/v1/dlq", { limit: 200 })),
    ]);
    return { status, ledger, letters };
  },

  draw({ status, ledger, letters }, { state }) {
    return [
      panel("This server", answered(status, health)),
      panel("Ledger", answered(ledger, ({ ledger: rows }) => books(rows, state))),
      panel("Dead letters", answered(letters, ({ letters: rows }) => refused(rows, state))),
    ];
  },
};

function health(status) {
  const parts = Object.entries(status.parts ?? {}).filter(([, each]) => typeof each === "object" && each && "ok" in each);
  const letters = Object.entries(status.dead_letters ?? {}).filter(([, number]) => number);
  const figures = [
    ["Freshness p95", figure(status.freshness_p95_s, "seconds"), "from the event's arrival to its row"],
    ["Records to read", figure(status.lag_records), "in the log, not counted yet"],
    ["Watermark lag", figure(status.watermark_lag_s, "seconds"), "how far event time is behind the clock"],
    ["Checkpoint age", figure(status.checkpoint_age_s, "seconds"), "since the oldest partition's last one"],
    ["Dead letters", figure(status.dead_letters && letters.reduce((sum, [, number]) => sum + number, 0)), `${letters.map(([reason, number]) => `${count(number)} ${reason}`).join(", ") || "none"} since the start`],
    ["Uptime", figure(status.uptime_s, "seconds"), [status.version && `version ${status.version}`, status.worker].filter(Boolean).join(", ")],
  ];
  return [
    h("p", { class: `verdict ${status.status === "healthy" ? "good" : "bad"}` }, status.status === "healthy" ? "All parts are well." : "Not all parts are well; events that were accepted are safe, and count when it is over."),
    parts.length > 0 && h("ul", { class: "parts" }, parts.map(([name, each]) => h("li", { class: each.ok ? "good" : "bad" }, h("b", {}, name), ` ${each.ok ? "well" : "not well"}`, each.detail && h("span", { class: "dim" }, ` ${each.detail}`)))),
    h("dl", { class: "tiles small" }, figures.map(([name, value, note]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", { class: "value" }, value), h("dd", { class: "note" }, note)))),
  ];
}

function books(rows, state) {
  if (!rows.length) return empty("No events in this time", "What is received is booked here, minute by minute.");
  const sums = Object.fromEntries(COLUMNS.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0)]));
  const open = rows.filter((row) => !row.closes).length;
  const columns = [
    { key: "minute", label: "Minute", cell: (row) => time(row.minute, minute) },
    !state.tenant && { key: "tenant_id", label: "Tenant", cell: (row) => row.tenant_id || h("span", { class: "dim", title: "not known before its request comes" }, "not known") },
    ...COLUMNS.map((name) => ({ key: name, label: name, number: true, cell: (row) => h("span", { class: row[name] ? null : "dim" }, figure(row[name])) })),
    { key: "closes", label: "Closes", fixed: true, cell: (row) => (row.closes ? h("span", { class: "good" }, "yes") : h("span", { class: "bad" }, "no")) },
  ].filter(Boolean);
  const foot = h("tr", {}, h("th", { scope: "row" }, "Sum"), !state.tenant && h("td", {}), COLUMNS.map((name) => h("td", { class: "n" }, figure(sums[name]))), h("td", {}));
  return [
    h("p", { class: `verdict ${open ? "bad" : "good"}` }, open ? `The books of ${count(open)} minutes do not close: run streamlens audit.` : ["Each of ", figure(sums.received), " events received is in exactly one column; the books close."]),
    rows.length === MOST && h("p", { class: "advice" }, `Only the newest ${count(MOST)} minutes of tenants are added up. Choose a shorter time.`),
    table({ caption: "Events received, and what became of them", name: "ledger_", size: 20, columns, rows, state, sort: "-minute", foot, quiet: true }),
  ];
}

function refused(rows, state) {
  if (!rows.length) return empty("None", "Every event of this time could be counted, or waits for its other half.");
  return [
    table({
      caption: "Dead letters, newest first", name: "letters_", state, rows, quiet: true,
      columns: [
        { key: "time", label: "Found", cell: (row) => time(row.time) },
        { key: "reason", label: "Reason", cell: (row) => h("span", { class: "tag error" }, row.reason) },
        { key: "field", label: "Field", cell: (row) => row.field || "–" },
        { key: "detail", label: "Detail", wide: true, fixed: true, cell: (row) => row.detail || "–" },
        !state.tenant && { key: "tenant_id", label: "Tenant", cell: (row) => row.tenant_id || "–" },
        { key: "topic", label: "Place in the log", fixed: true, cell: (row) => h("code", {}, `${row.topic}/${row.partition}/${row.offset}`) },
      ].filter(Boolean),
    }),
    h("p", { class: "dim" }, "streamlens dlq show TOPIC/PARTITION/OFFSET prints the event; streamlens dlq replay sends it again after a repair."),
  ];
}
