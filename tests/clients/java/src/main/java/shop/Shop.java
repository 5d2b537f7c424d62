package shop;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import recserv.v1.BatchRecommendEntry;
import recserv.v1.BatchRecommendRequest;
import recserv.v1.Event;
import recserv.v1.EventType;
import recserv.v1.GetContextRequest;
import recserv.v1.IngestEventRequest;
import recserv.v1.RecommendRequest;
import recserv.v1.RecommendResponse;
import recserv.v1.RecommendResult;
import recserv.v1.RecommendationServiceGrpc;
import recserv.v1.RecommendationServiceGrpc.RecommendationServiceBlockingStub;
import recserv.v1.StreamEventsRequest;
import recserv.v1.StreamEventsResponse;

/** A shop's calls to recserv, on code generated from protos/: `shop.Shop HOST:PORT`. One JSON line a step. */
public final class Shop {
  /** Generous, so that a first call on a cold machine is in time; a shop's page would wait for 200 ms. */
  private static final long DEADLINE_MS = 10_000;

  private static final int ATTEMPTS_MAX = 5;
  private static final Set<Code> RETRIED = Set.of(Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED);
  private static final Gson GSON = new Gson();

  private final ManagedChannel channel;
  private final String sessionId = UUID.randomUUID().toString();

  private Shop(ManagedChannel channel) {
    this.channel = channel;
  }

  public static void main(String[] args) throws Exception {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    try {
      new Shop(channel).visit();
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void visit() throws Exception {
    health();
    List<String> itemIds = recommend();
    ingest(event(EventType.EVENT_TYPE_VIEW, itemIds.get(0)));
    context();
    Event carted = event(EventType.EVENT_TYPE_ADD_TO_CART, itemIds.get(1));
    Event noType = event(EventType.EVENT_TYPE_UNSPECIFIED, itemIds.get(1));
    stream(List.of(carted, noType));
    context();
    batch();
    badRequest();
  }

  private RecommendationServiceBlockingStub stub() {
    return RecommendationServiceGrpc.newBlockingStub(channel).withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS);
  }

  private Event event(EventType type, String itemId) {
    return Event.newBuilder()
        .setEventId(UUID.randomUUID().toString())
        .setEventType(type)
        .setSessionId(sessionId)
        .setItemId(itemId)
        .build();
  }

  private void health() {
    var request = HealthCheckRequest.newBuilder().setService(RecommendationServiceGrpc.SERVICE_NAME).build();
    var stub = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS);
    say("health", Map.of("status", stub.check(request).getStatus().name()));
  }

  private List<String> recommend() {
    var answer = stub().recommend(RecommendRequest.newBuilder().setSessionId(sessionId).setPageSize(3).build());
    say("recommend", Map.of("item_ids", itemIds(answer), "degraded", answer.getDegraded()));
    return itemIds(answer);
  }

  private static List<String> itemIds(RecommendResponse answer) {
    return answer.getResultsList().stream().map(RecommendResult::getItemId).toList();
  }

  /** Sends the same event, with the same id, until it is acknowledged: it counts once however often it arrives. */
  private void ingest(Event event) throws InterruptedException, InvalidProtocolBufferException {
    var request = IngestEventRequest.newBuilder().setEvent(event).build();
    var deadline = Deadline.after(DEADLINE_MS, TimeUnit.MILLISECONDS);
    for (int attempt = 1; ; attempt++) {
      try {
        var answer = RecommendationServiceGrpc.newBlockingStub(channel).withDeadline(deadline).ingestEvent(request);
        String status = answer.getStatus().name();
        String eventId = event.getEventId();
        say("ingest", Map.of("session_id", sessionId, "event_id", eventId, "status", status, "attempts", attempt));
        return;
      } catch (StatusRuntimeException failure) {
        long pauseMs = retryDelayMs(failure, attempt);
        boolean inTime = pauseMs < deadline.timeRemaining(TimeUnit.MILLISECONDS);
        if (!RETRIED.contains(failure.getStatus().getCode()) || attempt == ATTEMPTS_MAX || !inTime) {
          throw failure;
        }
        Thread.sleep(pauseMs);
      }
    }
  }

