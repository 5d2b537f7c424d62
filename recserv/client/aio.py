"""The asyncio client: the same calls as the synchronous one."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from recserv import v1 as pb
from recserv.client import wire
from recserv.client.again import Backoff, News
from recserv.client.aio_event_stream import AsyncEventStream
from recserv.client.aio_watch import AsyncRecommendationWatch
from recserv.client.failures import CallFailed, failure_of_call
from recserv.client.hedging import hedged_async
from recserv.client.options import (
    WATCH_TIMEOUT_S,
    ClientOptions,
    StreamOptions,
    channel_options,
    channel_target,
    checked,
)
from recserv.client.outbox import RETRIED_STREAMS
from recserv.client.watch import Resumption
from recserv.client.wire import Explanations, Ingested, Metadata
from recserv.types import Event, Explanation, Recommendation, RecommendQuery, ShopperContext, ShopperKey

A = TypeVar("A")


class AsyncRecommendationClient:
    """A channel to one server or several (see `channel_target`), without TLS unless `credentials` are given. Made and
    used on one event loop. Every call has a deadline, `timeout_s` or the options', and raises CallFailed.
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
            self._channel = grpc.aio.insecure_channel(where, how)
        else:
            self._channel = grpc.aio.secure_channel(where, credentials, how)
        self._stub: Any = pb.RecommendationServiceStub(self._channel)
        self._watches: weakref.WeakSet[AsyncRecommendationWatch] = weakref.WeakSet()

    async def __aenter__(self) -> AsyncRecommendationClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        # gRPC finds calls by the tasks that it made for them, and, as of 1.62, not those that only wait to be read.
        for watch in list(self._watches):
            watch.interrupt()
        await self._channel.close(None)

    async def recommend(self, query: RecommendQuery, timeout_s: float | None = None) -> Recommendation:
        """The ranked answer. `query.tenant` is not sent: the tenant follows from who calls."""
        return await self._read(
            self._stub.Recommend,
            wire.recommend_request(query),
            wire.recommendation,
            timeout_s,
            wire.call_metadata(query),
        )

    async def recommend_batch(
        self, queries: Sequence[RecommendQuery], timeout_s: float | None = None
    ) -> list[Recommendation | CallFailed]:
        """An answer or an error for each query, in order; at most BATCH_REQUESTS_MAX."""
        request = wire.batch_recommend_request(queries)
        return await self._call(self._stub.BatchRecommend, request, wire.recommendations, timeout_s)

    async def ingest(self, event: Event, timeout_s: float | None = None) -> Ingested:
        """Returns once the event is durable and visible to the next `recommend`."""
        return await self._call(self._stub.IngestEvent, wire.ingest_request(event), wire.ingested, timeout_s)

    async def ingest_batch(
        self, events: Sequence[Event], timeout_s: float | None = None
    ) -> list[Ingested | CallFailed]:
        """An acknowledgement or an error for each event, in order; at most BATCH_EVENTS_MAX."""
        request = wire.batch_ingest_request(events)
        return await self._call(self._stub.BatchIngestEvents, request, wire.ingest_results, timeout_s)

    def event_stream(self, options: StreamOptions | None = None) -> AsyncEventStream:
        """For many events; raises UsageError for options out of range. See AsyncEventStream."""
        return AsyncEventStream(self._stub.StreamEvents, checked(options or StreamOptions()))

    async def context(self, key: ShopperKey, timeout_s: float | None = None) -> ShopperContext:
        return await self._read(self._stub.GetContext, wire.context_request(key), wire.shopper_context, timeout_s)

    async def explanations(self, token: str, timeout_s: float | None = None) -> Explanations:
        """Those behind a recommendation's `explanation_token`, as far as they are ready."""
        request = wire.explanations_request(token)
        return await self._call(self._stub.GetExplanations, request, wire.explanations, timeout_s)

    async def watch_explanations(self, token: str, timeout_s: float = WATCH_TIMEOUT_S) -> AsyncIterator[Explanation]:
        """Each text as it lands, until all have. A stream that breaks is opened again, and what was told is not told
        twice. Raises CallFailed, TooLate after `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        news, backoff = News(), Backoff(self.options.backoff_s, self.options.backoff_s_max)
        ends_s = loop.time() + timeout_s
        while True:
            call = self._stub.WatchExplanations(wire.watch_request(token), timeout=max(0.0, ends_s - loop.time()))
            try:
                async for message in call:
                    explanation = wire.explanation(message.explanation)
                    if news.is_new(explanation):
                        yield explanation
                        backoff.reset()
                return
            except grpc.RpcError as error:
                failure = failure_of_call(error)
                pause_s = backoff.next_s(failure.retry_after_s)
                if failure.code not in RETRIED_STREAMS or loop.time() + pause_s >= ends_s:
                    raise failure from error
            finally:
                # Also when the caller stops listening.
                call.cancel()
            await asyncio.sleep(pause_s)

    def watch_recommendations(
        self, query: RecommendQuery, *, resume_token: str = "", give_up_s: float | None = None
    ) -> AsyncRecommendationWatch:
        """The answer of `recommend`, and again whenever an acknowledged event changed what it lists; see the
        synchronous client.
        """
        backoff = Backoff(self.options.backoff_s, self.options.backoff_s_max)
        resumption = Resumption(query, resume_token, backoff, give_up_s)
        watch = AsyncRecommendationWatch(self._stub.WatchRecommendations, resumption)
        self._watches.add(watch)
        return watch

    async def _read(
        self, rpc: Any, request: Any, decode: Callable[[Any], A], timeout_s: float | None, metadata: Metadata = ()
    ) -> A:
        """A call that is sent a second time if the options ask for it."""
        hedge_after_s = self.options.hedge_after_s
        if hedge_after_s is None:
            return await self._call(rpc, request, decode, timeout_s, metadata)

        def start(left_s: float) -> Any:
            return rpc(request, timeout=left_s, wait_for_ready=self.options.wait_for_ready, metadata=metadata)

        try:
            answer = await hedged_async(start, hedge_after_s, self._timeout_s if timeout_s is None else timeout_s)
        except grpc.RpcError as error:
            raise failure_of_call(error) from error
        return decode(answer)

    async def _call(
        self, rpc: Any, request: Any, decode: Callable[[Any], A], timeout_s: float | None, metadata: Metadata = ()
    ) -> A:
        try:
            answer = await rpc(
                request,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
                wait_for_ready=self.options.wait_for_ready,
                metadata=metadata,
            )
        except grpc.RpcError as error:
            raise failure_of_call(error) from error
        return decode(answer)
