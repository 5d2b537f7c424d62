"""What the server needs from the parts behind it, as protocols: the pipeline's classes fit, and the tests' fakes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from recserv.errors import RecservError
from recserv.resilience.deadline import Deadline
from recserv.types import Event, Explanation, IngestStatus, Recommendation, RecommendQuery, ShopperContext, ShopperKey


class Recommender(Protocol):
    async def recommend(
        self, query: RecommendQuery, deadline: Deadline, *, overloaded: bool = False
    ) -> Recommendation: ...

    async def context(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperContext: ...


class Outcome(Protocol):
    """`error` is set if and only if `status` is REJECTED."""

    @property
    def status(self) -> IngestStatus: ...

    @property
    def consistency_token(self) -> str: ...

    @property
    def error(self) -> RecservError | None: ...


class Ingestor(Protocol):
    async def ingest(self, tenant: str, events: Sequence[Event]) -> Sequence[Outcome]: ...


class Explanations(Protocol):
    async def explanations(self, tenant: str, token: str) -> tuple[Explanation, ...]: ...

    def watch(self, tenant: str, token: str) -> AsyncIterator[Explanation]: ...


class Watcher(Protocol):
    @property
    def open_watches(self) -> int: ...

    def watch(
        self,
        query: RecommendQuery,
        last: bytes,
        look: Callable[[RecommendQuery, bool], Awaitable[Recommendation | None]],
    ) -> AsyncGenerator[tuple[Recommendation, str], None]:
        """See WatchRunner.watch."""


class Backend(NamedTuple):
    """All the parts that a server needs."""

    recommender: Recommender
    ingestor: Ingestor
    explanations: Explanations
    watcher: Watcher
