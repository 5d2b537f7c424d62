"""Contexts that need not be built again: the same shopper, unchanged, asks for the next page or the next slot.

The key of what is cached is the version of the session and of the profile, as read with this very request, so an
acknowledged event is never missed. Weights decay with time, so an entry also ends by age: a second changes them by less
than 0.1 %.
"""

from __future__ import annotations

from collections import OrderedDict

from recserv.pipeline.context import Context
from recserv.types import RecommendQuery, ShopperState

ENTRIES_MAX = 10_000
AGE_MS_MAX = 1_000

Key = tuple[str, str, str]
Version = tuple[int, int, int]


class ContextCache:
    """Bounded in age and number; the oldest entry goes first. Belongs to one model: a new engine needs a new one."""

    def __init__(self, entries_max: int = ENTRIES_MAX, age_ms_max: int = AGE_MS_MAX):
        self._entries_max = entries_max
        self._age_ms_max = age_ms_max
        self._entries: OrderedDict[Key, tuple[Version, int, Context]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, query: RecommendQuery, state: ShopperState, now_ms: int) -> Context | None:
        """The context of this state, if it was put here lately."""
        entry = self._entries.get(_key(query))
        if entry is None or entry[0] != _version(state) or not 0 <= now_ms - entry[1] <= self._age_ms_max:
            return None
        return entry[2]

    def put(self, query: RecommendQuery, state: ShopperState, now_ms: int, context: Context) -> None:
        self._entries[_key(query)] = (_version(state), now_ms, context)
        self._entries.move_to_end(_key(query))
        self._drop(now_ms)

    def _drop(self, now_ms: int) -> None:
        """Entries are in order of age. None that nobody may use any more is kept, so a spike leaves nothing behind."""
        while self._entries:
            key, (_, put_ms, _) = next(iter(self._entries.items()))
            if 0 <= now_ms - put_ms <= self._age_ms_max and len(self._entries) <= self._entries_max:
                return
            del self._entries[key]


def cacheable(query: RecommendQuery) -> bool:
    """Whether the context comes from the stored state alone."""
    brought = query.context_events or query.anchor_item_ids or query.candidate_item_ids
    return bool(query.session_id or query.user_id) and not brought


def _key(query: RecommendQuery) -> Key:
    return query.tenant, query.session_id, query.user_id


def _version(state: ShopperState) -> Version:
    """Events leave the window without a new version, so their number belongs to it."""
    return state.session.version, state.session.size, state.profile.sequence
