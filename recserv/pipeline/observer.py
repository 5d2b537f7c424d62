"""Callbacks of the request path for metrics. They run on the event loop, so implementations must be cheap and must not
raise.
"""

from __future__ import annotations

from typing import Protocol

from recserv.types import DegradedReason, Source


class PipelineObserver(Protocol):
    def stage(self, name: str, seconds: float) -> None: ...

    def degraded(self, reason: DegradedReason) -> None: ...

    def source(self, source: Source, count: int) -> None: ...

    def index_search(self) -> None: ...


class SilentObserver:
    """For tools and tests that measure nothing."""

    def stage(self, name: str, seconds: float) -> None:
        """Nobody listens."""

    def degraded(self, reason: DegradedReason) -> None:
        """Nobody listens."""

    def source(self, source: Source, count: int) -> None:
        """Nobody listens."""

    def index_search(self) -> None:
        """Nobody listens."""
