// The page's course: what the URL says is asked, drawn, and asked again when the live stream says that it has changed.

import { ApiError, ask, key, setKey } from "./api.js";
import { breakdown } from "./breakdown.js";
import { calls } from "./calls.js";
import { cost } from "./cost.js";
import { h, show } from "./dom.js";
import { errors } from "./errors.js";
import { experiments } from "./experiments.js";
import { second } from "./format.js";
import { listen } from "./input.js";
import { follow } from "./live.js";
import { overview } from "./overview.js";
import { problem } from "./panel.js";
import { pipeline } from "./pipeline.js";
import { sessions } from "./sessions.js";
import { signIn, welcome } from "./start.js";
import { startTheme } from "./theme.js";
import { link, onChange, RANGES, span, state } from "./url.js";
import { users } from "./users.js";

const VIEWS = { overview, breakdown, errors, cost, experiments, users, calls, sessions, pipeline };
const PAUSE_MS = 1000; // between two looks, at least
const POLL_MS = 2000; // without a stream
const QUIET_MS = 15_000; // with one: time goes on even when nothing changes
const SETTLE_MS = 100; // the stream tells of rows as they are sent to the database,
const LOOKS = 3; // so one look may be too early: so many follow a change
const TENANTS_MS = 30_000;
const LATE_MS = 3000; // a look that fails for so long makes the page stale

const element = (id) => document.getElementById(id);
const page = {
  tenants: [], tenantsAt: 0, // what the picker offers
  shown: "", // the view, tenant and time that stand on the page
  data: null, // what it was drawn from, and which question that answers
  good: 0, // when the last answer came
  stream: "starting", // open, closed, stale
  looking: null, // the look under way
  due: 0, timer: 0, owed: 0, // when the next look may be, and how many follow a change
  follower: null, followed: null,
};

/** Ask all that the view shows, and draw it. A change of the URL ends a look that is under way. */
async function look() {
  const [began, now] = [Date.now(), state()];
  page.owed = Math.max(0, page.owed - 1);
  const view = Object.hasOwn(VIEWS, now.view) ? VIEWS[now.view] : overview;
  const looking = (page.looking = new AbortController());
  const during = span();
  const shown = JSON.stringify([now.view, now.tenant, now.range, now.from, now.to]);
  if (page.shown !== shown) element("view").setAttribute("aria-busy", "true");
  const at = {
    state: now,
    span: during,
    // Every question has the page's tenant and time, unless it says otherwise (ALWAYS, EVERYTHING).
    ask: (path, query) => ask(path, { tenant_id: now.tenant, from: during.from, to: during.to, ...query }, looking.signal),
  };
  try {
    const [, found] = await Promise.all([listTenants(looking.signal), view.load(at)]);
    const data = page.tenants.length || now.view === "pipeline" ? found : null;
    if (looking.signal.aborted) return;
    page.data = data && { of: question(now), draw: (state) => view.draw(data, { ...at, state }) };
    show(element("view"), data ? page.data.draw(now) : welcome());
    if (page.shown !== shown) document.title = `${view.title} – StreamLens`;
    page.shown = shown;
    page.good = Date.now();
    element("view").removeAttribute("aria-busy");
    document.body.classList.remove("closed", "stale");
  } catch (error) {
    if (looking.signal.aborted) return;
    failed(error, shown);
  } finally {
    if (page.looking === looking) {
      page.looking = null;
      again(4 * (Date.now() - began)); // long questions are asked less often
    }
    tell();
  }
}

function failed(error, shown) {
  element("view").removeAttribute("aria-busy");
  if (error instanceof ApiError && error.status === 401) return locked(error);
  if (!(error instanceof ApiError)) console.error(error);
  // Numbers that were right a moment ago are better than none, as long as they say how old they are.
  if (page.shown === shown && error instanceof ApiError && page.good) document.body.classList.toggle("stale", Date.now() - page.good > LATE_MS);
  else {
    page.data = null;
    show(element("view"), problem(error));
    page.shown = "";
    page.good = 0;
  }
  page.failure = error;
}

function locked(error) {
  document.body.classList.add("closed");
  unfollow();
  page.shown = "";
  page.data = null;
  show(element("view"), signIn(key() ? error.message : ""));
}

async function listTenants(signal) {
  if (Date.now() - page.tenantsAt < TENANTS_MS && page.tenants.length) return;
  const { tenants } = await ask("/v1/tenants", {}, signal);
  page.tenants = tenants.map(({ tenant_id: name }) => name);
  page.tenantsAt = Date.now();
}