  /** What the server asks for; else a span that doubles, drawn so that clients do not come back together. */
  private static long retryDelayMs(StatusRuntimeException failure, int attempt) throws InvalidProtocolBufferException {
    for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (detail.is(RetryInfo.class)) {
        return Durations.toMillis(detail.unpack(RetryInfo.class).getRetryDelay());
      }
    }
    long spanMs = 50L << attempt;
    return ThreadLocalRandom.current().nextLong(spanMs / 2, spanMs);
  }

  /** Many events over one call; answers come in order, a status for each event. */
  private void stream(List<Event> events) throws Exception {
    List<Map<String, Object>> results = new ArrayList<>();
    CompletableFuture<Void> ended = new CompletableFuture<>();
    StreamObserver<StreamEventsRequest> requests =
        RecommendationServiceGrpc.newStub(channel)
            .withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS)
            .streamEvents(
                new StreamObserver<StreamEventsResponse>() {
                  @Override
                  public void onNext(StreamEventsResponse answer) {
                    for (var result : answer.getResultsList()) {
                      results.add(Map.of("event_id", result.getEventId(), "status", result.getStatus().name()));
                    }
                  }

                  @Override
                  public void onError(Throwable failure) {
                    ended.completeExceptionally(failure);
                  }

                  @Override
                  public void onCompleted() {
                    ended.complete(null);
                  }
                });
    for (Event event : events) {
      requests.onNext(StreamEventsRequest.newBuilder().addEvents(event).build());
    }
    requests.onCompleted();
    ended.get();
    say("stream", Map.of("results", results));
  }

  private void context() {
    var answer = stub().getContext(GetContextRequest.newBuilder().setSessionId(sessionId).build());
    List<String> recent = answer.getRecentItemIdsList();
    List<String> cart = answer.getCartItemIdsList();
    say("context", Map.of("recent_item_ids", recent, "cart_item_ids", cart, "event_count", answer.getEventCount()));
  }

  /** Gets a status for each request: the bad one does not spoil the good one. */
  private void batch() throws InvalidProtocolBufferException {
    var good = RecommendRequest.newBuilder().setSessionId(sessionId).setPageSize(2);
    var bad = RecommendRequest.newBuilder().setSessionId(sessionId).setPageSize(101);
    var request = BatchRecommendRequest.newBuilder().addRequests(good).addRequests(bad).build();
    for (BatchRecommendEntry entry : stub().batchRecommend(request).getResponsesList()) {
      switch (entry.getOutcomeCase()) {
        case RESPONSE -> say("batch", Map.of("item_ids", itemIds(entry.getResponse())));
        case ERROR -> say("batch", described(entry.getError()));
        default -> throw new IllegalStateException("an entry without an outcome");
      }
    }
  }

  private void badRequest() throws InvalidProtocolBufferException {
    try {
      stub().recommend(RecommendRequest.newBuilder().setPageSize(101).build());
    } catch (StatusRuntimeException failure) {
      say("bad_request", described(StatusProto.fromThrowable(failure)));
      return;
    }
    throw new IllegalStateException("a page of 101 was answered");
  }

  /** What a status says to a program. */
  private static Map<String, Object> described(Status status) throws InvalidProtocolBufferException {
    Map<String, Object> said = new LinkedHashMap<>();
    said.put("code", status.getCode());
    for (Any detail : status.getDetailsList()) {
      if (detail.is(BadRequest.class)) {
        said.put(
            "violations",
            detail.unpack(BadRequest.class).getFieldViolationsList().stream()
                .map(one -> Map.of("field", one.getField(), "reason", one.getReason()))
                .toList());
      } else if (detail.is(ErrorInfo.class)) {
        said.put("reason", detail.unpack(ErrorInfo.class).getReason());
      }
    }
    return said;
  }

  private static void say(String step, Map<String, ?> what) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.putAll(what);
    System.out.println(GSON.toJson(line));
  }
}
