"""The items of a model and their order: those of the events and those of the catalogue, the most popular first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recserv.training.catalog import Catalog
from recserv.training.category_paths import last_name
from recserv.training.dataset import EventLog
from recserv.training.popular import popularity
from recserv.types import Item


@dataclass(frozen=True)
class ItemSpace:
    """By item row 0..n-1. `item_row_of_code` int32: the row of each item code of the event log; `catalog_row`
    int64 [n], -1 for an item that the catalogue does not have; `categories` int32 behind `category_offsets` int64
    [n + 1]; `groups` int32 [n] as in the model, empty without any.
    """

    ids: list[str]
    items: list[Item]
    item_row_of_code: npt.NDArray[np.int32]
    catalog_row: npt.NDArray[np.int64]
    has_events: npt.NDArray[np.bool_]
    available: npt.NDArray[np.uint8]
    popularity: npt.NDArray[np.float32]
    popularity_recent: npt.NDArray[np.float32]
    category_names: list[str]
    category_offsets: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int32]
    groups: npt.NDArray[np.int32]

    @property
    def count(self) -> int:
        return len(self.ids)


def item_space(log: EventLog, catalog: Catalog | None) -> ItemSpace:
    """The items of both. If there is a catalogue, items missing from it are no longer sold: not available."""
    known = set(log.item_ids)
    ids = log.item_ids + ([] if catalog is None else [item_id for item_id in catalog.ids if item_id not in known])
    overall, recent = popularity(log, len(ids))
    order = np.array(sorted(range(len(ids)), key=lambda code: (-overall[code], ids[code])), np.int64)
    item_row = np.empty(len(ids), np.int32)
    item_row[order] = np.arange(len(ids), dtype=np.int32)

    sorted_ids = [ids[code] for code in order]
    rows = {} if catalog is None else {item_id: row for row, item_id in enumerate(catalog.ids)}
    catalog_row = np.array([rows.get(item_id, -1) for item_id in sorted_ids], np.int64)
    described = [] if catalog is None else list(catalog.items())
    items = [
        described[row] if row >= 0 else Item(item_id=item_id, available=catalog is None)
        for item_id, row in zip(sorted_ids, catalog_row.tolist(), strict=True)
    ]
    names, category_offsets, categories = _categories(items)
    return ItemSpace(
        ids=sorted_ids,
        items=items,
        item_row_of_code=item_row[: len(log.item_ids)],
        catalog_row=catalog_row,
        has_events=order < len(log.item_ids),
        available=np.array([item.available for item in items], np.uint8),
        popularity=overall[order],
        popularity_recent=recent[order],
        category_names=names,
        category_offsets=category_offsets,
        categories=categories,
        groups=group_codes(items),
    )


def group_codes(items: list[Item]) -> npt.NDArray[np.int32]:
    """Of each item the code of its group, -1 for one that is alone: int32 [n]; empty if all are. Many exports list the
    product beside its variants: an item without a group whose id is that of a group belongs to it.
    """
    named = {item.group_id for item in items if item.group_id}
    groups = [item.group_id or (item.item_id if item.item_id in named else "") for item in items]
    sizes = Counter(groups)
    codes: dict[str, int] = {}
    found = [codes.setdefault(name, len(codes)) if name and sizes[name] > 1 else -1 for name in groups]
    return np.array(found if codes else [], np.int32)


def _categories(items: list[Item]) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Also the last name of each path is a category, of the items of all paths that end with it: of one item first the
    last names, then its categories from general to specific.
    """
    listed = [(*_last_names(item.categories), *item.categories) for item in items]
    names = sorted({name for each in listed for name in each})
    number = {name: place for place, name in enumerate(names)}
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum([len(each) for each in listed], out=offsets[1:])
    return names, offsets, np.array([number[name] for each in listed for name in each], np.int32)


def _last_names(categories: tuple[str, ...]) -> list[str]:
    return [name for name in dict.fromkeys(map(last_name, categories)) if name and name not in categories]
