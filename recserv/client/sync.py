"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from recserv import v1 as pb
from recserv.client import wire
from recserv.client.again import Backoff, News
from recserv.client.event_stream import EventStream
from recserv.client.failures import CallFailed, failure_of_call
from recserv.client.hedging import hedged
from recserv.client.options import (
    WATCH_TIMEOUT_S,
    ClientOptions,
    StreamOptions,
    channel_options,
    channel_target,
    checked,
)
from recserv.client.outbox import RETRIED_STREAMS
from recserv.client.watch import RecommendationWatch, Resumption
from recserv.client.wire import Explanations, Ingested, Metadata
from recserv.types import Event, Explanation, Recommendation, RecommendQuery, ShopperContext, ShopperKey

A = TypeVar("A")


class RecommendationClient:
    """A channel to one server or several (see `channel_target`), without TLS unless `credentials` are given. Safe to
    share between threads. Every call has a deadline, `timeout_s` or the options', and raises CallFailed.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        timeout_s: float | None = None,
        *,
        options: ClientOptions | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        self.options = checked(options or ClientOptions())
        self._timeout_s = timeout_s if timeout_s is not None else self.options.timeout_s
        where = channel_target(target, tls=credentials is not None)
        how = channel_options(self.options, target)
        if credentials is None:
            self._channel = grpc.insecure_channel(where, how)
        else:
            self._channel = grpc.secure_channel(where, credentials, how)
        self._stub: Any = pb.RecommendationServiceStub(self._channel)

    def __enter__(self) -> RecommendationClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def recommend(self, query: RecommendQuery, timeout_s: float | None = None) -> Recommendation:
        """The ranked answer. `query.tenant` is not sent: the tenant follows from who calls."""
        return self._read(
            self._stub.Recommend,
            wire.recommend_request(query),
            wire.recommendation,
            timeout_s,
            wire.call_metadata(query),
        )

    def recommend_batch(
        self, queries: Sequence[RecommendQuery], timeout_s: float | None = None
    ) -> list[Recommendation | CallFailed]:
        """An answer or an error for each query, in order; at most BATCH_REQUESTS_MAX."""
        request = wire.batch_recommend_request(queries)
        return self._call(self._stub.BatchRecommend, request, wire.recommendations, timeout_s)

    def ingest(self, event: Event, timeout_s: float | None = None) -> Ingested:
        """Returns once the event is durable and visible to the next `recommend`."""
        return self._call(self._stub.IngestEvent, wire.ingest_request(event), wire.ingested, timeout_s)

    def ingest_batch(self, events: Sequence[Event], timeout_s: float | None = None) -> list[Ingested | CallFailed]:
        """An acknowledgement or an error for each event, in order; at most BATCH_EVENTS_MAX."""
        request = wire.batch_ingest_request(events)
        return self._call(self._stub.BatchIngestEvents, request, wire.ingest_results, timeout_s)

    def event_stream(self, options: StreamOptions | None = None) -> EventStream:
        """For many events; raises UsageError for options out of range. See EventStream."""
        return EventStream(self._stub.StreamEvents, checked(options or StreamOptions()))

    def context(self, key: ShopperKey, timeout_s: float | None = None) -> ShopperContext:
        return self._read(self._stub.GetContext, wire.context_request(key), wire.shopper_context, timeout_s)

    def explanations(self, token: str, timeout_s: float | None = None) -> Explanations:
        """Those behind a recommendation's `explanation_token`, as far as they are ready."""
        return self._call(self._stub.GetExplanations, wire.explanations_request(token), wire.explanations, timeout_s)

    def watch_explanations(self, token: str, timeout_s: float = WATCH_TIMEOUT_S) -> Iterator[Explanation]:
        """Each text as it lands, until all have. A stream that breaks is opened again, and what was told is not told
        twice. Raises CallFailed, TooLate after `timeout_s`.
        """
        news, backoff = News(), Backoff(self.options.backoff_s, self.options.backoff_s_max)
        ends_s = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, ends_s - time.monotonic())
            call = self._stub.WatchExplanations(wire.watch_request(token), timeout=left_s)
            try:
                for message in call:
                    explanation = wire.explanation(message.explanation)
                    if news.is_new(explanation):
                        yield explanation
                        backoff.reset()
                return
            except grpc.RpcError as error:
                failure = failure_of_call(error)
                pause_s = backoff.next_s(failure.retry_after_s)
                if failure.code not in RETRIED_STREAMS or time.monotonic() + pause_s >= ends_s:
                    raise failure from error
            finally:
                # Also when the caller stops listening.
                call.cancel()
            time.sleep(pause_s)

    def watch_recommendations(
        self, query: RecommendQuery, *, resume_token: str = "", give_up_s: float | None = None
    ) -> RecommendationWatch:
        """The answer of `recommend`, and again whenever an acknowledged event changed what it lists: an iterator that
        has no end, to be closed or let go of. A stream that breaks is taken up again, after pauses that grow and are
        never shorter than the server asks for; no answer comes twice. `resume_token`: where an earlier watch ended.
        Raises CallFailed for what will not get better, and for what did not within `give_up_s`.
        """
        backoff = Backoff(self.options.backoff_s, self.options.backoff_s_max)
        return RecommendationWatch(self._stub.WatchRecommendations, Resumption(query, resume_token, backoff, give_up_s))

    def _read(
        self, rpc: Any, request: Any, decode: Callable[[Any], A], timeout_s: float | None, metadata: Metadata = ()
    ) -> A:
        """A call that is sent a second time if the options ask for it."""
        hedge_after_s = self.options.hedge_after_s
        if hedge_after_s is None:
            return self._call(rpc, request, decode, timeout_s, metadata)

        def start(left_s: float) -> Any:
            return rpc.future(request, timeout=left_s, wait_for_ready=self.options.wait_for_ready, metadata=metadata)

        try:
            return decode(hedged(start, hedge_after_s, self._timeout_s if timeout_s is None else timeout_s))
        except grpc.RpcError as error:
            raise failure_of_call(error) from error

    def _call(
        self, rpc: Any, request: Any, decode: Callable[[Any], A], timeout_s: float | None, metadata: Metadata = ()
    ) -> A:
        try:
            answer = rpc(
                request,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
                wait_for_ready=self.options.wait_for_ready,
                metadata=metadata,
            )
        except grpc.RpcError as error:
            raise failure_of_call(error) from error
        return decode(answer)
