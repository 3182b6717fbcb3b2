// Who comes back, day by day, and how far users or sessions get through routes that follow each other.

import { ALWAYS, MOST, part } from "./api.js";
import { totals } from "./attention.js";
import { bar } from "./chart.js";
import { h } from "./dom.js";
import { date, figure, share } from "./format.js";
import { answered, choice, cut, empty, panel, search } from "./panel.js";
import { link } from "./url.js";

const DAYS = 7;
const COHORTS = 14;
const STEPS = 4; // of the funnel, the busiest routes, until others are named

export const users = {
  title: "Users",

  async load(at) {
    const { by, steps, of } = at.state;
    const [retention, found] = await Promise.all([
      part(at.ask("/v1/retention", { days: DAYS, cohorts: by ? 1 : COHORTS, by, ...ALWAYS })),
      busiest(at).then(async ({ routes, some }) => {
        const asked = steps || routes.slice(0, STEPS).join(",");
        return { routes, some, asked, funnel: asked ? await part(at.ask("/v1/funnel", { steps: asked, of: of ?? "users" })) : { value: null } };
      }),
    ]);
    return { retention, ...found };
  },

  draw({ retention, routes, some, asked, funnel }, { state }) {
    const by = state.by ?? "";
    return [
      panel("Who comes back", answered(retention, ({ cohorts }) => {
        const known = cohorts.filter(({ size }) => size);
        return known.length ? cohortTable(known) : empty("No users yet", NO_USERS);
      }), {
        aside: choice("Cohorts", [["", "all"], ["model", "by first model"], ["route", "by first route"]], by, (value) => link({ by: value })),
      }),
      panel("Funnel", [
        h("datalist", { id: "steps" }, routes.map((route) => h("option", { value: route }))),
        answered(funnel, (answer) => (answer?.steps.length ? funnelList(answer) : empty("No steps", "Name routes in the order in which users should reach them."))),
        cut(some),
      ], {
        aside: h("div", { class: "row" }, search("Routes, in order", "steps", asked, { list: "steps" }),
          choice("Of", [["", "users"], ["sessions", "sessions"]], state.of ?? "", (value) => link({ of: value }))),
      }),
    ];
  },
};

/** All routes, the one with the most calls first, and whether that is of some of them only. */
async function busiest(at) {
  const { value } = await part(at.ask("/v1/metrics", { step: "all", group_by: "route", limit: MOST }));
  const routes = totals(value?.metrics ?? [], "route", ["requests"]).sort(([, a], [, b]) => b.requests - a.requests).map(([route]) => route);
  return { routes, some: value?.next };
}

const NO_USERS = "No call has told who made it. Send user_id_hash with each request, and retention is here from the second day on.";

function cohortTable(cohorts) {
  const days = Math.max(...cohorts.map((cohort) => cohort.days.length));
  const named = cohorts.some(({ value }) => value != null);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Retention" }, h("table", { class: "cohorts" },
    h("caption", {}, "Of the users whose first call was on a day, how many called again on the days after. Days that are not over are in brackets."),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "First day"), named && h("th", { scope: "col" }, cohorts[0].by), h("th", { scope: "col", class: "n" }, "Users"),
      Array.from({ length: days }, (_, index) => h("th", { scope: "col", class: "n" }, `Day ${index + 1}`)))),
    h("tbody", {}, cohorts.map((cohort) => h("tr", {},
      h("th", { scope: "row" }, h("time", { datetime: cohort.cohort_date }, date(cohort.cohort_date))), named && h("td", {}, cohort.value ?? "–"), h("td", { class: "n" }, figure(cohort.size)),
      Array.from({ length: days }, (_, index) => dayCell(cohort.days[index])))))));
}

function dayCell(found) {
  if (found?.rate == null || Date.parse(found.date) > Date.now()) return h("td", { class: "n dim" }, "");
  const heat = Math.min(Math.ceil(found.rate * 10), 9);
  const shown = h("data", { value: found.rate, title: `${found.returned} users on ${found.date}` }, share(found.rate));
  return h("td", { class: `n heat-${heat}` }, found.complete ? shown : ["(", shown, ")"]);
}

function funnelList({ steps, of }) {
  return h("ol", { class: "funnel" }, steps.map((step, index) => h("li", {},
    h("span", { class: "name" }, step.route), bar(step.share_of_first ?? 0),
    h("span", {}, figure(step.reached), ` ${of}, `, figure(step.share_of_first, "share"), index > 0 && [" of the first, ", figure(step.share_of_previous, "share"), " of the step before"]))));
}
