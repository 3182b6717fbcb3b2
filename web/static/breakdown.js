// Calls by anything that they are counted by: route, model, tenant, or a facet.

import { EVERYTHING, part } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { answered, panel, search, select } from "./panel.js";
import { grouped, LABELS } from "./rows.js";

const MOST = 10_000;
const GROUPS = { tenant: "none" }; // the API's name, where it is another one

export const breakdown = {
  title: "Breakdown",

  async load(at) {
    const by = at.state.by in LABELS ? at.state.by : "route";
    const [rows, status] = await Promise.all([
      part(at.ask("/v1/metrics", { step: "all", group_by: GROUPS[by] ?? by, limit: MOST })),
      part(at.ask("/api/v1/status", EVERYTHING)),
    ]);
    return { by, rows, facets: status.value?.settings?.facets };
  },

  draw({ by, rows, facets }, { state }) {
    const words = (state.q ?? "").toLowerCase();
    const options = Object.entries(LABELS).map(([value, text]) => [value, value === "route,model" ? "Route and model" : text]);
    const kept = options.filter(([value]) => PLAIN.includes(value) || !facets || facets.includes(value));
    const controls = h("div", { class: "row" }, select("Group by", "by", kept, by), search("Filter", "q", state.q));
    return panel(`By ${(LABELS[by] ?? by).toLowerCase()}`, answered(rows, ({ metrics }) => {
      const found = metrics.filter((row) => [row.tenant_id, row.route, row.model, row.value].some((name) => name?.toLowerCase().includes(words)));
      return [
        grouped(found, by, { state, tenants: !state.tenant }),
        metrics.length === MOST && h("p", { class: "dim" }, `Only ${count(MOST)} rows are shown: choose a tenant.`),
      ];
    }), { aside: controls });
  },
};

const PLAIN = ["route", "model", "route,model", "tenant"];
