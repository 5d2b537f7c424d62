"""One call: its deadline, its request id, and the interceptor that turns errors into statuses.

in    admitted -> deadline read -> work -> counted
out   any error -> google.rpc.Status -> counted, logged, sent
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from recserv.errors import (
    DeadlineTooNear,
    InvalidInput,
    Overloaded,
    RecservError,
    StoreUnavailable,
    TooLarge,
    Violation,
)
from recserv.metrics import RequestDone
from recserv.resilience.deadline import Deadline, MonotonicClock
from recserv.resilience.quiet_log import QuietLog
from recserv.server.admission import ConcurrencyLimiter, Visits
from recserv.server.status import Interrupted, ServerDraining, code_of, refuse, status_of, trailing_metadata
from recserv.types import DEFAULT_TENANT, ID_BYTES_MAX

logger = logging.getLogger("recserv.server")
quiet = QuietLog(logger, interval_s=1.0)

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
WORKER_KEY = "x-recserv-worker"
"""Trailing metadata: which process answered."""
# A client whose deadline has passed still sends a positive timeout. No work fits into less than this.
DEADLINE_MIN_S = 0.001

M = TypeVar("M", bound=Message)
R = TypeVar("R")
ServicerContext = Any
"""grpc.aio.ServicerContext whose messages are raw bytes."""


class Call:
    """What a servicer's method may know about its call. The tenant will come from authentication, once that exists.

    `deadline` is the client's, else the server's default; `client_deadline` tells which. `degraded`, if set, is sent in
    the trailing metadata of the answer.
    """

    __slots__ = ("_request_id", "client_deadline", "context", "deadline", "degraded", "rpc", "tenant")

    def __init__(
        self, rpc: str, context: ServicerContext, default_deadline_s: float, clock: MonotonicClock = time.monotonic
    ):
        self.rpc, self.context = rpc, context
        self.tenant = DEFAULT_TENANT
        self._request_id = ""
        self.degraded: tuple[str, str] | None = None
        # Read once: gRPC computes it from the wall clock, which may jump.
        remaining: float | None = context.time_remaining()
        self.client_deadline = remaining is not None
        self.deadline = Deadline(default_deadline_s if remaining is None else remaining, clock)

    def check_deadline(self) -> None:
        """Raises DeadlineTooNear if too little time is left to begin."""
        if self.client_deadline and self.deadline.remaining_s() < DEADLINE_MIN_S:
            raise DeadlineTooNear("the deadline was already past when the call arrived")

    def named(self, request_id: str) -> None:
        """Takes the request id that the message carries."""
        self._request_id = request_id

    def request_id(self) -> str:
        """The message's, else the metadata's `x-request-id`, else generated; stable once read."""
        if not self._request_id:
            self._request_id = _request_id_of(self.context)
        return self._request_id


def _request_id_of(context: ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str) and 0 < len(value) <= ID_BYTES_MAX:
            return value
    return uuid.uuid4().hex[:16]


class CallInterceptor:
    """Wraps every call of one RPC: admission before it, exactly one status and one count after it."""

    def __init__(
        self,
        rpc: str,
        limiter: ConcurrencyLimiter,
        done: RequestDone,
        default_deadline_s: float,
        worker: str = "",
        *,
        visits: Visits | None = None,
        clock: MonotonicClock = time.monotonic,
    ):
        self._rpc, self._limiter, self._done = rpc, limiter, done
        self._visits, self._clock = visits, clock
        self._default_deadline_s = default_deadline_s
        self._worker = ((WORKER_KEY, worker),) if worker else ()

    async def run(
        self, work: Callable[[R, Call], Awaitable[bytes | None]], given: R, context: ServicerContext
    ) -> bytes | None:
        """Runs `work(given, call)`. Returns its result; if it raises, sends the status for that and returns None."""
        started = perf_counter()
        call = Call(self._rpc, context, self._default_deadline_s, self._clock)
        if self._visits is not None:
            self._visits.enter()
        try:
            self._limiter.enter()
            try:
                call.check_deadline()
                answer = await work(given, call)
            finally:
                self._limiter.leave()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # gRPC cancelled the handler (client gone, deadline passed, server stopped) and has told the client.
                self._done("CANCELLED", perf_counter() - started)
                raise
            # The cancellation came from something that the handler awaited. Passed on, it would leave the client
            # hanging without a status.
            error: BaseException = Interrupted("the call was interrupted; try again")
        except grpc.aio.InternalError:
            # A stream's answer could not be sent: the client is gone, and gRPC has not cancelled the handler yet.
            self._done("CANCELLED", perf_counter() - started)
            await refuse(context, grpc.StatusCode.CANCELLED, "the answer could not be sent", self._worker)
            return None
        except Exception as caught:
            error = caught
        else:
            self._done("OK", perf_counter() - started)
            context.set_trailing_metadata((*self._worker, call.degraded) if call.degraded else self._worker)
            return answer
        finally:
            if self._visits is not None:
                self._visits.leave()
        try:
            self._done(code_of(error).name, perf_counter() - started)
            log_failure(self._rpc, error, call.request_id())
            status = status_of(error, call.request_id())
            trailing = (*trailing_metadata(status, error), *self._worker)
            await refuse(context, code_of(error), status.message, trailing)
            return None
        finally:
            # Breaks a reference cycle: its traceback refers to this frame.
            del error


def parser(message_type: type[M]) -> Callable[[bytes], M]:
    """Bytes -> message; InvalidInput instead of DecodeError, TooLarge beyond MESSAGE_BYTES_MAX."""
    from_string = message_type.FromString
    name = message_type.DESCRIPTOR.name

    def parse(raw: bytes) -> M:
        if len(raw) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"the message has {len(raw)} bytes; at most {MESSAGE_BYTES_MAX} are taken")
        try:
            return from_string(raw)
        except DecodeError:
            problem = f"the bytes are not a {name}: truncated, garbage, or text that is not UTF-8"
            raise InvalidInput([Violation("request", problem, "MALFORMED")]) from None

    return parse


async def within(seconds: float, work: Awaitable[R], late: RecservError) -> R:
    """Awaits `work` for at most `seconds`, then raises `late`. Cancelling `work` does not undo what it has started."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise late from None
        raise


def log_failure(rpc: str, error: BaseException, request_id: str) -> None:
    code = code_of(error)
    fields = {"rpc": rpc, "status": code.name, "request_id": request_id}
    if code is grpc.StatusCode.INTERNAL:
        logger.error("call failed", extra={"fields": fields}, exc_info=error)
    elif isinstance(error, StoreUnavailable | Overloaded):
        # In an outage every call would log it.
        fields["cause"] = str(error)
        quiet.log(logging.WARNING, f"{rpc} {code.name}", "call failed", fields=fields)
    elif code is grpc.StatusCode.UNAVAILABLE and not isinstance(error, ServerDraining):
        logger.warning("call failed", extra={"fields": {**fields, "cause": str(error)}})
    elif logger.isEnabledFor(logging.INFO):
        logger.info("call refused", extra={"fields": {**fields, "cause": str(error)}})
