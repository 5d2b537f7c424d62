"""Popularity overall and recent, with lists of the most popular items, overall and by category."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recserv.training.dataset import EventLog
from recserv.training.sessions import TYPE_WEIGHTS

# The half-life of recent popularity: this share of the span of the data, within these bounds.
_HALF_LIFE_SHARE = 1 / 25
_HALF_LIFE_DAYS = (1.0, 14.0)
_DAY_MS = 24 * 3600 * 1000

Counts = npt.NDArray[np.float32]


def popularity(log: EventLog, item_count: int) -> tuple[Counts, Counts]:
    """Weighted counts by item code, overall and with exponential decay by age: two float32 [item_count]."""
    rows = np.flatnonzero(log.item >= 0)
    items, weights = log.item[rows], TYPE_WEIGHTS[log.event_type[rows]].astype(np.float64)
    overall = np.bincount(items, weights, minlength=item_count)
    recent = np.bincount(items, weights * _decay(log, rows), minlength=item_count)
    return overall.astype(np.float32), recent.astype(np.float32)


def _decay(log: EventLog, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Without times the place in the file stands for the time."""
    stamp = (rows if log.time_ms is None else log.time_ms[rows]).astype(np.float64)
    if len(stamp) == 0:
        return stamp
    age = stamp.max() - stamp
    half_life = age.max() * _HALF_LIFE_SHARE
    if log.time_ms is not None:
        half_life = float(np.clip(half_life, _HALF_LIFE_DAYS[0] * _DAY_MS, _HALF_LIFE_DAYS[1] * _DAY_MS))
    decay: npt.NDArray[np.float64] = np.exp2(-age / max(half_life, 1.0))
    return decay


def top_items(counts: Counts, available: npt.NDArray[np.uint8], limit: int) -> npt.NDArray[np.int32]:
    """The available items of the highest count above 0, ties by item row: int32, at most `limit`."""
    items = np.flatnonzero((available > 0) & (counts > 0))
    order = np.argsort(-counts[items], kind="stable")
    return items[order[:limit]].astype(np.int32)


def first_of_groups(rows: npt.NDArray[np.int32], groups: npt.NDArray[np.int32], most: int = 1) -> npt.NDArray[np.bool_]:
    """Of entries that come in their order, which are among the `most` first of their group (int32, -1 for none) within
    their row: bool [m]. `rows` int32 [m], ascending.
    """
    kept = np.ones(len(rows), bool)
    grouped = np.flatnonzero(groups >= 0)
    order = grouped[np.lexsort((grouped, groups[grouped], rows[grouped]))]
    begins = np.ones(len(order), bool)
    begins[1:] = (rows[order][1:] != rows[order][:-1]) | (groups[order][1:] != groups[order][:-1])
    starts = np.flatnonzero(begins)
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept[order] = place < most
    return kept


def top_by_category(
    counts: Counts,
    available: npt.NDArray[np.uint8],
    item_category_offsets: npt.NDArray[np.int64],
    item_categories: npt.NDArray[np.int32],
    category_count: int,
    limit: int,
    groups: npt.NDArray[np.int32] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Offsets int64 [c + 1] and items int32: per category its available items, the most popular first. Items without
    events come last, so that a category of new products has something to show. Of a group (int32 [n], -1 for an item on
    its own; empty for none) the first.
    """
    items = np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(item_category_offsets))
    live = available[items] > 0
    items, categories = items[live], item_categories[live]
    order = np.lexsort((items, -counts[items], categories))
    items, categories = items[order], categories[order]
    if groups is not None and len(groups):
        kept = first_of_groups(categories, groups[items])
        items, categories = items[kept], categories[kept]
    sizes = np.bincount(categories, minlength=category_count)
    place = np.arange(len(items)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    items, categories = items[place < limit], categories[place < limit]
    offsets = np.zeros(category_count + 1, np.int64)
    np.cumsum(np.bincount(categories, minlength=category_count), out=offsets[1:])
    return offsets, items
