"""Caches contexts for a shopper whose state is unchanged and who asks for the next page or another placement.

An entry holds the versions of session and profile, which must equal those read for this very request, so an
acknowledged event is never missed. Weights decay with time, so entries also expire: within a second weights change by
less than 0.1 %.
"""

from __future__ import annotations

from sys import getsizeof
from typing import NamedTuple

from recserv.pipeline.context import Context
from recserv.resilience.lru import LruCache
from recserv.types import RecommendQuery, ShopperState

ENTRIES_MAX = 10_000
AGE_MS_MAX = 1_000

Key = tuple[str, str, str]
Version = tuple[int, int, int]

# Measured with tracemalloc on 64-bit CPython 3.11; a test measures again and compares.
_CONTEXT_BYTES = 1_140
"""Bytes of an entry with its key, version and empty arrays."""
_ITEM_BYTES = 28
"""Bytes of each item: row, weight, session columns, role."""
_DISLIKED_BYTES = 36
_WORD_BYTES = 72
_SEARCH_BYTES = 260


class _Entry(NamedTuple):
    version: Version
    put_ms: int
    context: Context
    size: int


class ContextCache:
    """Bounded in age, number and bytes; evicts the oldest entry first. Belongs to one model: a new engine needs a new
    cache.
    """

    def __init__(self, bytes_max: int, *, entries_max: int = ENTRIES_MAX, age_ms_max: int = AGE_MS_MAX):
        self._age_ms_max = age_ms_max
        self._entries: LruCache[Key, _Entry] = LruCache(entries_max, bytes_max, lambda key, entry: entry.size)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        return self._entries.bytes

    def get(self, query: RecommendQuery, state: ShopperState, now_ms: int) -> Context | None:
        """The cached context of this state, if there is a fresh one."""
        entry = self._entries.peek(_key(query))
        if entry is None or entry.version != _version(state) or not 0 <= now_ms - entry.put_ms <= self._age_ms_max:
            return None
        return entry.context

    def put(self, query: RecommendQuery, state: ShopperState, now_ms: int, context: Context) -> None:
        size = context_bytes(context) + getsizeof(query.session_id) + getsizeof(query.user_id)
        self._entries.put(_key(query), _Entry(_version(state), now_ms, context, size))
        self._drop(now_ms)

    def _drop(self, now_ms: int) -> None:
        """Drops expired entries, which come first. So a spike leaves no memory behind."""
        while (oldest := self._entries.oldest()) is not None:
            key, entry = oldest
            if 0 <= now_ms - entry.put_ms <= self._age_ms_max:
                return
            self._entries.drop(key)


def context_bytes(context: Context) -> int:
    """Approximate bytes of a context and its entry, close enough to bound memory. The ids in its key are left out."""
    size = _CONTEXT_BYTES + _ITEM_BYTES * len(context.roles) + _DISLIKED_BYTES * len(context.disliked)
    size += context.vector.nbytes
    if context.search is not None:
        text, meaning = context.search
        size += _SEARCH_BYTES + getsizeof(text) + (meaning.nbytes if meaning is not None else 0)
    if context.asked is not None:
        size += _WORD_BYTES * len(context.asked.words)
    return size


def cacheable(query: RecommendQuery) -> bool:
    """Whether the context depends on the stored state only."""
    brought = query.context_events or query.anchor_item_ids or query.candidate_item_ids
    return bool(query.session_id or query.user_id) and not brought


def _key(query: RecommendQuery) -> Key:
    return query.tenant, query.session_id, query.user_id


def _version(state: ShopperState) -> Version:
    """Events drop out of the window without a new version, so the number of events is part of the key."""
    return state.session.version, state.session.size, state.profile.sequence
