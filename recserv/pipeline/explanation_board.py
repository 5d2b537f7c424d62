"""Explanations under a token, to poll or to watch after a Recommend with EXPLAIN_MODE_LLM_ASYNC.

    post          answer -> texts that are known (READY), jobs for the others (PENDING), a token; waits for nothing
    runner        jobs -> writer -> texts, each as it lands                        enrich_runner.py
    explanations  token -> every item as of now
    watch         token -> each item as it becomes final, then the end

Every token becomes final: once its job's deadline and a grace period have passed, an item is READY or TEMPLATE, even if
the worker that wrote it died. A token contains its time of issue, so any worker can apply that rule. Without a language
model the texts are the template reasons, final from the start.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import AsyncIterator, Sequence
from sys import getsizeof

import msgspec
from msgspec.structs import replace

from recserv.config_llm import LlmSettings
from recserv.errors import NotFound
from recserv.llm.base import LlmObserver, SilentLlmObserver
from recserv.model.items import ItemTable
from recserv.pipeline.context import Context
from recserv.pipeline.enrich_jobs import Entry
from recserv.pipeline.enrich_outbox import Outbox
from recserv.pipeline.enrich_remote import RemoteTokens
from recserv.pipeline.enrich_runner import EnrichRunner
from recserv.pipeline.situation import Asked, asked, templates
from recserv.resilience.lru import LruCache
from recserv.stores.explanations_base import ExplanationStore
from recserv.types import Clock, Explanation, ExplanationState, RecommendQuery, Result, TemplateCause

TOKENS_MAX = 10_000
TOKENS_BYTES_MAX = 64 * 1024 * 1024
TOKEN_TTL_S = 600.0
GRACE_MS = 500
"""Grace after a job's deadline; from then on nothing can be written for it."""

# Measured with tracemalloc on 64-bit CPython 3.11; a test measures again and compares.
_POSTED_BYTES = 400
"""Bytes of a token with its text and tuple."""
_ENTRY_BYTES = 120
_SLOT_BYTES = 180


class Posted(msgspec.Struct, frozen=True):
    """What the process that issued a token keeps for it. `end_ms`: when pending items are given up."""

    entries: tuple[Entry, ...]
    end_ms: int
    until_ms: int


