// All that the page shows is said by its URL, so a link is a saved view, and the browser's back goes back.

const DEFAULTS = { view: "overview", range: "1h", tenant: "", from: "", to: "" };
const KEPT = ["tenant", "range", "from", "to"]; // when another view is opened
export const RANGES = { "15m": 15, "1h": 60, "6h": 360, "24h": 1440, "7d": 10_080, "30d": 43_200 };
const MINUTE = 60_000;
const MINUTES_KEPT = 10_080; // unless STREAMLENS_RETENTION_DAYS says otherwise; hours stay longer
const listeners = [];

/** What the URL says, with defaults for what it leaves out. */
export function state() {
  const said = Object.fromEntries(new URLSearchParams(location.search));
  const found = { ...DEFAULTS, ...said };
  if (!Object.hasOwn(RANGES, found.range)) found.range = DEFAULTS.range;
  if (!(Date.parse(found.from) < Date.parse(found.to))) found.from = found.to = "";
  return found;
}

/** The link to the present state with some values changed; a change of `view` leaves only tenant and time. */
export function link(changes) {
  const now = state();
  const base = "view" in changes ? Object.fromEntries(KEPT.map((name) => [name, now[name]])) : now;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ view: now.view, ...base, ...changes })) {
    if (value != null && value !== "" && value !== DEFAULTS[name]) query.set(name, value);
  }
  return `?${query}`;
}

/** Go to a state: a new entry of the history, or in place of this one. */
export function go(changes, { replace = false } = {}) {
  follow(link(changes), replace);
}

export function follow(href, replace = false) {
  const target = href === "?" ? location.pathname : href;
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  listeners.forEach((listener) => listener());
}

export function onChange(listener) {
  listeners.push(listener);
  addEventListener("popstate", listener);
}

/** The time that is asked for: `from` and `to` as RFC 3339, a step that gives some hundred points, and whether it ends
 * now. The minute under way is part of it. */
export function span(now = Date.now()) {
  const { range, from, to } = state();
  const live = !from;
  const end = live ? Math.floor(now / MINUTE + 1) * MINUTE : Date.parse(to);
  const begin = live ? end - RANGES[range] * MINUTE : Date.parse(from);
  const minutes = (end - begin) / MINUTE;
  const fine = now - begin <= MINUTES_KEPT * MINUTE;
  const step = fine && minutes <= 360 ? "1m" : fine && minutes <= 1440 ? "5m" : minutes <= 43_200 ? "1h" : "1d";
  return { from: iso(begin), to: iso(end), begin, end, step, live };
}

export const iso = (time) => new Date(time).toISOString().replace(".000Z", "Z");
