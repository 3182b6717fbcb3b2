// Light or dark: as the system has it, until the switch is used; then as chosen, in this browser.

import { redraw } from "./chart.js";

const KEY = "streamlens-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function startTheme() {
  const button = document.getElementById("theme");
  apply();
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, isDark() ? "light" : "dark");
    apply();
  });
  system.addEventListener("change", apply);

  function apply() {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
    button.title = button.getAttribute("aria-label");
    redraw();
  }
}

function isDark() {
  const chosen = localStorage.getItem(KEY);
  return chosen ? chosen === "dark" : system.matches;
}