/** The parts around the view: where one is, and how live it is. */
function frame() {
  const now = state();
  show(element("views"), Object.entries(VIEWS).map(([name, { title }]) =>
    h("a", { href: link({ view: name }), "aria-current": name === now.view ? "page" : null }, title)));
  const names = now.tenant && !page.tenants.includes(now.tenant) ? [now.tenant, ...page.tenants] : page.tenants;
  show(element("tenant"), [["", page.tenants.length === 1 && key() ? page.tenants[0] : "All tenants"], ...names.map((name) => [name, name])]
    .map(([value, text]) => h("option", { value, selected: value === now.tenant }, text)));
  show(element("ranges"), Object.keys(RANGES).map((name) =>
    h("a", { href: link({ range: name, from: "", to: "", page: "", cursor: "" }), "aria-current": !now.from && name === now.range ? "true" : null }, name)),
  now.from && h("a", { href: link({ from: "", to: "" }), "aria-current": "true", title: `${now.from} to ${now.to}` }, "chosen ✕"));
  element("leave").hidden = !key();
}

/** Say how live the page is, in words that change only when it does. */
function tell() {
  const stale = document.body.classList.contains("stale");
  const [kind, text] = document.body.classList.contains("closed") ? ["closed", "signed out"]
    : stale ? ["stale", `stale since ${second(page.good)}: ${page.failure?.message ?? ""}`]
      : !page.good ? ["starting", page.failure ? "no answer" : "loading"]
        : page.stream === "stale" ? ["stale", "the server has no new numbers now"]
          : page.stream === "open" ? ["live", "live"] : ["polling", `polling every ${POLL_MS / 1000} s`];
  const status = element("state");
  if (status.dataset.state !== kind) status.dataset.state = kind;
  if (status.textContent !== text) status.textContent = text;
  frame();
}

/** Look again after a pause, which is longer when nothing says that something has changed. */
function again(ms) {
  const pause = Math.max(PAUSE_MS, ms);
  // A change need not wait out the pause after a look that was for the one before.
  page.due = Date.now() + (page.owed < LOOKS - 1 ? Math.max(SETTLE_MS, ms) : pause);
  const quiet = page.owed ? 0 : page.stream === "open" ? QUIET_MS : POLL_MS;
  if (!document.body.classList.contains("closed")) schedule(Math.max(pause, quiet));
}

function schedule(ms) {
  clearTimeout(page.timer);
  page.timer = setTimeout(() => (document.hidden ? schedule(PAUSE_MS) : page.looking || look()), ms);
}

/** Something has changed: look as soon as the pause is over. */
function changed() {
  page.owed = LOOKS;
  if (!page.looking) schedule(Math.max(SETTLE_MS, page.due - Date.now()));
}

/** The state without what only orders and turns what was answered. */
const question = (now) => JSON.stringify(Object.entries(now).filter(([name]) => !/^q$|sort$|page$/.test(name)));

/** The URL has changed: look at once. What was answered already needs no waiting. */
function moved() {
  if (page.data?.of === question(state())) show(element("view"), page.data.draw(state()));
  page.looking?.abort();
  page.looking = null;
  page.failure = null;
  frame();
  followTenant();
  look();
}

function followTenant() {
  const { tenant } = state();
  if (page.followed === tenant || document.hidden) return;
  unfollow();
  page.follower = new AbortController();
  page.followed = tenant;
  follow(tenant, (kind) => {
    if (kind !== "rows") page.stream = kind; // rows come while Postgres is away, too
    tell();
    if (kind !== "closed") changed();
  }, page.follower.signal);
}

function unfollow() {
  page.follower?.abort();
  page.followed = null;
}

/** A tab that nobody looks at leaves its connection to others: browsers have six of them for a host. */
function looked() {
  if (document.hidden) return unfollow();
  followTenant();
  changed();
}

element("leave").addEventListener("click", () => {
  setKey(null);
  page.tenants = [];
  page.tenantsAt = 0;
  page.followed = null;
  Object.assign(page, { data: null, shown: "", good: 0 }); // they were for who has left
  document.body.classList.remove("stale");
  show(element("view"));
  moved();
});
document.addEventListener("visibilitychange", looked);
listen({ signedIn: () => { document.body.classList.remove("closed"); page.followed = null; page.tenantsAt = 0; moved(); } });
startTheme();
onChange(moved);
moved();
