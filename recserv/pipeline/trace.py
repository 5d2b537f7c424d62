"""What happened to one request: which stages ran, how long they took, what was degraded and why."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from recserv.pipeline.observer import PipelineObserver
from recserv.types import DegradedReason

P = ParamSpec("P")
T = TypeVar("T")


class Trace:
    """Runs and times stages; collects each degradation once, in order of occurrence."""

    __slots__ = ("_observer", "_reasons")

    def __init__(self, observer: PipelineObserver):
        self._observer = observer
        self._reasons: dict[DegradedReason, None] = {}

    def run(self, name: str, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            return stage(*args, **kwargs)
        finally:
            self._observer.stage(name, time.perf_counter() - began)

    async def wait(self, name: str, stage: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await stage
        finally:
            self._observer.stage(name, time.perf_counter() - began)

    def degrade(self, reason: DegradedReason) -> None:
        if reason not in self._reasons:
            self._reasons[reason] = None
            self._observer.degraded(reason)

    @property
    def reasons(self) -> tuple[DegradedReason, ...]:
        return tuple(self._reasons)
