"""One gRPC server: handlers, standard services, port, drain.

Made on the event loop that serves, after any fork, and used on it only: grpc.aio knows one loop per process.
"""

from __future__ import annotations

import asyncio
import logging

import grpc
import grpc.aio
import msgspec

from recserv.errors import UsageError
from recserv.logs import UserTag
from recserv.metrics import EventMetrics, Metrics
from recserv.server.admission import Admission
from recserv.server.call import MESSAGE_BYTES_MAX
from recserv.server.event_stream import event_stream
from recserv.server.handlers import Handler, HandlerFactory
from recserv.server.ports import Explanations, Ingestor, Recommender
from recserv.server.servicer import Servicer
from recserv.server.standard import Health, reflection_handler
from recserv.types import Clock
from recserv.v1 import recommendation_pb2 as pb

logger = logging.getLogger("recserv.server")

SERVICE: str = pb.DESCRIPTOR.services_by_name["RecommendationService"].full_name
# Watchers of health never finish by themselves; they are cut off this long after the last call.
_WATCHERS_GRACE_S = 0.2
# How long the calls that are queued when a drain begins are turned away one by one, and how often it looks.
_TURN_AWAY_S, _TURN_AWAY_STEP_S = 0.5, 0.02

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # On by default: two servers would share a port in silence.
    ("grpc.so_reuseport", 0),
    # Connections that died without a word are found within two minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients may ping every 10 seconds, also between calls.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    default_deadline_ms: int = 1_000
    max_in_flight: int = 256
    max_streams: int = 1_000


class GrpcServer:
    """Listens from `start` to `drain`."""

    def __init__(
        self,
        recommender: Recommender,
        ingestor: Ingestor,
        explanations: Explanations,
        *,
        metrics: Metrics,
        limits: ServerLimits,
        clock: Clock,
        tag: UserTag | None = None,
    ):
        self.admission = Admission(limits.max_in_flight, limits.max_streams)
        self._servicer = Servicer(
            recommender, ingestor, explanations, self.admission, EventMetrics(metrics), clock, tag or UserTag()
        )
        self._factory = HandlerFactory(self.admission, metrics, limits.default_deadline_ms)
        self._health = Health((SERVICE,))
        self._server = grpc.aio.server(options=_OPTIONS)

    async def start(self, host: str, port: int) -> str:
        """Listens; returns the bound address. Raises UsageError if it cannot be taken."""
        handlers = grpc.method_handlers_generic_handler(SERVICE, self._handlers())
        self._server.add_generic_rpc_handlers((handlers, self._health.handler(), reflection_handler((SERVICE,))))
        name = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{name}:{port}")
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {name}:{port}: the address is in use, not of this machine, or not permitted"
            ) from error
        await self._health.serving()
        await self._server.start()
        return f"{name}:{bound}"

    async def drain(self, grace_s: float) -> bool:
        """Health says NOT_SERVING, nobody new is let in, calls in flight finish within the grace period, the port
        closes. True if all of them did finish.
        """
        await self._health.draining()
        self.admission.close()
        await self._turn_away_queued(min(_TURN_AWAY_S, grace_s))
        stopping = asyncio.ensure_future(self._server.stop(grace_s + _WATCHERS_GRACE_S))
        try:
            async with asyncio.timeout(grace_s):
                await self.admission.drained()
        except TimeoutError:
            calls, streams = self.admission.calls.in_use, self.admission.streams.in_use
            logger.warning("drain cut short", extra={"fields": {"calls": calls, "streams": streams}})
        finished = not (self.admission.calls.in_use or self.admission.streams.in_use)
        await self._server.stop(_WATCHERS_GRACE_S)
        await stopping
        return finished

    async def _turn_away_queued(self, seconds: float) -> None:
        """gRPC itself would end the calls that wait to be dispatched as CANCELLED, which says nothing of a retry."""
        loop = asyncio.get_running_loop()
        give_up_s, seen = loop.time() + seconds, -1
        while seen != self.admission.turned_away and loop.time() < give_up_s:
            seen = self.admission.turned_away
            await asyncio.sleep(_TURN_AWAY_STEP_S)

    def _handlers(self) -> dict[str, Handler]:
        unary, servicer = self._factory.unary, self._servicer
        return {
            "Recommend": unary("Recommend", pb.RecommendRequest, servicer.recommend),
            "BatchRecommend": unary("BatchRecommend", pb.BatchRecommendRequest, servicer.batch_recommend),
            "IngestEvent": unary("IngestEvent", pb.IngestEventRequest, servicer.ingest_event),
            "BatchIngestEvents": unary("BatchIngestEvents", pb.BatchIngestEventsRequest, servicer.batch_ingest_events),
            "StreamEvents": event_stream(self._factory, servicer.stream_group),
            "GetContext": unary("GetContext", pb.GetContextRequest, servicer.get_context),
            "GetExplanations": unary("GetExplanations", pb.GetExplanationsRequest, servicer.get_explanations),
            "WatchExplanations": self._factory.server_stream(
                "WatchExplanations", pb.WatchExplanationsRequest, servicer.watch_explanations
            ),
        }
