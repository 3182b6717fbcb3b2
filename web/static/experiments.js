// Experiments: how variants differ from the baseline, how sure that is, and whether their calls were split as meant.

import { part } from "./api.js";
import { h } from "./dom.js";
import { count, figure, minute, text, time } from "./format.js";
import { answered, empty, panel, select } from "./panel.js";
import { table } from "./table.js";
import { link } from "./url.js";

const METRICS = { latency_ms: ["Latency", "ms"], ttft_ms: ["Time to first token", "ms"], cost_usd: ["Cost per call", "money"], error_rate: ["Error rate", "share"], tokens: ["Tokens per call", "plain"] };

export const experiments = {
  title: "Experiments",

  async load(at) {
    const { experiment, of, metric, baseline } = at.state;
    const list = await part(at.ask("/v1/experiments"));
    const first = list.value?.experiments[0];
    const chosen = experiment ? { experiment, tenant_id: of || at.state.tenant || list.value?.experiments.find((each) => each.experiment === experiment)?.tenant_id } : first;
    if (!chosen) return { list };
    const query = { tenant_id: chosen.tenant_id, metric: metric ?? "latency_ms", baseline };
    return { list, chosen, one: await part(at.ask(`/v1/experiments/${encodeURIComponent(chosen.experiment)}`, query)) };
  },

  draw({ list, chosen, one }, { state }) {
    return [
      panel("Experiments", answered(list, ({ experiments: rows }) => (rows.length ? listing(rows, state, chosen) : empty("No experiments", NONE)))),
      chosen && panel(state.tenant ? chosen.experiment : `${chosen.experiment} of ${chosen.tenant_id}`, answered(one, compared), { aside: one.value && controls(one.value, state) }),
    ];
  },
};

const NONE = 'Send "experiment": {"name": …, "variant": …} with each request, and its variants are compared here.';

function listing(rows, state, chosen) {
  return table({
    caption: "Experiments", state, rows, quiet: true, sort: "-calls",
    current: (row) => row.experiment === chosen.experiment && row.tenant_id === chosen.tenant_id,
    href: (row) => link({ experiment: row.experiment, of: row.tenant_id, baseline: "" }),
    columns: [
      { key: "experiment", label: "Experiment", wide: true },
      !state.tenant && { key: "tenant_id", label: "Tenant" },
      { key: "variants", label: "Variants", fixed: true, cell: (row) => row.variants.join(", ") },
      { key: "calls", label: "Calls", number: true, cell: (row) => figure(row.calls) },
      { key: "first_at", label: "First", cell: (row) => time(row.first_at, minute) },
      { key: "last_at", label: "Last", cell: (row) => time(row.last_at, minute) },
    ].filter(Boolean),
  });
}

function controls(answer, state) {
  return h("div", { class: "row" },
    select("Compare", "metric", Object.entries(METRICS).map(([value, [label]]) => [value, label]), state.metric ?? "latency_ms"),
    select("Baseline", "baseline", answer.variants.map(({ variant }) => [variant, variant]), answer.baseline));
}

function compared(answer) {
  const [label, kind] = METRICS[answer.metric] ?? [answer.metric, "plain"];
  const { variants, baseline, alpha } = answer;
  const sure = `${count((1 - alpha) * 100)} %`;
  const ends = variants.flatMap(({ interval }) => interval ?? []).filter((each) => each != null);
  const axis = [Math.min(...ends), Math.max(...ends)];
  return [
    h("p", { class: "verdict" }, verdict(answer, label)),
    ratio(answer.sample_ratio),
    table({
      caption: `${label} by variant`, state: {}, rows: variants, quiet: true,
      columns: [
        { key: "variant", label: "Variant", fixed: true, cell: (row) => (row.variant === baseline ? `${row.variant} (baseline)` : row.variant) },
        { key: "n", label: "Calls", fixed: true, number: true, cell: (row) => figure(row.n) },
        { key: "mean", label, fixed: true, number: true, cell: (row) => figure(row.mean, kind) },
        { key: "interval", label: `${sure} interval`, fixed: true, cell: (row) => interval(row, axis, kind) },
        { key: "difference", label: "Difference", fixed: true, number: true, cell: (row) => signed(row.difference, kind) },
        { key: "relative", label: "Relative", fixed: true, number: true, cell: (row) => signed(row.relative_difference, "share") },
        { key: "difference_interval", label: `${sure} of the difference`, fixed: true, cell: (row) => (known(row.difference_interval) ? row.difference_interval.map((end) => signedText(end, kind)).join(" to ") : "–") },
        { key: "p_value", label: "p", fixed: true, number: true, cell: (row) => (row.p_value == null ? "–" : h("data", { value: row.p_value, title: row.p_value }, row.p_value < 0.001 ? "<0.001" : row.p_value.toFixed(3))) },
      ],
    }),
    h("p", { class: "dim" }, "Intervals and p hold at every moment: looking often, and stopping when one likes what one sees, makes no false alarms."),
  ];
}

const known = (interval) => interval && interval.every((end) => end != null);
const signedText = (value, kind) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${text(Math.abs(value), kind)}`;
const signed = (value, kind) => (value == null ? "–" : h("data", { value: String(value), title: String(value) }, signedText(value, kind)));

/** What it comes to, in words. */
function verdict({ variants, baseline, alpha }, label) {
  const others = variants.filter(({ variant }) => variant !== baseline);
  const differ = others.filter(({ p_value }) => p_value != null && p_value < alpha);
  if (!others.length) return `Only “${baseline}” has calls yet; there is nothing to compare.`;
  if (!differ.length) return `${label}: no variant differs from “${baseline}” for sure yet.`;
  return differ.map(({ variant, relative_difference: relative, difference }) =>
    `${label} of “${variant}” is ${relative == null ? "" : `${text(Math.abs(relative), "share")} `}${difference < 0 ? "lower" : "higher"} than of “${baseline}”.`).join(" ");
}

function ratio(sample) {
  if (!sample || sample.ok) return null;
  return h("div", { class: "notice error" }, h("h3", {}, "The calls are not split as meant"),
    h("p", {}, `Expected ${shares(sample.expected, (share) => text(share, "share"))}, observed ${shares(sample.observed, count)} (p ${sample.p_value < 0.001 ? "<0.001" : sample.p_value.toFixed(3)}). `,
      "Do not trust the comparison: find out why one variant loses calls."));
}

const shares = (of, format) => Object.entries(of).map(([variant, value]) => `${variant} ${format(value)}`).join(", ");

function interval({ mean, interval: ends }, [low, high], kind) {
  if (!known(ends)) return "–";
  const place = (value) => `${4 + ((value - low) / (high - low || 1)) * 92}%`;
  const told = ends.map((end) => text(end, kind)).join(" to ");
  return h("span", { class: "interval", title: told },
    h("svg", { "aria-hidden": "true" },
      h("line", { x1: place(ends[0]), x2: place(ends[1]), y1: "50%", y2: "50%" }), h("circle", { cx: place(mean), cy: "50%", r: "3.5" })),
    h("span", {}, told));
}
