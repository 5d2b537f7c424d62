"""A gRPC server before another one: passes every call on as it is, but turns the first IngestEvents away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S

DEADLINE_S_MAX = 3600.0
"""gRPC says of a call without a deadline that centuries are left."""
INGEST = "/recserv.v1.RecommendationService/IngestEvent"


class Arrival(NamedTuple):
    """An IngestEvent: what came, and when in seconds of the monotonic clock."""

    event: pb.Event
    at_s: float


class Front(grpc.GenericRpcHandler):
    """`refusals`: the codes of the first IngestEvents, each with a RetryInfo of `delay_s`. `arrivals`: all of them.
    `without_deadline`: the methods of calls that had none.
    """

    def __init__(self, behind: grpc.Channel, refusals: list[grpc.StatusCode], delay_s: float):
        self._behind, self._refusals, self._delay_s = behind, refusals, delay_s
        self.address = ""
        self.arrivals: list[Arrival] = []
        self.without_deadline: list[str] = []

    def service(self, details: Any) -> Any:
        method = details.method

        def passed(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            left_s = context.time_remaining()
            if left_s is None or left_s > DEADLINE_S_MAX:
                self.without_deadline.append(method)
            if method == INGEST:
                # One message, then the end: what a unary call is on the wire.
                requests = iter([self._seen(next(requests), context)])
            call = self._behind.stream_stream(method)(requests, timeout=HANG_GUARD_S)
            try:
                yield from call
            except grpc.RpcError as error:
                context.set_trailing_metadata(call.trailing_metadata())
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(passed)

    def _seen(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        event = pb.IngestEventRequest.FromString(request).event
        self.arrivals.append(Arrival(event, time.monotonic()))
        if self._refusals:
            context.abort_with_status(rpc_status.to_status(self._refusal(self._refusals.pop(0))))
        return request

    def _refusal(self, code: grpc.StatusCode) -> status_pb2.Status:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(self._delay_s * 1000))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status_pb2.Status(code=code.value[0], message="as the test wants it", details=[detail])


@contextmanager
def front_of(target: str, refusals: list[grpc.StatusCode], delay_s: float) -> Iterator[Front]:
    with grpc.insecure_channel(target) as behind:
        front = Front(behind, refusals, delay_s)
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((front,))
        front.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield front
        finally:
            server.stop(0).wait(HANG_GUARD_S)
