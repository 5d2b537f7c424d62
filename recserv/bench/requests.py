"""Recommend requests for measuring: session prefixes from a file, or generated from what the server recommends."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from recserv.client import RecommendationClient, recommend_request
from recserv.errors import DatasetError
from recserv.types import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, SESSION_EVENTS_MAX, Event, EventType, RecommendQuery

BODIES_MAX = 2000
PREFIX_ITEMS_MAX = 6
SEED = 20


def prefixes_of_file(path: Path, count: int = BODIES_MAX) -> list[list[str]]:
    """The first `count` prefixes of a file of `prefix TAB target` lines (what `recserv eval` reads), plain or .gz.
    Raises DatasetError.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            prefixes = [_prefix(path, row, line) for row, line in enumerate(islice(lines, count), 1)]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DatasetError(str(path), f"cannot be read: {error}") from error
    if not prefixes:
        raise DatasetError(str(path), "is empty")
    return prefixes


def _prefix(path: Path, row: int, line: str) -> list[str]:
    items = line.partition("\t")[0].split()
    if not items:
        raise DatasetError(str(path), "no item ids before the tab", row=row)
    return items[-SESSION_EVENTS_MAX:]


def made_up_prefixes(client: RecommendationClient, count: int = BODIES_MAX) -> list[list[str]]:
    """Walks of one to PREFIX_ITEMS_MAX items: popular ones and what the server recommends for them. The same server
    and model give the same walks.
    """
    known = [result.item_id for result in client.recommend(RecommendQuery(page_size=PAGE_SIZE_MAX)).results]
    if not known:
        return [[]]
    chosen = random.Random(SEED)
    for anchor in chosen.sample(known, min(20, len(known))):
        near = client.recommend(RecommendQuery(anchor_item_ids=(anchor,), page_size=PAGE_SIZE_MAX))
        known += [result.item_id for result in near.results]
    known = sorted(set(known))
    return [chosen.choices(known, k=chosen.randint(1, PREFIX_ITEMS_MAX)) for _ in range(count)]


def bodies(prefixes: Sequence[Sequence[str]], page_size: int = PAGE_SIZE_DEFAULT) -> tuple[bytes, ...]:
    """Each prefix as the context of an anonymous session's Recommend, on the wire."""
    return tuple(_bodies(prefixes, page_size))


def _bodies(prefixes: Sequence[Sequence[str]], page_size: int) -> Iterator[bytes]:
    for number, items in enumerate(prefixes):
        views = tuple(Event(event_type=EventType.VIEW, item_id=item) for item in items)
        query = RecommendQuery(session_id=f"bench-{number}", context_events=views, page_size=page_size)
        yield recommend_request(query).SerializeToString()
