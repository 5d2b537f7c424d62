"""A state store that is opened when it can be: what is wrong with it never ends the start of a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from recserv.errors import StoreUnavailable, UsageError
from recserv.stores.base import AppendEvent, AppendResult, AppendStatus, StateStore, StateVersion
from recserv.types import ShopperKey, ShopperState

# Operators find these lines under the name of the part that opens the store.
logger = logging.getLogger("recserv.app")

_STORE_RETRY_S = 5.0


class RetriedStore:
    """A StateStore that is opened when it can be: until then reads and appends are unavailable, and it is tried again.

    `make` gives a new store for each attempt. `open` raises UsageError for what can never work, nothing else.
    """

    def __init__(self, make: Callable[[], StateStore], retry_s: float = _STORE_RETRY_S):
        self._make, self._retry_s = make, retry_s
        self._store: StateStore | None = None
        self._retrying: asyncio.Task[None] | None = None

    @property
    def queued_events(self) -> int:
        """Taken and neither written nor given up."""
        return getattr(self._store, "queued_events", 0)

    @property
    def token_key(self) -> bytes:
        return b"" if self._store is None else self._store.token_key

    async def open(self) -> None:
        if not await self._try():
            self._retrying = asyncio.create_task(self._retry())

    async def _try(self) -> bool:
        store = self._make()
        try:
            await store.open()
        except StoreUnavailable as error:
            logger.error("the state store cannot be opened", extra={"fields": {"problem": str(error)}})
            return False
        self._store = store
        return True

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                if await self._try():
                    logger.info("the state store is open")
                    return
            except UsageError as error:
                logger.error("the state store cannot be opened", extra={"fields": {"problem": str(error)}})
            except Exception as error:
                # Whatever it is, to give up in silence would be worse.
                problem = f"{type(error).__name__}: {error}"
                logger.exception("the state store cannot be opened", extra={"fields": {"problem": problem}})

    async def close(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    async def append(self, tenant: str, events: Sequence[AppendEvent]) -> list[AppendResult]:
        if self._store is None:
            return [AppendResult(AppendStatus.UNAVAILABLE, 0, "the state store is not open")] * len(events)
        return await self._store.append(tenant, events)

    async def read(self, tenant: str, keys: Sequence[ShopperKey]) -> list[ShopperState]:
        if self._store is None:
            raise StoreUnavailable("the state store is not open")
        return await self._store.read(tenant, keys)

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        if self._store is None:
            raise StoreUnavailable("the state store is not open")
        return await self._store.versions(tenant, keys)
