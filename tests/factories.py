"""A model small enough to build anywhere, and the data that it is built from: made up, deterministic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.catalog import Catalog
from recserv.training.dataset import EventLog
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from recserv.types import EventType

CATEGORIES = ("Kitchen", "Garden", "Toys", "Books", "Lighting")
COLD_SHARE = 0.1
START_MS = 1_700_000_000_000
_MINUTE_MS = 60_000


def tiny_catalog(items: int, seed: int = 0) -> Catalog:
    """Products "item-0" .. with titles, categories (general, specific), prices; every 50th is not available."""
    rng = np.random.default_rng(seed)
    words = ["small", "large", "red", "blue", "wooden", "steel", "classic", "folding"]
    kinds = ["lamp", "bowl", "shovel", "puzzle", "novel", "chair", "kettle"]
    group = [CATEGORIES[i % len(CATEGORIES)] for i in range(items)]
    kind = [kinds[i % len(kinds)] for i in range(items)]
    title = [f"{words[int(rng.integers(len(words)))].title()} {kind[i]} {i}" for i in range(items)]
    text = {name: pa.array([""] * items) for name in ("description", "brand", "image_uri")}
    return Catalog(
        ids=[f"item-{i}" for i in range(items)],
        text=text | {"title": pa.array(title), "currency_code": pa.array(["EUR"] * items)},
        lists={
            "categories": pa.array([[group[i], f"{group[i]}/{kind[i]}"] for i in range(items)]),
            "tags": pa.array([[] for _ in range(items)], pa.list_(pa.string())),
        },
        price=np.round(rng.uniform(1, 100, items), 2),
        available=np.arange(items) % 50 != 49,
        attributes=None,
    )


def grouped_catalog(items: int, groups: dict[str, str], seed: int = 0) -> Catalog:
    """The same, with the group ids of some items."""
    catalog = tiny_catalog(items, seed)
    return replace(catalog, groups=[groups.get(item_id, "") for item_id in catalog.ids])


def tiny_log(items: int, sessions: int, seed: int = 0) -> EventLog:
    """Sessions of views that stay in one category mostly, some with a cart and a purchase at the end. The last tenth
    of the items has no events: they are cold.
    """
    rng = np.random.default_rng(seed)
    warm = max(2, items - int(items * COLD_SHARE))
    codes: list[int] = []
    session: list[int] = []
    kinds: list[int] = []
    for number in range(sessions):
        group = int(rng.integers(len(CATEGORIES)))
        members = np.arange(group % warm, warm, len(CATEGORIES))
        start = int(rng.zipf(1.5)) % len(members)
        views = [int(members[(start + step) % len(members)]) for step in range(int(rng.integers(2, 8)))]
        if rng.random() < 0.2:
            views.append(int(rng.integers(warm)))
        types = [EventType.VIEW] * len(views)
        if rng.random() < 0.3:
            views += [views[-1], views[-1]]
            types += [EventType.ADD_TO_CART, EventType.PURCHASE]
        codes += views
        kinds += types
        session += [number] * len(views)
    time_ms = START_MS + np.arange(len(codes), dtype=np.int64) * _MINUTE_MS
    return EventLog(
        item_ids=[f"item-{i}" for i in range(warm)],
        session_count=sessions,
        session=np.array(session, np.int32),
        item=np.array(codes, np.int32),
        event_type=np.array(kinds, np.uint8),
        time_ms=time_ms,
    )


def build_tiny_model(path: Path, *, items: int = 200, sessions: int = 400, seed: int = 0, dimensions: int = 16) -> Path:
    """Writes a whole model directory to `path` and returns it. The same arguments give the same bytes."""
    options = BuildOptions(events=("made up",), out=str(path), seed=seed, dimensions=dimensions, epochs=1.0)
    contents, _ = assemble(tiny_log(items, sessions, seed), tiny_catalog(items, seed), options)
    save_snapshot(contents.ranked_by(PLAIN_RANKER), path, now_ms=START_MS, durable=False)
    return path


def write_event_file(path: Path, log: EventLog) -> Path:
    """The log as a Parquet, CSV or JSON lines file, by the name."""
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    kinds = [EventType(int(kind)).name.lower() for kind in log.event_type]
    table = pa.table(
        {
            "event_type": kinds,
            "session_id": pc.binary_join_element_wise("session-", pa.array(log.session).cast(pa.string()), ""),
            "item_id": [log.item_ids[code] for code in log.item],
            "event_time": pa.array(log.time_ms),
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        import msgspec

        path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in table.to_pylist()) + b"\n")
    return path
