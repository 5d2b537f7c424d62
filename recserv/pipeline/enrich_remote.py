"""Tokens issued by another worker: entries from the shared store, their state from the outcome of each key.

A caller that asks right after the answer may be faster than the worker that publishes it: for so young a token, the
store is asked again for a short time before it is NOT_FOUND.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from recserv.errors import NotFound
from recserv.pipeline.enrich_jobs import Entry
from recserv.stores.explanations_base import ExplanationStore, Outcome
from recserv.types import Clock, Explanation, ExplanationState, TemplateCause

POLL_S, POLL_S_MAX = 0.05, 0.5
"""First and longest pause before a watcher asks the store again; doubled each time that nothing is new."""
YOUNG_MS = 2_000
WAIT_S = 0.5


class PublishedEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """See Entry. With `text` or `cause` set it was final when it was published."""

    item_id: str
    template: str
    key: bytes
    text: str = ""
    cause: int = 0


class PublishedToken(msgspec.Struct, frozen=True, array_like=True):
    posted_ms: int
    end_ms: int
    entries: tuple[PublishedEntry, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PublishedToken).decode


def encoded(posted_ms: int, end_ms: int, entries: Sequence[Entry]) -> bytes:
    """The record of a token. What was pending when it was issued stays pending here; the key's outcome has the rest."""
    return _encode(
        PublishedToken(
            posted_ms, end_ms, tuple([PublishedEntry(e.item_id, e.template, e.key, e.text, e.cause) for e in entries])
        )
    )


def told(entry: PublishedEntry, outcome: Outcome, token: PublishedToken, now_ms: int) -> Explanation:
    """The explanation of an entry, given the outcome of its key. Once final it does not change."""
    if entry.text:
        return Explanation(entry.item_id, entry.text, ExplanationState.READY)
    cause = TemplateCause(entry.cause)
    if not cause and outcome.failed_ms >= token.posted_ms:
        cause = TemplateCause(outcome.cause) or TemplateCause.PROVIDER_FAILED
    if not cause and outcome.text and outcome.ready_ms <= token.end_ms:
        return Explanation(entry.item_id, outcome.text, ExplanationState.READY)
    if not cause and now_ms >= token.end_ms:
        cause = TemplateCause.EXPIRED
    if cause:
        return Explanation(entry.item_id, entry.template, ExplanationState.TEMPLATE, cause)
    return Explanation(entry.item_id, entry.template, ExplanationState.PENDING)


class RemoteTokens:
    def __init__(self, store: ExplanationStore, clock: Clock):
        self._store, self._clock = store, clock

    async def explanations(self, tenant: str, token: str, made_ms: int) -> tuple[Explanation, ...]:
        """Raises NotFound, or StoreUnavailable."""
        return await self._now(tenant, await self._find(tenant, token, made_ms))

    async def watch(self, tenant: str, token: str, made_ms: int) -> AsyncIterator[Explanation]:
        """Each explanation as it becomes final. Raises NotFound, or StoreUnavailable."""
        record, pause_s = await self._find(tenant, token, made_ms), POLL_S
        while True:
            now = await self._now(tenant, record)
            for explanation in now:
                if explanation.state is not ExplanationState.PENDING:
                    yield explanation
            waiting = [
                entry
                for entry, explanation in zip(record.entries, now, strict=True)
                if explanation.state is ExplanationState.PENDING
            ]
            if not waiting:
                return
            # Texts land soon after each other.
            pause_s = POLL_S if len(waiting) < len(record.entries) else min(2 * pause_s, POLL_S_MAX)
            record = msgspec.structs.replace(record, entries=tuple(waiting))
            await asyncio.sleep(pause_s)

    async def _find(self, tenant: str, token: str, made_ms: int) -> PublishedToken:
        young = abs(self._clock() - made_ms) < YOUNG_MS
        give_up_s = asyncio.get_running_loop().time() + (WAIT_S if young else 0.0)
        while True:
            raw = await self._store.token(tenant, token) if made_ms else None
            if raw is not None:
                return _decode(raw)
            if asyncio.get_running_loop().time() >= give_up_s:
                raise NotFound("explanation_token is unknown or has expired")
            await asyncio.sleep(POLL_S)

    async def _now(self, tenant: str, record: PublishedToken) -> tuple[Explanation, ...]:
        open_keys = [entry.key for entry in record.entries if not entry.text and not entry.cause]
        found = await self._store.outcomes(tenant, open_keys) if open_keys else []
        outcomes = dict(zip(open_keys, found, strict=True))
        now_ms = self._clock()
        return tuple([told(entry, outcomes.get(entry.key, Outcome()), record, now_ms) for entry in record.entries])
