// Charts over time (uPlot), sparklines and bars. Colours are those of the style sheet, so a theme is one place.

import { h } from "./dom.js";
import { clock, day, minute } from "./format.js";
import { go, iso } from "./url.js";

const DAYS_MS = 2e8; // a time that is longer has its days named
const charts = new WeakMap();

/** A chart with its legend. `series` have `name`, `values`, `colour` (a name of the style sheet), `summary` (what the
 * legend shows while nothing is pointed at) and maybe `bars` or `fill`; `bands` are [upper, lower, colour] of series.
 * `format` is of a value, `axis` of the values at the axis; `told` is the chart in words. A stretch that is drawn with the pointer becomes the page's time. */
export function timeChart({ title, told, times, span, series, format, axis = format, bands = [], size = "", aside = null }) {
  const spec = { times, span, series, format, axis, bands };
  return h("figure", { class: `chart ${size}`, "aria-label": title },
    h("figcaption", {}, h("div", { class: "row" }, h("h2", {}, title), aside), h("div", { class: "legend", draw: (legend) => void (spec.legend = legend) })),
    h("div", { class: "plot", role: "img", "aria-label": told, draw: (plot) => drawInto(plot, spec) }));
}

/** Draw all charts anew: the colours have changed. */
export function redraw() {
  document.querySelectorAll(".plot").forEach((plot) => {
    erase(plot);
    plot.draw?.(plot);
  });
}

function drawInto(plot, spec) {
  const data = [spec.times, ...spec.series.map((each) => each.values)];
  const shape = JSON.stringify([spec.series.map(({ name, colour }) => [name, colour])]);
  const known = charts.get(plot);
  if (known?.shape === shape) {
    Object.assign(known.spec, spec);
    known.chart.setData(data);
    tell(known.spec, known.chart.cursor.idx);
  } else {
    erase(plot);
    const chart = new uPlot(options(plot, spec), data, plot);
    const watch = new ResizeObserver(() => chart.setSize({ width: plot.clientWidth, height: plot.clientHeight }));
    watch.observe(plot);
    charts.set(plot, { chart, spec, shape, watch });
    tell(spec, null);
  }
  return () => erase(plot);
}

function erase(plot) {
  const known = charts.get(plot);
  known?.watch.disconnect();
  known?.chart.destroy();
  charts.delete(plot);
}

function options(plot, spec) {
  const axis = { stroke: () => colour("dim"), grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false }, font: `12px ${colour("font")}` };
  return {
    width: plot.clientWidth,
    height: plot.clientHeight,
    legend: { show: false },
    cursor: { y: false, sync: { key: "time" }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
    scales: { x: { range: () => [spec.span.begin / 1000, spec.span.end / 1000] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, values: (_, splits) => splits.map((at) => tick(at * 1000, spec.span)), space: 64, size: 24, gap: 4 },
      { ...axis, values: (_, splits) => splits.map((value) => spec.axis(value)), size: 58, space: 28 },
    ],
    series: [{}, ...spec.series.map(({ colour: name, bars, fill }) => ({
      stroke: () => colour(name),
      fill: fill || bars ? () => colour(bars ? name : `${name}-soft`) : undefined,
      width: bars ? 0 : 1.75,
      points: { show: (_, __, from, to) => !bars && to - from < 2 },
      paths: bars ? uPlot.paths.bars({ size: [0.8, 28], align: 1, radius: 0.15 }) : undefined,
    }))],
    bands: spec.bands.map(([upper, lower, name]) => ({ series: [upper + 1, lower + 1], fill: () => colour(name) })),
    hooks: { setCursor: [(chart) => tell(spec, chart.cursor.idx)], setSelect: [(chart) => zoom(chart)] },
  };
}

/** The reader's midnights, which is where uPlot has its ticks, are named by their day. */
function tick(time, { begin, end }) {
  const at = new Date(time);
  return end - begin > DAYS_MS && !at.getHours() && !at.getMinutes() ? day(at) : clock(at);
}

function tell(spec, index) {
  if (!spec.legend) return;
  const items = spec.series.map(({ name, colour, values, summary }) => {
    const value = index == null ? summary : values[index];
    return h("span", {}, h("i", { class: `swatch ${colour}` }), `${name} `, h("b", {}, value == null ? "–" : spec.format(value)));
  });
  const when = index == null || spec.times[index] == null ? null : h("span", { class: "dim" }, minute(spec.times[index] * 1000));
  spec.legend.replaceChildren(...(when ? [when] : []), ...items);
}

function zoom(chart) {
  const { left, width } = chart.select;
  if (width < 8) return;
  const [from, to] = [left, left + width].map((x) => Math.round(chart.posToVal(x, "x") / 60) * 60_000);
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  if (from < to) go({ from: iso(from), to: iso(to), page: "" });
}

/** What a name of the style sheet stands for. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A line without axes beside a number; it says nothing that the number and the large chart do not. */
export function sparkline(values) {
  const known = values.filter((value) => value != null);
  if (known.length < 2) return h("svg", { class: "spark", "aria-hidden": "true" });
  const top = Math.max(...known) || 1;
  const step = 100 / (values.length - 1);
  let pen = "M";
  const path = values.map((value, index) => {
    const stroke = value == null ? "" : `${pen}${(index * step).toFixed(1)} ${(22 - (value / top) * 20).toFixed(1)}`;
    pen = value == null ? "M" : "L";
    return stroke;
  });
  return h("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path", { d: path.join(""), "vector-effect": "non-scaling-stroke" }));
}

/** A bar as long as a share of 1. */
export function bar(value, kind = "") {
  const width = `${Math.min(Math.max(value || 0, 0), 1) * 100}%`; // 0 of 0 is no part of it
  return h("svg", { class: `bar ${kind}`, "aria-hidden": "true" }, h("rect", { width, height: "100%", rx: "2" }));
}
