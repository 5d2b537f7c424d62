"""gRPC handlers over raw bytes: everything that is the same for every RPC, around the servicer's methods.

gRPC's own deserialiser would answer malformed bytes with UNKNOWN and the text of an exception, so messages are parsed
in here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

from recserv.errors import DeadlineTooNear
from recserv.metrics import Metrics
from recserv.resilience.deadline import MonotonicClock
from recserv.server.admission import Admission, ConcurrencyLimiter, Visits
from recserv.server.call import Call, CallInterceptor, M, ServicerContext, parser, within
from recserv.server.status import ServerDraining

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
UnaryMethod = Callable[[M, Call], Awaitable[Message]]
StreamMethod = Callable[[M, Call], AsyncGenerator[Message, None]]


class HandlerFactory:
    """Makes the handlers of one server: they share its admission, metrics, default deadline and worker's name."""

    def __init__(
        self,
        admission: Admission,
        metrics: Metrics,
        default_deadline_ms: int,
        worker: str = "",
        *,
        visits: Visits,
        clock: MonotonicClock = time.monotonic,
    ):
        self.admission = admission
        self._visits, self._clock = visits, clock
        self._metrics, self._default_deadline_s, self._worker = metrics, default_deadline_ms / 1000, worker

    def interceptor(self, rpc: str, limiter: ConcurrencyLimiter) -> CallInterceptor:
        return CallInterceptor(
            rpc,
            limiter,
            self._metrics.rpc(rpc),
            self._default_deadline_s,
            self._worker,
            # A call that waits for the store is no sign of too many recommendations.
            visits=self._visits if limiter is self.admission.recommends else None,
            clock=self._clock,
        )

    def unary(self, rpc: str, message_type: type[M], method: UnaryMethod[M], limiter: ConcurrencyLimiter) -> Handler:
        run, parse = self.interceptor(rpc, limiter).run, parser(message_type)

        async def work(raw: bytes, call: Call) -> bytes:
            message = parse(raw)
            if call.client_deadline:
                # gRPC itself cancels the handler when the client's deadline is past.
                return (await method(message, call)).SerializeToString()
            late = DeadlineTooNear("no answer within the server's default deadline")
            return (await within(call.deadline.remaining_s(), method(message, call), late)).SerializeToString()

        async def handle(raw: bytes, context: ServicerContext) -> bytes | None:
            return await run(work, raw, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def server_stream(
        self, rpc: str, message_type: type[M], method: StreamMethod[M], limiter: ConcurrencyLimiter | None = None
    ) -> Handler:
        """A stream of answers. Without a deadline of the client's it may stay open as long as the client likes.
        `limiter` None: those of streams.
        """
        run, parse = self.interceptor(rpc, limiter or self.admission.streams).run, parser(message_type)

        async def pump(raw: bytes, call: Call) -> None:
            # Closed at once when the client goes in the middle of a write, not when the collector comes by.
            async with aclosing(method(parse(raw), call)) as answers:
                async for answer in answers:
                    await call.context.write(answer.SerializeToString())

        async def work(raw: bytes, call: Call) -> None:
            task = asyncio.ensure_future(pump(raw, call))
            self.admission.interrupt_on_close(task)
            try:
                await task
            except asyncio.CancelledError:
                handler = asyncio.current_task()
                if self.admission.closed and handler is not None and not handler.cancelling():
                    raise ServerDraining("the server is shutting down") from None
                raise
            finally:
                # It knows the error that it ended with, and that this frame.
                del task

        async def handle(raw: bytes, context: ServicerContext) -> None:
            await run(work, raw, context)

        return grpc.unary_stream_rpc_method_handler(handle)
