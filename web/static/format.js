// Numbers and times as people read them, with units that do not break away; the exact value stays beside each, as `value` and `title` of a <data>.

import { h } from "./dom.js";

const digits = (places) => new Intl.NumberFormat("en", { maximumFractionDigits: places, minimumFractionDigits: places });
const significant = (places) => new Intl.NumberFormat("en", { maximumSignificantDigits: places });
const [whole, one, two] = [digits(0), digits(1), digits(2)];
const rough = new Intl.NumberFormat("en", { minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const full = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const [three, exact] = [significant(3), significant(15)];
const UNITS = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];

/** Exact below 10,000, so that one call more is seen; above with three digits. */
export function count(value, format = full) {
  if (Math.abs(value) < 1e4) return Number.isInteger(value) ? whole.format(value) : three.format(value);
  const [size, unit] = UNITS.find(([size]) => Math.abs(value) >= size * 0.9995);
  return `${format.format(value / size)}\u00a0${unit}`;
}

/** Dollars: cents where there are any, else two digits. */
export function money(value) {
  const size = Math.abs(value);
  if (size >= 1e4) return `$${count(value)}`;
  if (size >= 0.095) return `$${two.format(value)}`;
  return value === 0 ? "$0" : `$${size < 1e-6 ? value.toExponential(1) : rough.format(value)}`;
}

export function ms(value) {
  if (value < 10) return `${value === 0 ? 0 : rough.format(value)}\u00a0ms`;
  if (value < 999.5) return `${whole.format(value)}\u00a0ms`;
  return seconds(value / 1000);
}

export function seconds(value) {
  if (value < 0.9995) return `${whole.format(value * 1000)}\u00a0ms`;
  if (value < 59.95) return `${(value < 9.995 ? two : one).format(value)}\u00a0s`;
  const [full, minutes] = [Math.round(value), Math.round(value / 60)];
  if (full < 3600) return `${Math.floor(full / 60)}\u00a0min ${full % 60}\u00a0s`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
  return `${Math.floor(minutes / 1440)}\u00a0d`;
}

export function share(value) {
  const percent = value * 100;
  return `${percent === 0 || percent >= 10 ? whole.format(percent) : percent >= 0.1 ? one.format(percent) : "<0.1"}\u00a0%`;
}

/** For the round values at an axis. */
export const axis = {
  count: (value) => count(value, three),
  ms: (value) => (value === 0 ? "0" : value < 1000 ? `${exact.format(value)} ms` : `${exact.format(value / 1000)} s`),
  money: (value) => `$${exact.format(value)}`,
  share: (value) => `${exact.format(value * 100)} %`,
};

const SHORT = { count, money, ms, seconds, share, plain: (value) => three.format(value) };
const FULL = {
  count: (value) => exact.format(value),
  money: (value) => `$${value < 1e-6 ? value : new Intl.NumberFormat("en", { maximumFractionDigits: 12 }).format(value)}`,
  ms: (value) => `${exact.format(value)} ms`,
  seconds: (value) => `${exact.format(value)} s`,
  share: (value) => `${exact.format(value * 100)} %`,
  plain: (value) => exact.format(value),
};

/** A number that can be read, with its exact value. Null is not known, and is never shown as zero. */
export function figure(value, kind = "count") {
  if (value == null) return h("data", { value: "", class: "none", title: "not known" }, "–");
  return h("data", { value: String(value), title: FULL[kind](value) }, SHORT[kind](value));
}

export const text = (value, kind) => (value == null ? "–" : SHORT[kind](value));

const at = (options) => new Intl.DateTimeFormat("en-GB", options);
const CLOCK = at({ hour: "2-digit", minute: "2-digit" });
const SECOND = at({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = at({ day: "numeric", month: "short" });
const DATE = at({ day: "numeric", month: "short", timeZone: "UTC" });

export const clock = (time) => CLOCK.format(new Date(time));
export const second = (time) => SECOND.format(new Date(time));
export const day = (time) => DAY.format(new Date(time));
/** Of a date without a time, such as 2026-11-20, which is the same day everywhere. */
export const date = (day) => DATE.format(new Date(day));
const today = (time) => new Date(time).toDateString() === new Date().toDateString();
/** With the day, unless it is today. */
export const moment = (time) => (today(time) ? second(time) : `${day(time)}, ${second(time)}`);
export const minute = (time) => (today(time) ? clock(time) : `${day(time)}, ${clock(time)}`);

/** A time in the reader's zone; UTC is its title. */
export function time(value, form = moment) {
  return value == null ? "–" : h("time", { datetime: value, title: value }, form(value));
}
