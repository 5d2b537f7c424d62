"""A bounded mapping that forgets what was used longest ago. Owned by one thread; no locks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `entries_max` entries (at least one). Both `get` and `put` count as use."""

    __slots__ = ("_entries", "_entries_max", "evictions", "hits", "misses")

    def __init__(self, entries_max: int):
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._entries_max = max(entries_max, 1)
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return value

    def peek(self, key: K) -> V | None:
        """Without counting as use."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
            self.evictions += 1

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)
