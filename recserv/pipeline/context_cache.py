"""Contexts that need not be built again: the same shopper, unchanged, asks for the next page or the next slot.

The key of what is cached is the version of the session and of the profile, as read with this very request, so an
acknowledged event is never missed. Weights decay with time, so an entry also ends by age: a second changes them by less
than 0.1 %.
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

# Measured with tracemalloc on CPython 3.11, 64 bits; a test measures again and compares.
_CONTEXT_BYTES = 1_140
"""Of an entry with its key, version and arrays, but for what is in them."""
_ITEM_BYTES = 28
"""Item row, weight, columns of the session, role."""
_DISLIKED_BYTES = 36
_WORD_BYTES = 72
_SEARCH_BYTES = 260


class _Entry(NamedTuple):
    version: Version
    put_ms: int
    context: Context
    size: int


class ContextCache:
    """Bounded in age, number and bytes; the oldest entry goes first. Belongs to one model: a new engine needs a new
    one.
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
        """The context of this state, if it was put here lately."""
        entry = self._entries.peek(_key(query))
        if entry is None or entry.version != _version(state) or not 0 <= now_ms - entry.put_ms <= self._age_ms_max:
            return None
        return entry.context

    def put(self, query: RecommendQuery, state: ShopperState, now_ms: int, context: Context) -> None:
        size = context_bytes(context) + getsizeof(query.session_id) + getsizeof(query.user_id)
        self._entries.put(_key(query), _Entry(_version(state), now_ms, context, size))
        self._drop(now_ms)

    def _drop(self, now_ms: int) -> None:
        """Entries are in order of age. None that nobody may use any more is kept, so a spike leaves nothing behind."""
        while (oldest := self._entries.oldest()) is not None:
            key, entry = oldest
            if 0 <= now_ms - entry.put_ms <= self._age_ms_max:
                return
            self._entries.drop(key)


def context_bytes(context: Context) -> int:
    """What a context and its entry take in memory, close enough to bound memory by, but for the ids in its key."""
    size = _CONTEXT_BYTES + _ITEM_BYTES * len(context.roles) + _DISLIKED_BYTES * len(context.disliked)
    size += context.vector.nbytes
    if context.search is not None:
        text, meaning = context.search
        size += _SEARCH_BYTES + getsizeof(text) + (meaning.nbytes if meaning is not None else 0)
    if context.asked is not None:
        size += _WORD_BYTES * len(context.asked.words)
    return size


def cacheable(query: RecommendQuery) -> bool:
    """Whether the context comes from the stored state alone."""
    brought = query.context_events or query.anchor_item_ids or query.candidate_item_ids
    return bool(query.session_id or query.user_id) and not brought


def _key(query: RecommendQuery) -> Key:
    return query.tenant, query.session_id, query.user_id


def _version(state: ShopperState) -> Version:
    """Events leave the window without a new version, so their number belongs to it."""
    return state.session.version, state.session.size, state.profile.sequence