class ExplanationBoard:
    """`runner` None: no language model. `store` None: tokens are known to this process only. Beyond `tokens_bytes_max`
    the oldest tokens kept here are dropped.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        settings: LlmSettings | None = None,
        runner: EnrichRunner | None = None,
        store: ExplanationStore | None = None,
        outbox: Outbox | None = None,
        observer: LlmObserver | None = None,
        prompt_version: str = "",
        tokens_bytes_max: int = TOKENS_BYTES_MAX,
    ):
        self._clock, self._settings, self._runner, self._outbox = clock, settings, runner, outbox
        self._observer = observer or SilentLlmObserver()
        self._prompt_version = prompt_version
        self._token_ttl_ms = round((settings.token_ttl_s if settings else TOKEN_TTL_S) * 1000)
        self._life_ms = round(settings.job_deadline_s * 1000) + GRACE_MS if settings else 0
        self._tokens: LruCache[tuple[str, str], Posted] = LruCache(TOKENS_MAX, tokens_bytes_max, _kept_bytes)
        self._remote = RemoteTokens(store, clock) if store is not None and store.shared else None

    def post(
        self,
        query: RecommendQuery,
        context: Context,
        items: ItemTable,
        item_rows: Sequence[int],
        results: Sequence[Result],
    ) -> tuple[tuple[Result, ...], str]:
        """The results with the explanations known by now, and an unguessable token for the rest.

        `item_rows`: row of each result in `items`.
        """
        now_ms = self._clock()
        token = new_token(now_ms)
        template = templates(results)
        if self._runner is None or self._settings is None:
            entries = [
                Entry(result.item_id, text, cause=TemplateCause.NOT_CONFIGURED)
                for result, text in zip(results, template, strict=True)
            ]
        else:
            situation = asked(query, context, items, self._settings, self._prompt_version)
            entries = self._entries(situation, item_rows, template, results, now_ms)
        posted = Posted(tuple(entries), now_ms + self._life_ms, now_ms + self._token_ttl_ms)
        self._drop_expired(now_ms)
        self._tokens.put((query.tenant, token), posted)
        if self._remote is not None and self._outbox is not None:
            self._outbox.token(query.tenant, token, posted.entries, posted.end_ms)
        return tuple(map(_told, results, entries)), token

    def _entries(
        self, situation: Asked, item_rows: Sequence[int], template: list[str], results: Sequence[Result], now_ms: int
    ) -> list[Entry]:
        """An entry for each result. Texts that nobody is writing yet become jobs."""
        runner = self._runner
        assert runner is not None
        tenant, entries, fresh, joined, hits = situation.tenant, [], [], 0, 0
        closed = runner.closed(situation.priority)
        for item_row, text, result in zip(item_rows, template, results, strict=True):
            key = situation.key(item_row, text)
            known = runner.texts.get(tenant, key, now_ms)
            if known:
                hits += 1
                entries.append(Entry(result.item_id, text, key, known))
                continue
            slot = runner.slot(tenant, key)
            if slot is not None:
                joined += 1
            elif closed:
                entries.append(Entry(result.item_id, text, key, cause=closed))
                continue
            else:
                slot = runner.open_slot(tenant, key)
                fresh.append((slot, (key, item_row, text)))
            entries.append(Entry(result.item_id, text, key, slot=slot))
        misses = len(results) - hits - joined
        self._observer.cache(hits, misses, joined)
        if fresh:
            runner.post(situation, fresh, now_ms)
        elif misses and closed is TemplateCause.QUEUE_FULL:
            runner.refuse(misses, situation.priority)
        return entries

    async def explanations(self, tenant: str, token: str) -> tuple[Explanation, ...]:
        """In the order of the results. Raises NotFound for a token that is unknown, too old, or of another
        tenant; StoreUnavailable.
        """
        posted = self._local(tenant, token)
        if posted is not None:
            over = posted.end_ms <= self._clock()
            return tuple([entry.explanation(over=over) for entry in posted.entries])
        if self._remote is None:
            raise NotFound("explanation_token is unknown or has expired")
        return await self._remote.explanations(tenant, token, token_ms(token))

    async def watch(self, tenant: str, token: str) -> AsyncIterator[Explanation]:
        """Yields each explanation as it becomes final, then ends. Raises NotFound as `explanations` does."""
        posted = self._local(tenant, token)
        if posted is None:
            if self._remote is None:
                raise NotFound("explanation_token is unknown or has expired")
            async for explanation in self._remote.watch(tenant, token, token_ms(token)):
                yield explanation
            return
        changed = asyncio.Event()
        waiting = list(posted.entries)
        slots = [entry.slot for entry in waiting if entry.slot is not None and not entry.slot.final]
        for slot in slots:
            slot.watchers.append(changed)
        try:
            while waiting:
                changed.clear()
                over = posted.end_ms <= self._clock()
                told = [(entry, entry.explanation(over=over)) for entry in waiting]
                waiting = [entry for entry, now in told if now.state is ExplanationState.PENDING]
                for _, now in told:
                    if now.state is not ExplanationState.PENDING:
                        yield now
                if waiting:
                    await _changed(changed, (posted.end_ms - self._clock()) / 1000)
        finally:
            for slot in slots:
                if changed in slot.watchers:
                    slot.watchers.remove(changed)

    def _local(self, tenant: str, token: str) -> Posted | None:
        posted = self._tokens.peek((tenant, token))
        return posted if posted is not None and posted.until_ms > self._clock() else None

    def _drop_expired(self, now_ms: int) -> None:
        """Drops tokens that are too old, which come first, and the oldest of too many."""
        while (oldest := self._tokens.oldest()) is not None and oldest[1].until_ms <= now_ms:
            self._tokens.drop(oldest[0])


def _kept_bytes(key: tuple[str, str], posted: Posted) -> int:
    return posted_bytes(posted)


def posted_bytes(posted: Posted) -> int:
    """Approximate bytes that a token keeps. Texts and slots that it shares are counted in full."""
    size = _POSTED_BYTES
    for entry in posted.entries:
        size += _ENTRY_BYTES + getsizeof(entry.template) + (_SLOT_BYTES if entry.slot is not None else 0)
    return size


def _told(result: Result, entry: Entry) -> Result:
    if entry.text:
        return replace(result, explanation=entry.text, explanation_state=ExplanationState.READY)
    explanation = entry.explanation()
    return replace(result, explanation=explanation.text, explanation_state=explanation.state)


async def _changed(changed: asyncio.Event, seconds: float) -> None:
    """Waits until something changes, or for that long."""
    try:
        async with asyncio.timeout(max(0.0, seconds) + 0.001):
            await changed.wait()
    except TimeoutError:
        return


def new_token(now_ms: int) -> str:
    """32 URL-safe characters: its time of issue (6 bytes) and 18 random bytes."""
    return base64.urlsafe_b64encode(now_ms.to_bytes(6, "big") + os.urandom(18)).decode("ascii")


def token_ms(token: str) -> int:
    """A token's time of issue; 0 for text that is not one of our tokens."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return 0
    return int.from_bytes(raw[:6], "big") if len(raw) == 24 else 0
