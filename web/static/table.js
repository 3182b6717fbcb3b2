// Tables that sort, filter and turn pages by links, so that their state is in the URL and the keyboard does it all.

import { h } from "./dom.js";
import { count } from "./format.js";
import { link } from "./url.js";

const PAGE = 50; // rows, unless a table says otherwise

/** A table of `rows`. A column has `key`, `label`, maybe `number`, `value(row)` to sort by, `cell(row)` to show, and
 * `fixed` if it does not sort. `size` is that of a page. `name` sets the table's state apart from others of the view; `href(row)` is where a
 * click on a row leads, which its first cell links to as well, `current(row)` whether it leads where one is. */
export function table({ caption, name = "", columns, rows, state, sort, href, current, foot, quiet, size = PAGE }) {
  const [sortName, pageName] = [`${name}sort`, `${name}page`];
  const by = state[sortName] ?? sort ?? "";
  const sorted = by ? order(rows, columns, by) : rows;
  const pages = Math.max(1, Math.ceil(sorted.length / size));
  const page = Math.min(Math.max(Number(state[pageName]) || 1, 1), pages);
  const shown = sorted.slice((page - 1) * size, page * size);
  return h("div", { class: "tabled" },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      h("table", {},
        h("caption", { class: quiet ? "hidden" : null }, caption),
        h("thead", {}, h("tr", {}, columns.map((column) => head(column, by, sortName, pageName)))),
        h("tbody", {}, shown.map((row) => line(row, columns, href, current))),
        foot && h("tfoot", {}, foot))),
    pages > 1 && turner(page, pages, rows.length, pageName));
}

function head(column, by, sortName, pageName) {
  const { key, label, number, fixed, title } = column;
  const kind = number ? "n" : null;
  if (fixed) return h("th", { scope: "col", class: kind, title }, label);
  const [active, down] = [by.replace(/^-/, "") === key, by.startsWith("-")];
  const next = active ? (down ? key : `-${key}`) : number ? `-${key}` : key;
  return h("th", { scope: "col", class: kind, title, "aria-sort": active ? (down ? "descending" : "ascending") : null },
    h("a", { href: link({ [sortName]: next, [pageName]: "" }) }, label, active && h("span", { "aria-hidden": "true" }, down ? " ↓" : " ↑")));
}

function line(row, columns, href, current) {
  const target = href?.(row);
  return h("tr", { "data-href": target, "aria-current": current?.(row) ? "true" : null }, columns.map((column, index) => {
    const shown = column.cell ? column.cell(row) : row[column.key] ?? "–";
    const content = index === 0 && target ? h("a", { href: target }, shown) : shown;
    const title = typeof shown === "string" && shown.length > 24 ? shown : null;
    return h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: kindOf(column), title }, content);
  }));
}

const kindOf = ({ number, wide }) => [number && "n", wide && "wide"].filter(Boolean).join(" ") || null;

function order(rows, columns, by) {
  const key = by.replace(/^-/, "");
  const column = columns.find((each) => each.key === key);
  if (!column) return rows;
  const value = column.value ?? ((row) => row[key]);
  const sign = by.startsWith("-") ? -1 : 1;
  // What is not known comes last, whichever way.
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

function turner(page, pages, rows, name) {
  const step = (to, label) => (to < 1 || to > pages ? h("span", { class: "dim" }, label) : h("a", { href: link({ [name]: to }) }, label));
  return h("nav", { class: "turner", "aria-label": "Pages" },
    step(page - 1, "← Previous"), h("span", {}, `Page ${page} of ${pages}, ${count(rows)} rows`), step(page + 1, "Next →"));
}
