"""One gRPC server: handlers, standard services, port, drain.

Made on the event loop that serves, after any fork, and used on it only: grpc.aio knows one loop per process.
"""

from __future__ import annotations

import asyncio
import logging
import time

import grpc
import grpc.aio
import msgspec

from recserv import v1 as pb
from recserv.errors import UsageError
from recserv.logs import UserTag
from recserv.metrics import EventMetrics, Metrics
from recserv.resilience.deadline import MonotonicClock
from recserv.resilience.metrics import OverloadMetrics
from recserv.server.admission import Admission
from recserv.server.call import MESSAGE_BYTES_MAX
from recserv.server.core_batches import free_ended_batches
from recserv.server.cut import cut_connections
from recserv.server.event_stream import event_stream
from recserv.server.goaway import LOOK_AGAIN_S, Farewell
from recserv.server.handlers import Handler, HandlerFactory
from recserv.server.health import HEALTH_SERVICE, Health
from recserv.server.overload import Doorman, OverloadControl
from recserv.server.ports import Backend
from recserv.server.reflection import reflection_handlers
from recserv.server.servicer import Room, Servicer
from recserv.server.slots import Slots
from recserv.server.watch import WatchMethod
from recserv.types import Clock

logger = logging.getLogger("recserv.server")

SERVICE: str = pb.recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name
# Health watchers never finish by themselves; they are cut off this long after the last call.
_WATCHERS_GRACE_S = 0.2
# Time for clients to read the GOAWAY and move. A client that has not read it by then is turned away.
_LEAVE_S = 0.3
# For how long calls still queued in gRPC are turned away one by one during a drain, and how often we look.
_TURN_AWAY_S, _TURN_AWAY_STEP_S = 0.1, 0.02
# Most calls in flight finish within this time.
_SHORT_WAIT_S = 0.2
# Time for the last answers to reach the socket. The longer it is, the more often the same clients are turned away.
_FLUSH_S = 0.02

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Dead connections are detected within two minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients may ping every 10 seconds, also between calls.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    default_deadline_ms: int = 1_000
    recommend_budget_ms: int = 200
    """Time budget of a Recommend, even if its client would wait longer."""
    group_timeout_ms: int = 10_000
    """Time budget of a group of StreamEvents; when it is spent, the events are answered UNAVAILABLE."""
    max_in_flight: int = 256
    max_streams: int = 1_000
    max_watches: int = 1_000
    max_waiting_calls: int = 10_000
    """Calls that gRPC queues for each registered method, and for all others together. Beyond it gRPC ends calls as
    CANCELLED without a hint to retry: some from this number on, all from twice as many.
    """
    max_calls_per_connection: int = 1_000
    """0: no separate limit."""
    lame_duck_ms: int = 0
    """The first part of a drain, in which health says NOT_SERVING and calls are still served."""
    share_port: bool = False
    connection_age_ms: int = 0
    """0: connections are not closed for their age. A grace of 0 does not limit their last calls either."""
    connection_age_grace_ms: int = 0
    worker: str = ""
    """Name of this worker, sent in the trailing metadata of every call; empty: none is sent."""

    def options(self) -> tuple[tuple[str, int], ...]:
        """Channel arguments of gRPC."""
        # gRPC sets SO_REUSEPORT by default, with which two servers would silently share a port.
        chosen = [
            *_OPTIONS,
            ("grpc.so_reuseport", int(self.share_port)),
            ("grpc.server.max_pending_requests", self.max_waiting_calls),
            ("grpc.server.max_pending_requests_hard_limit", 2 * self.max_waiting_calls),
        ]
        if self.max_calls_per_connection:
            chosen.append(("grpc.max_concurrent_streams", self.max_calls_per_connection))
        if self.connection_age_ms:
            chosen.append(("grpc.max_connection_age_ms", self.connection_age_ms))
        if self.connection_age_grace_ms:
            chosen.append(("grpc.max_connection_age_grace_ms", self.connection_age_grace_ms))
        return tuple(chosen)


