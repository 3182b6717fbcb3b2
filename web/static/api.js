// Asks the public API, with the key of this tab if there is one. Answers are JSON; errors say what the server said.

const KEY = "streamlens-key";
const PATIENCE_MS = 10_000;

/** What a question leaves out of the page's time and tenant, which it has otherwise. */
export const ALWAYS = { from: "", to: "" };
export const EVERYTHING = { ...ALWAYS, tenant_id: "" };

/** So many rows an answer has at most. */
export const MOST = 10_000;

export class ApiError extends Error {
  /** `status` 0: there was no answer at all. */
  constructor(status, detail, path) {
    super(detail);
    this.status = status;
    this.path = path;
  }
}

export const key = () => sessionStorage.getItem(KEY);
export const setKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

/** A response that is good. Throws `ApiError`, or `AbortError` when `signal` ends it. */
export async function request(path, query, signal, headers = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value != null && value !== ""));
  if (key()) headers = { ...headers, Authorization: `Bearer ${key()}` };
  let response;
  try {
    response = await fetch(`${path}?${asked}`, { signal, headers });
  } catch (error) {
    throw unanswered(error, path, signal);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.detail ?? response.statusText, path);
}

/** The answer to a question. */
export async function ask(path, query = {}, signal = undefined) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const response = await request(path, query, signal ? AbortSignal.any([signal, patience]) : patience);
  try {
    return await response.json();
  } catch (error) {
    throw unanswered(error, path, signal);
  }
}

function unanswered(error, path, signal) {
  if (signal?.aborted && error.name === "AbortError") return error;
  const late = error.name === "TimeoutError";
  return new ApiError(0, late ? `no answer within ${PATIENCE_MS / 1000} s` : "the server does not answer", path);
}

/** What one panel needs: `{value}`, or `{error}` when only this route fails. What concerns the whole page is thrown. */
export async function part(question) {
  try {
    return { value: await question };
  } catch (error) {
    if (!(error instanceof ApiError) || [0, 401, 503].includes(error.status)) throw error;
    return { error };
  }
}
