// The calls of shop.ts without generated code: proto-loader reads protos/ when the program starts. `node loader.js
// HOST:PORT`. One JSON line a step.
"use strict";
const { randomUUID } = require("node:crypto");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const { credentials, loadPackageDefinition, makeClientConstructor, status } = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");
const { service: healthService } = require("grpc-health-check");

const FILES = ["recserv/v1/recommendation_service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
// Names of fields stay as they are in the files, enums are names, int64 are numbers.
const definition = loadSync(FILES, {
  includeDirs: ["protos"],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { RecommendationService } = loadPackageDefinition(definition).recserv.v1;

const DEADLINE_MS = 10_000;
const ATTEMPTS_MAX = 5;
const RETRIED = [status.UNAVAILABLE, status.RESOURCE_EXHAUSTED];

function say(step, what) {
  console.log(JSON.stringify({ step, ...what }));
}

/** A unary call as a promise; it always has a deadline. */
function call(client, method, request, deadline = Date.now() + DEADLINE_MS) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function statusOf(failure) {
  const [details] = failure.metadata.get("grpc-status-details-bin");
  if (!details) return { code: failure.code, details: [] };
  return definition["google.rpc.Status"].deserialize(details);
}

/** Details by the name of their type, for example "google.rpc.RetryInfo". */
function detailsOf(failure) {
  const types = failure.details.map(({ type_url, value }) => [type_url.split("/").pop(), value]);
  return Object.fromEntries(types.map(([type, value]) => [type, definition[type]?.deserialize(value)]));
}

function retryDelayMs(failure, attempt) {
  const retry = detailsOf(statusOf(failure))["google.rpc.RetryInfo"];
  if (retry) return retry.retry_delay.seconds * 1000 + retry.retry_delay.nanos / 1e6;
  return (0.5 + Math.random() / 2) * 50 * 2 ** attempt;
}

function described(failure) {
  const { "google.rpc.BadRequest": bad, "google.rpc.ErrorInfo": info } = detailsOf(failure);
  const violations = bad?.field_violations.map(({ field, reason }) => ({ field, reason }));
  return { code: failure.code, violations, reason: info?.reason };
}

async function health(target) {
  const Health = makeClientConstructor(healthService, "grpc.health.v1.Health");
  const client = new Health(target, credentials.createInsecure());
  const answer = await call(client, "check", { service: "recserv.v1.RecommendationService" });
  say("health", { status: answer.status });
  client.close();
}

async function ingest(client, event) {
  const deadline = Date.now() + DEADLINE_MS;
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await call(client, "IngestEvent", { event }, deadline);
      const { session_id, event_id } = event;
      say("ingest", { session_id, event_id, status: answer.status, attempts: attempt });
      return;
    } catch (error) {
      const pauseMs = retryDelayMs(error, attempt);
      const again = RETRIED.includes(error.code) && attempt < ATTEMPTS_MAX && Date.now() + pauseMs < deadline;
      if (!again) throw error;
      await sleep(pauseMs);
    }
  }
}

async function stream(client, events) {
  const stream = client.StreamEvents({ deadline: Date.now() + DEADLINE_MS });
  const results = [];
  const ended = once(stream, "end"); // Rejects on "error".
  stream.on("data", (answer) => {
    for (const { event_id, status } of answer.results) results.push({ event_id, status });
  });
  for (const event of events) stream.write({ events: [event] });
  stream.end();
  await ended;
  say("stream", { results });
}

async function context(client, session_id) {
  const { recent_item_ids, cart_item_ids, event_count } = await call(client, "GetContext", { session_id });
  say("context", { recent_item_ids, cart_item_ids, event_count });
}

async function main(target) {
  await health(target);
  const client = new RecommendationService(target, credentials.createInsecure());
  const session_id = randomUUID();
  const event = (event_type, item_id) => ({ event_id: randomUUID(), event_type, session_id, item_id });
  const itemIds = (answer) => answer.results.map((result) => result.item_id);

  const answer = await call(client, "Recommend", { session_id, page_size: 3 });
  say("recommend", { item_ids: itemIds(answer), degraded: answer.degraded });
  const [first, second] = itemIds(answer);
  await ingest(client, event("EVENT_TYPE_VIEW", first));
  await context(client, session_id);
  await stream(client, [event("EVENT_TYPE_ADD_TO_CART", second), event("EVENT_TYPE_UNSPECIFIED", second)]);
  await context(client, session_id);
  const requests = [2, 101].map((page_size) => ({ session_id, page_size }));
  for (const entry of (await call(client, "BatchRecommend", { requests })).responses) {
    say("batch", entry.outcome === "response" ? { item_ids: itemIds(entry.response) } : described(entry.error));
  }
  await call(client, "Recommend", { page_size: 101 }).then(
    () => Promise.reject(new Error("a page of 101 was answered")),
    (error) => say("bad_request", described(statusOf(error))),
  );
  client.close();
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
