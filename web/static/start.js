// What stands in place of a view before there is anything to show: a sign-in, or how to send a first call.

import { h } from "./dom.js";

/** Asks for a key; `refused` is what the server said of the last one. */
export function signIn(refused) {
  return h("form", { class: "notice sign-in", "aria-labelledby": "sign-in" },
    h("h2", { id: "sign-in" }, "Sign in"),
    h("p", {}, "This server needs an API key with the scope read. Whoever runs it makes one with ", h("code", {}, "streamlens keys create"), "."),
    refused && h("p", { class: "bad", role: "alert" }, refused),
    h("label", { class: "field" }, h("span", {}, "API key"),
      h("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", placeholder: "sl_…", required: true, autofocus: true })),
    h("button", { type: "submit" }, "Sign in"),
    h("p", { class: "dim" }, "The key stays in this tab, and is gone when the tab is closed."));
}

/** Nothing has been counted yet. */
export function welcome() {
  const call = '{"request_id": "r-1", "tenant_id": "acme", "route": "chat", "model": "gpt-4o-mini", "provider": "openai",\n  "timestamp": \'$(date +%s)000\', "latency_ms": 420, "prompt_tokens": 350, "completion_tokens": 90}';
  return h("section", { class: "notice welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, "No calls yet"),
    h("p", {}, "Send one; it is here within two seconds, without a reload."),
    h("pre", { tabindex: "0" }, `curl ${location.origin}/v1/llm/call -d '${call}'`),
    h("p", {}, "OpenTelemetry: set ", h("code", {}, `OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}`), ". For something to look at, start StreamLens with ", h("code", {}, "streamlens up --demo"), "."));
}
