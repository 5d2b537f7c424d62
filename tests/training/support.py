"""Sessions by hand, and slow ways to compute what training computes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import strategies as st

from recserv.training.sessions import Sessions

ITEMS = 12

session_lists = st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=10), min_size=1, max_size=12)


def sessions_of(lists: list[list[int]], *, unordered: bool = False) -> Sessions:
    """Every event of weight 1."""
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(items) for items in lists], out=offsets[1:])
    items = np.array([item for one in lists for item in one], np.int32)
    return Sessions(
        offsets=offsets,
        items=items,
        weights=np.ones(len(items), np.float32),
        unordered=np.full(len(lists), unordered),
        age_days=np.arange(len(lists), 0, -1).astype(np.float32),
        has_time=True,
    )


def naive_pairs(
    lists: list[list[int]], window: int, backward: float, decay: float, returns: bool = False
) -> np.ndarray:
    counts = np.zeros((ITEMS, ITEMS))
    for items in lists:
        for here, first in enumerate(items):
            for step in range(1, window + 1):
                if here + step < len(items) and (returns or items[here + step] != first):
                    counts[first, items[here + step]] += decay ** (step - 1)
                    counts[items[here + step], first] += backward * decay ** (step - 1)
    return counts


def naive_basket_pairs(lists: list[list[int]]) -> np.ndarray:
    counts = np.zeros((ITEMS, ITEMS))
    for basket in map(set, lists):
        for first in basket:
            for second in basket - {first}:
                counts[first, second] += 1 / np.log2(max(len(basket), 2))
    return counts


def naive_knn(lists: list[list[int]], an_item: int, a_session: int) -> tuple[dict[int, list[int]], list[list[int]]]:
    """Sessions by item, newest first, and items by session."""
    kept = []
    for items in lists:
        last = [item for place, item in enumerate(items) if item not in items[place + 1 :]][-a_session:]
        if len(last) > 1:
            kept.append(last)
    by_item: dict[int, list[int]] = defaultdict(list)
    for number, items in enumerate(kept):
        for item in items:
            by_item[item].insert(0, number)
    return {item: numbers[:an_item] for item, numbers in by_item.items()}, kept
