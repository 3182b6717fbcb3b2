// Polls the newest rows each second and says plainly what it sees: live, stale, empty, or out of reach.

const POLL_MS = 1000;
const STALE_MS = 5000;
const [tenant, state, rows, empty, example] = ["tenant", "state", "rows", "empty", "example"].map((id) => document.getElementById(id));
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 6 });
let answeredAt = 0;

async function get(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(POLL_MS * 8) });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

const shown = (value, format = number) => (value == null ? "–" : format.format(value));

function draw(row) {
  const cells = [
    [new Date(row.window_start).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })],
    [row.tenant_id], [row.route], [row.model],
    [shown(row.requests), "n"],
    [shown(row.errors), row.errors ? "n bad" : "n"],
    [shown(row.p50_latency_ms), "n"], [shown(row.p95_latency_ms), "n"],
    [shown(row.prompt_tokens), "n"], [shown(row.completion_tokens), "n"],
    [shown(row.estimated_cost_usd, money), "n"],
  ];
  const line = document.createElement("tr");
  for (const [text, kind = ""] of cells) {
    const cell = line.insertCell();
    cell.textContent = cell.title = text;
    cell.className = kind;
  }
  return line;
}

function tell(kind, text) {
  if (state.textContent === text) return; // a screen reader would say it again
  state.dataset.state = kind;
  state.textContent = text;
}

async function refresh() {
  const query = new URLSearchParams({ limit: 60, tenant_id: tenant.value });
  try {
    const { metrics } = await get(`/v1/metrics?${query}`);
    answeredAt = Date.now();
    rows.replaceChildren(...metrics.map(draw));
    empty.hidden = metrics.length > 0;
    tell("live", "live");
  } catch (error) {
    const age = Date.now() - answeredAt;
    if (answeredAt && age < STALE_MS) return;
    const since = answeredAt ? `stale since ${new Date(answeredAt).toLocaleTimeString()}: ` : "";
    tell(answeredAt ? "stale" : "error", `${since}${error.message} – see /ready; trying again`);
  }
}

async function listTenants() {
  const { tenants } = await get("/v1/tenants");
  const known = new Set([...tenant.options].map((option) => option.value));
  for (const entry of tenants) {
    const name = typeof entry === "string" ? entry : entry.tenant_id;
    if (!known.has(name)) tenant.add(new Option(name, name));
  }
}

async function every(ms, action) {
  for (;;) {
    if (!document.hidden) await action().catch(() => {});
    await new Promise((resume) => setTimeout(resume, ms));
  }
}

const call = { request_id: "r-1", tenant_id: "acme", route: "chat", model: "gpt-4o-mini", timestamp: 0, latency_ms: 420, prompt_tokens: 350, completion_tokens: 90 };
const sent = JSON.stringify(call).replace('"timestamp":0', `"timestamp":'$(date +%s)000'`);
example.textContent = `curl ${location.origin}/v1/llm/call -H 'Content-Type: application/json' \\\n  -d '${sent}'`;
tenant.addEventListener("change", refresh);
every(POLL_MS, refresh);
every(POLL_MS * 10, listTenants);
