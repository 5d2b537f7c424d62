"""gRPC handlers over raw bytes: everything that is the same for every RPC, around the servicer's methods.

gRPC would answer bytes that its deserialiser cannot parse with UNKNOWN and the text of an exception, so messages are
parsed here.
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
            # A call that waits for the store says nothing about the load of recommendations.
            visits=self._visits if limiter is self.admission.recommends else None,
            clock=self._clock,
        )

    def unary(self, rpc: str, message_type: type[M], method: UnaryMethod[M], limiter: ConcurrencyLimiter) -> Handler:
        run, parse = self.interceptor(rpc, limiter).run, parser(message_type)

        async def work(raw: bytes, call: Call) -> bytes:
            message = parse(raw)
            if call.client_deadline:
                # gRPC itself cancels the handler when the client's deadline has passed.
                return (await method(message, call)).SerializeToString()
            late = DeadlineTooNear("no answer within the server's default deadline")
            return (await within(call.deadline.remaining_s(), method(message, call), late)).SerializeToString()

        async def handle(raw: bytes, context: ServicerContext) -> bytes | None:
            return await run(work, raw, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def server_stream(
        self, rpc: str, message_type: type[M], method: StreamMethod[M], limiter: ConcurrencyLimiter | None = None
    ) -> Handler:
        """A server-streaming handler. Without a client deadline the stream stays open for as long as the client likes.
        `limiter`: None for the one that all streams share.
        """
        run, parse = self.interceptor(rpc, limiter or self.admission.streams).run, parser(message_type)

        async def pump(raw: bytes, call: Call) -> None:
            # Closes the generator at once if the client leaves during a write, and not at the next garbage collection.
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
                # Breaks a reference cycle: it holds the error that it ended with, whose traceback refers to this frame.
                del task

        async def handle(raw: bytes, context: ServicerContext) -> None:
            await run(work, raw, context)

        return grpc.unary_stream_rpc_method_handler(handle)
