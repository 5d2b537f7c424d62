"""A bounded mapping that evicts the least recently used entry. Owned by one thread; no locks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `entries_max` entries and `bytes_max` bytes by `size_of` (but one entry at least). Both `get` and `put`
    count as use. An entry is measured when it is put, and counts so until it goes: a text that anybody encodes in
    between takes more by then, in CPython it keeps its UTF-8.
    """

    __slots__ = ("_entries", "_entries_max", "_size_of", "bytes", "bytes_max", "evictions", "hits", "misses")

    def __init__(self, entries_max: int, bytes_max: int | None = None, size_of: Callable[[K, V], int] | None = None):
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._entries_max = max(entries_max, 1)
        self.bytes_max, self._size_of = bytes_max, size_of
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: K) -> V | None:
        """Does not count as use."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def oldest(self) -> tuple[K, V] | None:
        """The entry that would be evicted next."""
        found = next(iter(self._entries.items()), None)
        return None if found is None else (found[0], found[1][0])

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        size = 0 if self._size_of is None else self._size_of(key, value)
        self._entries[key] = value, size
        self.bytes += size
        while len(self._entries) > self._entries_max or (
            self.bytes_max is not None and self.bytes > self.bytes_max and len(self._entries) > 1
        ):
            self.bytes -= self._entries.popitem(last=False)[1][1]
            self.evictions += 1

    def drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]
