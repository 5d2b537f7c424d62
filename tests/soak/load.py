"""Mixed load on one server, at a fixed rate: callers of every kind, polite, wrong, and gone before they are answered.

tick -> one kind of caller, drawn by its share -> a task, bounded in number -> its outcome counted
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from recserv import v1 as pb
from tests.soak.shop import Shop

SERVICE = "recserv.v1.RecommendationService"
HEALTH = "grpc.health.v1.Health"
TIMEOUT_S = 30.0
AT_ONCE_MAX = 64
PREFILL_GROUPS = 500
PREFILL_GROUP_EVENTS = 100
PREFILL_BATCHES = 110
PREFILL_BATCH_REQUESTS = 100
STORED = (pb.INGEST_STATUS_ACCEPTED, pb.INGEST_STATUS_DUPLICATE)
NOISE = (b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0")


class MixedLoad:
    """`outcomes`: (kind of caller, status) -> times; `acknowledged`: (session, event id) of stored events; `failures`:
    what went wrong in the callers themselves, such as an answer that is not what they were promised.
    """

    def __init__(self, target: str, seed: int = 1):
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.acknowledged: set[tuple[str, str]] = set()
        self.failures: list[Exception] = []
        self._target, self._shop = target, Shop(seed)
        self._channel = self._new_channel()
        self._kinds: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "recommend": (0.34, self._recommend),
            "ingest": (0.25, self._ingest),
            "context": (0.10, self._context),
            # In the ten minutes that a token lives these are more than the server keeps.
            "explained": (0.12, self._explained),
            "stream": (0.04, self._stream),
            "bad": (0.06, self._bad),
            "health": (0.02, self._health),
            "gone caller": (0.03, self._gone_caller),
            "gone stream": (0.02, self._gone_stream),
            "gone connection": (0.01, self._gone_connection),
            "noise": (0.01, self._noise),
        }

    async def prefill(self) -> None:
        """Brings to their bounds what fills up by design: sessions, profiles, pages of the state file, explanations."""
        call = self._channel.stream_stream(f"/{SERVICE}/StreamEvents")(timeout=120)
        groups = [self._shop.group(PREFILL_GROUP_EVENTS) for _ in range(PREFILL_GROUPS)]
        reading = asyncio.create_task(self._note_groups(call, groups))
        for group in groups:
            await call.write(group.SerializeToString())
        await call.done_writing()
        await reading
        for _ in range(PREFILL_BATCHES):
            requests = [self._shop.recommend(pb.EXPLAIN_MODE_LLM_ASYNC) for _ in range(PREFILL_BATCH_REQUESTS)]
            await self._unary("BatchRecommend", pb.BatchRecommendRequest(requests=requests))

    async def run(self, seconds: float, rate_per_s: float) -> None:
        places = asyncio.Semaphore(AT_ONCE_MAX)
        tasks: set[asyncio.Task[None]] = set()
        names = list(self._kinds)
        shares = [share for share, _ in self._kinds.values()]
        began_s = time.monotonic()
        for number in range(round(seconds * rate_per_s)):
            await asyncio.sleep(max(began_s + number / rate_per_s - time.monotonic(), 0.0))
            await places.acquire()
            [name] = self._shop.random.choices(names, shares)
            task = asyncio.create_task(self._one(name))
            tasks.add(task)
            task.add_done_callback(lambda done: (tasks.discard(done), places.release()))
        if tasks:
            await asyncio.wait(tasks)

    async def rest(self, seconds: float) -> None:
        """Hangs up for a while."""
        await self._channel.close()
        await asyncio.sleep(seconds)
        self._channel = self._new_channel()

    async def close(self) -> None:
        await self._channel.close()

    def check(self) -> None:
        """Raises what went wrong, each with its traceback."""
        if self.failures:
            raise ExceptionGroup(f"{len(self.failures)} callers failed", self.failures)

    async def _one(self, name: str) -> None:
        try:
            await self._kinds[name][1]()
        except grpc.aio.AioRpcError as error:
            self.outcomes[name, error.code().name] += 1
        except asyncio.CancelledError:
            self.outcomes[name, "CANCELLED"] += 1
        except Exception as error:
            self.outcomes[name, "FAILED"] += 1
            self.failures.append(error)
        else:
            self.outcomes[name, "OK"] += 1

    def _new_channel(self) -> grpc.aio.Channel:
        # A connection of its own, not one shared with other channels of this process.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        return grpc.aio.insecure_channel(self._target, options=options)

    async def _unary(self, method: str, body: Any, service: str = SERVICE) -> bytes:
        raw = body if isinstance(body, bytes) else body.SerializeToString()
        answer: bytes = await self._channel.unary_unary(f"/{service}/{method}")(raw, timeout=TIMEOUT_S)
        return answer

    async def _recommend(self) -> None:
        await self._unary("Recommend", self._shop.recommend())

    async def _ingest(self) -> None:
        event = self._shop.event()
        for _ in range(2 if self._shop.random.random() < 0.1 else 1):
            raw = await self._unary("IngestEvent", pb.IngestEventRequest(event=event))
            assert pb.IngestEventResponse.FromString(raw).status in STORED
            self.acknowledged.add((event.session_id, event.event_id))

    async def _context(self) -> None:
        await self._unary(
            "GetContext", pb.GetContextRequest(session_id=self._shop.session(), user_id=self._shop.user())
        )

    async def _explained(self) -> None:
        raw = await self._unary("Recommend", self._shop.recommend(pb.EXPLAIN_MODE_LLM_ASYNC))
        token = pb.RecommendResponse.FromString(raw).explanation_token
        if self._shop.random.random() < 0.5:
            await self._unary("GetExplanations", pb.GetExplanationsRequest(explanation_token=token))
            return
        watched = pb.WatchExplanationsRequest(explanation_token=token).SerializeToString()
        async for _ in self._channel.unary_stream(f"/{SERVICE}/WatchExplanations")(watched, timeout=TIMEOUT_S):
            pass

    async def _stream(self) -> None:
        groups = [self._shop.group(10), self._shop.group(10)]
        call = self._channel.stream_stream(f"/{SERVICE}/StreamEvents")(timeout=TIMEOUT_S)
        for group in groups:
            await call.write(group.SerializeToString())
        await call.done_writing()
        await self._note_groups(call, groups)

    async def _note_groups(self, call: Any, groups: list[pb.StreamEventsRequest]) -> None:
        for group in groups:
            results = pb.StreamEventsResponse.FromString(await call.read()).results
            for event, result in zip(group.events, results, strict=True):
                assert (result.event_id, result.status in STORED) == (event.event_id, True), result
                self.acknowledged.add((event.session_id, event.event_id))

    async def _bad(self) -> None:
        await self._unary(*self._shop.bad_call())

    async def _health(self) -> None:
        await self._unary("Check", b"", HEALTH)
        watch = self._channel.unary_stream(f"/{HEALTH}/Watch")(b"", timeout=TIMEOUT_S)
        status = health_pb2.HealthCheckResponse.FromString(await watch.read()).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()

    async def _gone_caller(self) -> None:
        """A caller that stops waiting at any moment of its call."""
        request = self._shop.recommend().SerializeToString()
        call = self._channel.unary_unary(f"/{SERVICE}/Recommend")(request, timeout=TIMEOUT_S)
        await asyncio.sleep(self._shop.random.uniform(0.0, 0.003))
        call.cancel()
        await call

    async def _gone_stream(self) -> None:
        """A stream of events that breaks off before its acknowledgements."""
        call = self._channel.stream_stream(f"/{SERVICE}/StreamEvents")(timeout=TIMEOUT_S)
        await call.write(self._shop.group(10).SerializeToString())
        await asyncio.sleep(self._shop.random.uniform(0.0, 0.005))
        call.cancel()
        await call.code()

    async def _gone_connection(self) -> None:
        """A client that closes its connection with calls open."""
        channel = self._new_channel()
        watch = channel.unary_stream(f"/{HEALTH}/Watch")(b"", timeout=TIMEOUT_S)
        await watch.read()
        stream = channel.stream_stream(f"/{SERVICE}/StreamEvents")(timeout=TIMEOUT_S)
        await stream.write(self._shop.group(10).SerializeToString())
        await channel.close()

    async def _noise(self) -> None:
        """Somebody who does not speak gRPC and leaves without a word."""
        host, _, port = self._target.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(self._shop.random.choice(NOISE))
        writer.transport.abort()