class GrpcServer:
    """A server that listens from `start` until `close`."""

    def __init__(
        self,
        backend: Backend,
        *,
        metrics: Metrics,
        limits: ServerLimits,
        clock: Clock,
        tag: UserTag | None = None,
        monotonic: MonotonicClock = time.monotonic,
    ):
        """`clock`: wall clock, to check event times against. `monotonic`: for deadlines and queueing times."""
        self.admission = Admission(limits.max_in_flight, limits.max_streams, limits.max_watches)
        self._server = grpc.aio.server(options=limits.options())
        self._port = 0
        self.overload = OverloadControl(OverloadMetrics(metrics.registry), clock=monotonic)
        self._servicer = Servicer(
            backend.recommender,
            backend.ingestor,
            backend.explanations,
            self.admission,
            Room(
                self.overload.judge,
                self.overload.wait,
                limits.recommend_budget_ms / 1000,
                limits.group_timeout_ms / 1000,
            ),
            EventMetrics(metrics),
            clock,
            tag or UserTag(),
        )
        self._watches = WatchMethod(
            backend.watcher,
            backend.recommender,
            self.overload,
            limits.recommend_budget_ms / 1000,
            clock=clock,
            monotonic=monotonic,
        )
        self._metrics, self._worker = metrics, limits.worker
        self._factory = HandlerFactory(
            self.admission,
            metrics,
            limits.default_deadline_ms,
            limits.worker,
            visits=self.overload,
            clock=monotonic,
        )
        self._lame_duck_s = limits.lame_duck_ms / 1000
        self._health = Health((SERVICE,), self.admission.watchers)

    @property
    def serving(self) -> bool:
        """What the health service reports."""
        return self._health.serving

    async def start(self, host: str, port: int) -> str:
        """Starts to listen and returns the bound address. Raises UsageError if the address cannot be bound."""
        # gRPC queues calls of each registered method separately, and those of all other methods together. Whatever
        # must get through while recommendations queue up is registered.
        register = self._server.add_registered_method_handlers  # type: ignore[attr-defined]
        register(SERVICE, self._event_handlers())
        register(HEALTH_SERVICE, self._health.handlers())
        calls = {f"/{SERVICE}/{name}": handler for name, handler in self._handlers().items()}
        done = {f"/{SERVICE}/{name}": self._metrics.rpc(name) for name in self._handlers()}
        doorman = Doorman(calls, self.overload, self.admission, done, self._worker)
        self._server.add_generic_rpc_handlers(
            (doorman, *reflection_handlers((SERVICE, HEALTH_SERVICE), self.admission.watchers))
        )
        # Registered without a handler, for a separate queue: the doorman supplies the handler.
        register(SERVICE, {"Recommend": None})
        name = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{name}:{port}")
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {name}:{port}: the address is in use, not of this machine, or not permitted"
            ) from error
        self._port = bound
        free_ended_batches()
        await self._server.start()
        Slots(self._server, f"/{SERVICE}/Recommend", doorman).open()
        self._health.begin()
        return f"{name}:{bound}"

    async def drain(self, grace_s: float) -> bool:
        """`quiesce` and `close`. True if all calls finished."""
        finished = await self.quiesce(grace_s)
        await self.close()
        return finished

    async def quiesce(self, grace_s: float) -> bool:
        """The drain. Health reports NOT_SERVING while everything is served as before (lame duck); clients are sent
        GOAWAY, and calls that they start before reading it are answered; then new calls are refused, and those in
        flight finish within the rest of the grace period. True if all of them did.

        Late calls are answered UNAVAILABLE: gRPC's own shutdown would end them as CANCELLED, which tells clients
        nothing about retrying. It is begun only if calls in flight take longer than most.
        """
        ends_s = (loop := asyncio.get_running_loop()).time() + grace_s
        self._health.end()
        await asyncio.sleep(min(self._lame_duck_s, grace_s / 2))
        await self._see_off(min(_LEAVE_S, grace_s / 4))
        self.admission.close()
        left_s = max(0.0, ends_s - loop.time())
        if await self._drained(min(_SHORT_WAIT_S, left_s)):
            await asyncio.sleep(_FLUSH_S)
            return True
        stopping = asyncio.ensure_future(self._stop(left_s + _WATCHERS_GRACE_S))
        finished = await self._drained(left_s)
        if not finished:
            calls, streams = self.admission.in_flight, self.admission.streams.in_use
            fields = {"calls": calls, "streams": streams, "watches": self.admission.watches.in_use}
            logger.warning("drain cut short", extra={"fields": fields})
        await self._server.stop(_WATCHERS_GRACE_S)
        await stopping
        return finished

    async def _see_off(self, seconds: float) -> None:
        farewell = Farewell(self._port)
        farewell.stop_listening()
        for _ in range(round(seconds / LOOK_AGAIN_S)):
            # There may be thousands of connections to inspect.
            if not await asyncio.to_thread(farewell.look):
                return
            await asyncio.sleep(LOOK_AGAIN_S)

    def cut_off(self) -> None:
        """For a process that is about to exit, after `quiesce`: closes the port and all connections at once, behind
        gRPC's back, so that clients reconnect elsewhere while this process cleans up. Linux only.
        """
        cut_connections(self._port)

    async def close(self) -> None:
        """Closes the port and all connections; health watchers are cut off."""
        await self._stop(_WATCHERS_GRACE_S)

    async def _stop(self, grace_s: float) -> None:
        await self._turn_away_queued(min(_TURN_AWAY_S, grace_s))
        await self._server.stop(grace_s)

    async def _drained(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.admission.drained()
        except TimeoutError:
            return False
        return True

    async def _turn_away_queued(self, seconds: float) -> None:
        """Refuses the calls that gRPC has queued: it would end them as CANCELLED, without a hint to retry."""
        loop = asyncio.get_running_loop()
        give_up_s, seen = loop.time() + seconds, -1
        while seen != self.admission.turned_away and loop.time() < give_up_s:
            seen = self.admission.turned_away
            await asyncio.sleep(_TURN_AWAY_STEP_S)

    def _event_handlers(self) -> dict[str, Handler]:
        unary, servicer, room = self._factory.unary, self._servicer, self.admission.events
        return {
            "IngestEvent": unary("IngestEvent", pb.IngestEventRequest, servicer.ingest_event, room),
            "BatchIngestEvents": unary(
                "BatchIngestEvents", pb.BatchIngestEventsRequest, servicer.batch_ingest_events, room
            ),
            "StreamEvents": event_stream(self._factory, servicer.stream_group),
        }

    def _handlers(self) -> dict[str, Handler]:
        unary, servicer, admission = self._factory.unary, self._servicer, self.admission
        room, others = admission.recommends, admission.others
        return {
            "Recommend": unary("Recommend", pb.RecommendRequest, servicer.recommend, room),
            "BatchRecommend": unary("BatchRecommend", pb.BatchRecommendRequest, servicer.batch_recommend, room),
            "GetContext": unary("GetContext", pb.GetContextRequest, servicer.get_context, others),
            "GetExplanations": unary("GetExplanations", pb.GetExplanationsRequest, servicer.get_explanations, others),
            "WatchExplanations": self._factory.server_stream(
                "WatchExplanations", pb.WatchExplanationsRequest, servicer.watch_explanations
            ),
            "WatchRecommendations": self._factory.server_stream(
                "WatchRecommendations",
                pb.WatchRecommendationsRequest,
                self._watches.watch_recommendations,
                admission.watches,
            ),
        }
