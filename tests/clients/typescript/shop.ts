// A shop's calls to recserv, on code that ts-proto generated from protos/: `node dist/shop.js HOST:PORT`. One JSON line a
// step.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Deadline, makeClientConstructor, Metadata, ServiceError, status } from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { BadRequest, ErrorInfo, RetryInfo } from "./gen/google/rpc/error_details";
import { Status } from "./gen/google/rpc/status";
import { Event, EventType, ingestStatusToJSON, StreamEventsRequest } from "./gen/recserv/v1/events";
import { RecommendRequest, RecommendResponse } from "./gen/recserv/v1/recommendation";
import { RecommendationServiceClient } from "./gen/recserv/v1/recommendation_service";

// Generous, so that a first call on a cold machine is in time; a shop's page would wait for 200 ms.
const DEADLINE_MS = 10_000;
const ATTEMPTS_MAX = 5;
const RETRIED = [status.UNAVAILABLE, status.RESOURCE_EXHAUSTED];

function say(step: string, what: object): void {
  console.log(JSON.stringify({ step, ...what }));
}

type Callback<A> = (error: ServiceError | null, answer: A) => void;
type Method<Q, A> = (request: Q, metadata: Metadata, options: { deadline: Deadline }, callback: Callback<A>) => unknown;

/** A unary call as a promise; it always has a deadline. */
function call<Q, A>(client: object, method: Method<Q, A>, request: Q, deadline = Date.now() + DEADLINE_MS): Promise<A> {
  return new Promise((resolve, reject) => {
    method.call(client, request, new Metadata(), { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function health(target: string): Promise<void> {
  const Health = makeClientConstructor(healthService, "grpc.health.v1.Health");
  const client = new Health(target, credentials.createInsecure());
  const answer = await call(client, client.check as unknown as Method<object, { status: string }>, {
    service: "recserv.v1.RecommendationService",
  });
  say("health", { status: answer.status });
  client.close();
}

class Shop {
  readonly sessionId = randomUUID();

  constructor(private readonly client: RecommendationServiceClient) {}

  event(eventType: EventType, itemId: string): Event {
    return Event.fromPartial({ eventId: randomUUID(), eventType, sessionId: this.sessionId, itemId });
  }

  async recommend(): Promise<string[]> {
    const request = RecommendRequest.fromPartial({ sessionId: this.sessionId, pageSize: 3 });
    const answer = await call(this.client, this.client.recommend, request);
    say("recommend", { item_ids: itemIds(answer), degraded: answer.degraded });
    return itemIds(answer);
  }

  /** Sends the same event, with the same id, until it is acknowledged: it counts once however often it arrives. */
  async ingest(event: Event): Promise<void> {
    const deadline = Date.now() + DEADLINE_MS;
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await call(this.client, this.client.ingestEvent, { event }, deadline);
        const done = ingestStatusToJSON(answer.status);
        say("ingest", { session_id: this.sessionId, event_id: event.eventId, status: done, attempts: attempt });
        return;
      } catch (error) {
        const failure = error as ServiceError;
        const pauseMs = retryDelayMs(failure, attempt);
        const again = RETRIED.includes(failure.code) && attempt < ATTEMPTS_MAX && Date.now() + pauseMs < deadline;
        if (!again) throw error;
        await sleep(pauseMs);
      }
    }
  }

  /** Many events over one call; answers come in order, a status for each event. */
  async stream(events: Event[]): Promise<void> {
    const stream = this.client.streamEvents(new Metadata(), { deadline: Date.now() + DEADLINE_MS });
    const results: object[] = [];
    const ended = once(stream, "end"); // Rejects on "error".
    stream.on("data", (answer) => {
      for (const result of answer.results) {
        results.push({ event_id: result.eventId, status: ingestStatusToJSON(result.status) });
      }
    });
    for (const event of events) stream.write(StreamEventsRequest.fromPartial({ events: [event] }));
    stream.end();
    await ended;
    say("stream", { results });
  }

  async context(): Promise<void> {
    const answer = await call(this.client, this.client.getContext, { sessionId: this.sessionId, userId: "" });
    const { recentItemIds, cartItemIds, eventCount } = answer;
    say("context", { recent_item_ids: recentItemIds, cart_item_ids: cartItemIds, event_count: eventCount });
  }

  /** Gets a status for each request: the bad one does not spoil the good one. */
  async batch(): Promise<void> {
    const good = RecommendRequest.fromPartial({ sessionId: this.sessionId, pageSize: 2 });
    const bad = RecommendRequest.fromPartial({ sessionId: this.sessionId, pageSize: 101 });
    const answer = await call(this.client, this.client.batchRecommend, { requests: [good, bad] });
    for (const entry of answer.responses) {
      if (entry.response) say("batch", { item_ids: itemIds(entry.response) });
      else if (entry.error) say("batch", described(entry.error));
    }
  }
  async badRequest(): Promise<void> {
    try {
      await call(this.client, this.client.recommend, RecommendRequest.fromPartial({ pageSize: 101 }));
    } catch (error) {
      say("bad_request", described(statusOf(error as ServiceError)));
      return;
    }
    throw new Error("a page of 101 was answered");
  }
}

function itemIds(answer: RecommendResponse): string[] {
  return answer.results.map((result) => result.itemId);
}

function statusOf(failure: ServiceError): Status {
  const [details] = failure.metadata.get("grpc-status-details-bin");
  return details instanceof Buffer ? Status.decode(details) : { code: failure.code, message: failure.details, details: [] };
}

/** What the server asks for; else a span that doubles, drawn so that clients do not come back together. */
function retryDelayMs(failure: ServiceError, attempt: number): number {
  for (const detail of statusOf(failure).details) {
    if (!detail.typeUrl.endsWith("/google.rpc.RetryInfo")) continue;
    const delay = RetryInfo.decode(detail.value).retryDelay;
    if (delay) return delay.seconds * 1000 + delay.nanos / 1e6;
  }
  return (0.5 + Math.random() / 2) * 50 * 2 ** attempt;
}

/** What a status says to a program. */
function described(failure: Status): object {
  const said: Record<string, unknown> = { code: failure.code };
  for (const detail of failure.details) {
    if (detail.typeUrl.endsWith("/google.rpc.BadRequest")) {
      const violations = BadRequest.decode(detail.value).fieldViolations;
      said.violations = violations.map(({ field, reason }) => ({ field, reason }));
    } else if (detail.typeUrl.endsWith("/google.rpc.ErrorInfo")) {
      said.reason = ErrorInfo.decode(detail.value).reason;
    }
  }
  return said;
}

async function main(target: string): Promise<void> {
  await health(target);
  const client = new RecommendationServiceClient(target, credentials.createInsecure());
  const shop = new Shop(client);
  const [first, second] = await shop.recommend();
  await shop.ingest(shop.event(EventType.EVENT_TYPE_VIEW, first));
  await shop.context();
  const carted = shop.event(EventType.EVENT_TYPE_ADD_TO_CART, second);
  await shop.stream([carted, shop.event(EventType.EVENT_TYPE_UNSPECIFIED, second)]);
  await shop.context();
  await shop.batch();
  await shop.badRequest();
  client.close();
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
