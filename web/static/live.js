// Follows /v1/live by fetch, which unlike EventSource can send a key. Without a stream the page is told to poll.

import { ApiError, request } from "./api.js";

const SILENCE_MS = 40_000; // the server says something each 15 s
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;

/** Follow until `signal` ends it. `on(kind)` hears `open` (also: no more stale), `rows` (something changed), `stale` (the
 * server has no numbers now), `closed`, and `denied` (a key is needed), after which nothing more comes. */
export async function follow(tenant, on, signal) {
  const place = { id: "" };
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      await read(tenant, place, (kind) => {
        wait = FIRST_WAIT_MS;
        on(kind);
      }, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [401, 403].includes(error.status)) return on("denied");
      if (error instanceof ApiError && error.status === 404) wait = LONGEST_WAIT_MS;
    }
    if (signal.aborted) return;
    on("closed");
    await new Promise((resume) => setTimeout(resume, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

async function read(tenant, place, on, signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const headers = { Accept: "text/event-stream", ...(place.id && { "Last-Event-ID": place.id }) };
  try {
    const either = AbortSignal.any([signal, silence.signal]);
    const response = await request("/v1/live", { tenant_id: tenant }, either, headers);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return;
    on("open");
    for await (const event of events(response.body, () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    })) {
      if (event.id) place.id = event.id;
      if (event.event) on({ hello: "open", fresh: "open", stale: "stale" }[event.event] ?? "rows");
    }
  } finally {
    clearTimeout(timer);
  }
}

/** The events of a stream (the HTML standard, "Interpreting an event stream"), without joining lines of data. */
export async function* events(body, heard = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {};
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        const [, name, content] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (line === "") {
          yield event;
          event = {};
        } else if (name) event[name] = content;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
