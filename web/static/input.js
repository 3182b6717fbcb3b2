// What people do, for the whole page at once: links within it, fields that stand for a value of the URL, and Escape.

import { setKey } from "./api.js";
import { follow, go } from "./url.js";

const TYPING_MS = 250;
// A change of these starts at the first page again, and shows no single call.
const ANEW = { page: "", cursor: "" };

/** Listen from now on. `signedIn()` is called when a key was given. */
export function listen({ signedIn }) {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const anchor = event.target.closest("a[href]");
    const row = anchor ? null : event.target.closest("tr[data-href]");
    if (row && getSelection().toString()) return; // the user copies a text
    const href = anchor?.getAttribute("href") ?? row?.dataset.href;
    if (!href?.startsWith("?")) return;
    event.preventDefault();
    follow(href);
    if (new URLSearchParams(href).has("call") || new URLSearchParams(href).has("session")) document.getElementById("view").scrollIntoView();
  });

  document.addEventListener("change", (event) => {
    const { set } = event.target.dataset;
    if (set && event.target.matches("select")) go({ ...ANEW, [set]: event.target.value });
  });

  let typed = 0;
  document.addEventListener("input", (event) => {
    const { set } = event.target.dataset;
    if (!set || !event.target.matches("input")) return;
    clearTimeout(typed);
    typed = setTimeout(() => go({ ...ANEW, [set]: event.target.value.trim() }, { replace: true }), TYPING_MS);
  });

  document.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = event.target.querySelector("input[name=key]");
    if (!field?.value.trim()) return;
    setKey(field.value.trim());
    field.value = "";
    signedIn();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.target.closest("input, select")) document.querySelector("a[data-close]")?.click();
  });
}
