// The gateway's HTTP: one call, its answer and how long it took, or one kind of error.

import { Retry } from "./retry.js";
import { FAILED } from "./words.js";

export const A = "../";
export const B = "../compare/";
const SERVICE = "rpc/recserv.v1.RecommendationService/";
const WAIT_MS = 15_000;
const RETRY_WAIT_MS_MAX = 1_000;
const REOPEN_MS_MAX = 60_000;

/** `message` is in plain words. */
export class CallFailed extends Error {
  /** `code`: the name of a google.rpc.Code, or GONE. */
  constructor(code, message, retryMs = null) {
    super(FAILED[code] ?? message);
    this.code = code;
    this.retryMs = retryMs;
  }

  get mayPass() {
    return ["GONE", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"].includes(this.code);
  }
}

async function asked(url, options) {
  const began = performance.now();
  let response;
  try {
    response = await fetch(url, { ...options, cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) });
  } catch {
    throw new CallFailed("GONE", "the gateway does not answer");
  }
  const tookMs = performance.now() - began;
  let data;
  try {
    data = await response.json();
  } catch {
    throw new CallFailed("UNKNOWN", `the gateway answered ${response.status} without JSON`);
  }
  if (!response.ok) {
    const error = data.error ?? {};
    const retryS = Number(response.headers.get("retry-after"));
    throw new CallFailed(error.status ?? "UNKNOWN", error.message ?? `HTTP ${response.status}`, retryS ? retryS * 1000 : null);
  }
  const share = /(?:^|,)\s*server;dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "");
  return { data, tookMs, serverMs: share ? Number(share[1]) : null };
}

const posted = (url, body) =>
  asked(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const config = () => asked("config.json", {}).then((answer) => answer.data);

export const recommend = (base, request) => posted(`${base}${SERVICE}Recommend`, { returnItems: true, ...request });

export const context = (base, key) => posted(`${base}${SERVICE}GetContext`, key).then((answer) => answer.data);

/** Stores one event; its consistency token. Sent a second time, under the same id, where that may help. */
export async function ingest(base, event) {
  const url = `${base}api/v1/events`;
  try {
    return (await posted(url, event)).data.consistencyToken;
  } catch (error) {
    if (!error.mayPass) throw error;
    await new Promise((done) => setTimeout(done, Math.min(error.retryMs ?? 100, RETRY_WAIT_MS_MAX)));
    return (await posted(url, event)).data.consistencyToken;
  }
}

/** Texts as they become final: `told(explanation)` for each. Returns what ends the stream. */
export function explanations(base, token, told) {
  const stream = new EventSource(`${base}api/v1/explanations/${encodeURIComponent(token)}`);
  let failures = 0;
  stream.addEventListener("explanation", (event) => told(JSON.parse(event.data).explanation));
  stream.addEventListener("end", () => stream.close());
  // Told again from the start on a new connection, which changes nothing; but not for ever.
  stream.addEventListener("error", (event) => (event.data || ++failures > 3) && stream.close());
  return () => stream.close();
}

/**
 * The list again whenever an event changed it. An EventSource gives up for good where it is answered with a status, as by
 * a server that is not there yet or cannot do this: another one takes its place, later each time. Returns what ends it.
 */
export function watch(base, fields, told) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined));
  let stream;
  const open = () => {
    stream = new EventSource(`${base}api/v1/watch?${query}`);
    stream.addEventListener("recommendations", (event) => {
      retry.well();
      told(JSON.parse(event.data).response);
    });
    stream.addEventListener("error", () => stream.readyState === EventSource.CLOSED && retry.late());
  };
  const retry = new Retry(open, REOPEN_MS_MAX);
  open();
  return () => {
    retry.stop();
    stream.close();
  };
}
