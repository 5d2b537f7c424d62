"""A bounded mapping that forgets what was used longest ago. Owned by one thread; no locks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `entries_max` entries and `bytes_max` bytes by `size_of` (but one entry at least). Both `get` and `put`
    count as use. The size of an entry must not change while it is in here.
    """

    __slots__ = ("_entries", "_entries_max", "_size_of", "bytes", "bytes_max", "evictions", "hits", "misses")

    def __init__(self, entries_max: int, bytes_max: int | None = None, size_of: Callable[[K, V], int] | None = None):
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._entries_max = max(entries_max, 1)
        self.bytes_max, self._size_of = bytes_max, size_of
        self.bytes = 0
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

    def oldest(self) -> tuple[K, V] | None:
        """What would go first."""
        return next(iter(self._entries.items()), None)

    def put(self, key: K, value: V) -> None:
        self._count(key, self._entries.get(key), value)
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max or (
            self.bytes_max is not None and self.bytes > self.bytes_max and len(self._entries) > 1
        ):
            gone, value = self._entries.popitem(last=False)
            self._count(gone, value, None)
            self.evictions += 1

    def drop(self, key: K) -> None:
        self._count(key, self._entries.pop(key, None), None)

    def _count(self, key: K, before: V | None, after: V | None) -> None:
        if self._size_of is not None:
            if before is not None:
                self.bytes -= self._size_of(key, before)
            if after is not None:
                self.bytes += self._size_of(key, after)
