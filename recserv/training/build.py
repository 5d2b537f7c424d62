"""`recserv build`: event and catalogue files in, a model directory out.

    read events, catalogue -> item table -> sessions -> covisitation, behaviour vectors, content vectors, session-kNN,
    popularity, ranker -> index -> model directory, written whole or not at all

Every stage is a pure function of arrays; this file names their order and reports progress. The same input and seed give
the same bytes on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.errors import UsageError
from recserv.index import hnsw
from recserv.model import layout, snapshot
from recserv.model.items import pack_ids, pack_items
from recserv.model.manifest import DIMENSIONS_MAX, Behaviour, Manifest, TrainingSummary
from recserv.model.writer import ModelContents, check_target, save_snapshot
from recserv.training import covisitation, popularity
from recserv.training.catalog import CATALOG_COLUMNS, Catalog, read_catalog
from recserv.training.content import blend, content_vectors
from recserv.training.dataset import EVENT_COLUMNS, EventLog, check_mapping, read_events
from recserv.training.embeddings import behaviour_vectors
from recserv.training.item_space import ItemSpace, item_space
from recserv.training.linear_algebra import Matrix
from recserv.training.problems import BadRows, Progress, SkippedRows, no_progress
from recserv.training.ranker import linear_ranker
from recserv.training.session_knn import session_knn
from recserv.training.sessions import Sessions, build_sessions
from recserv.training.words import word_vectors
from recserv.types import EventType


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """As on the command line. `columns` gives a file's column name by ours, for events and catalogue alike."""

    events: tuple[str, ...]
    out: str
    catalog: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    default_event_type: str | None = None
    skip_bad_rows: bool = False
    seed: int = 0
    dimensions: int = 64


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a build read, left out and wrote. `items_outside_catalog`: in the events, not in the catalogue given."""

    out: str
    model_version: str
    events: int
    duplicate_events: int
    sessions: int
    items: int
    items_cold: int
    items_without_vector: int
    items_outside_catalog: int
    categories: int
    behaviour: Literal["bought", "viewed"]
    skipped: tuple[SkippedRows, ...]
    seconds: float

    @property
    def skipped_rows(self) -> int:
        return sum(found.count for found in self.skipped)


_STAGES = (
    "sessions",
    "covisitation",
    "embeddings",
    "content vectors",
    "words",
    "session-kNN",
    "popularity",
    "writing the model",
)


def build(options: BuildOptions, progress: Progress = no_progress) -> BuildReport:
    """Builds a model. Raises DatasetError for bad input, UsageError for bad options; nothing is written then."""
    began = time.monotonic()
    _check(options)
    problems = BadRows(options.skip_bad_rows)
    event_columns = {name: source for name, source in options.columns.items() if name in EVENT_COLUMNS}
    catalog_columns = {name: source for name, source in options.columns.items() if name in CATALOG_COLUMNS}
    log = read_events(
        options.events,
        mapping=event_columns,
        default_event_type=options.default_event_type,
        problems=problems,
        progress=progress,
    )
    catalog = None
    if options.catalog is not None:
        catalog = read_catalog(options.catalog, mapping=catalog_columns, problems=problems, progress=progress)
    contents, space = assemble(log, catalog, options, problems.total, progress)
    manifest = save_snapshot(contents, options.out)
    origin = contents.arrays["embedding_origin"]
    return BuildReport(
        out=options.out,
        model_version=manifest.model_version,
        events=len(log),
        duplicate_events=log.duplicates,
        sessions=manifest.training.sessions,
        items=manifest.items,
        items_cold=manifest.items - manifest.training.items_with_events,
        items_without_vector=int((origin == snapshot.ORIGIN_NONE).sum()),
        items_outside_catalog=0 if catalog is None else int((space.catalog_row < 0).sum()),
        categories=manifest.categories,
        behaviour=manifest.behaviour,
        skipped=problems.report(),
        seconds=time.monotonic() - began,
    )


def _check(options: BuildOptions) -> None:
    if not options.events:
        raise UsageError("--events: at least one file is needed")
    if not 2 <= options.dimensions <= DIMENSIONS_MAX:
        raise UsageError(f"dimensions {options.dimensions}: must be 2..{DIMENSIONS_MAX}")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: must not be negative")
    check_mapping(options.columns, tuple(dict.fromkeys((*EVENT_COLUMNS, *CATALOG_COLUMNS))))
    check_target(Path(options.out))


def assemble(
    log: EventLog, catalog: Catalog | None, options: BuildOptions, skipped: int, progress: Progress = no_progress
) -> tuple[ModelContents, ItemSpace]:
    """Everything that goes into the model, from data that is already read."""

    def stage(name: str) -> None:
        progress(name, _STAGES.index(name), len(_STAGES))

    space = item_space(log, catalog)
    stage("sessions")
    sessions = build_sessions(log, space.position_of_code, seed=options.seed)
    stage("covisitation")
    baskets = covisitation.basket_pairs(sessions, space.count)
    offsets, neighbours, weights = covisitation.covisitation(sessions, space.count, baskets=baskets)
    arrays: dict[str, layout.Array] = {
        "covisitation_offsets": offsets,
        "covisitation_items": neighbours,
        "covisitation_weights": weights,
    }
    stage("embeddings")
    behaviour = behaviour_vectors(sessions, space.count, options.dimensions, seed=options.seed, baskets=baskets)
    stage("content vectors")
    arrays["embeddings"], arrays["embedding_origin"] = _vectors(behaviour, catalog, space, sessions, options.seed)
    arrays["item_importance"] = np.ones(space.count, np.float32)
    arrays["position_weights"] = (0.7 ** np.arange(layout.POSITIONS_MAX)).astype(np.float32)
    stage("words")
    words, arrays["word_vectors"], arrays["word_rarity"] = word_vectors(
        space.items, arrays["embeddings"], space.popularity
    )
    stage("session-kNN")
    knn = session_knn(sessions, space.count)
    arrays |= {
        "knn_item_offsets": knn.item_offsets,
        "knn_item_sessions": knn.item_sessions,
        "knn_session_offsets": knn.session_offsets,
        "knn_session_items": knn.session_items,
        "knn_session_age": knn.session_age,
        "knn_item_idf": knn.item_idf,
    }
    stage("popularity")
    arrays |= _popularity(space)
    blobs, item_arrays = _item_table(space)
    blobs[layout.WORDS_FILE] = msgspec.json.encode(words) + b"\n"
    arrays |= item_arrays
    stage("writing the model")
    manifest = _manifest(log, space, sessions, options, skipped, len(knn.session_age))
    return ModelContents(manifest, arrays, blobs, lambda path: _write_index(arrays["embeddings"], path)), space


def _vectors(
    behaviour: Matrix, catalog: Catalog | None, space: ItemSpace, sessions: Sessions, seed: int
) -> tuple[Matrix, npt.NDArray[np.uint8]]:
    support = np.bincount(sessions.items, minlength=space.count).astype(np.float32)
    content = np.zeros_like(behaviour)
    if catalog is not None:
        content = content_vectors(catalog, space.catalog_row, behaviour, support, seed=seed)
    return blend(behaviour, content, support)


def _popularity(space: ItemSpace) -> dict[str, layout.Array]:
    category_offsets, category_items = popularity.top_by_category(
        space.popularity,
        space.available,
        space.category_offsets,
        space.categories,
        len(space.category_names),
        layout.CATEGORY_POPULAR_MAX,
    )
    return {
        "popularity": space.popularity,
        "popularity_recent": space.popularity_recent,
        "popular_items": popularity.top_items(space.popularity, space.available, layout.POPULAR_ITEMS_MAX),
        "trending_items": popularity.top_items(space.popularity_recent, space.available, layout.POPULAR_ITEMS_MAX),
        "category_popular_offsets": category_offsets,
        "category_popular_items": category_items,
    }


def _item_table(space: ItemSpace) -> tuple[dict[str, bytes], dict[str, layout.Array]]:
    ids, id_offsets = pack_ids(space.ids)
    items, item_offsets = pack_items(space.items)
    blobs = {
        layout.ITEM_IDS_FILE: ids,
        layout.ITEMS_FILE: items,
        layout.CATEGORIES_FILE: msgspec.json.encode(space.category_names) + b"\n",
        layout.RANKER_FILE: linear_ranker(),
    }
    arrays: dict[str, layout.Array] = {
        "item_id_offsets": id_offsets,
        "item_offsets": item_offsets,
        "available": space.available,
        "item_category_offsets": space.category_offsets,
        "item_categories": space.categories,
    }
    return blobs, arrays


def _manifest(
    log: EventLog, space: ItemSpace, sessions: Sessions, options: BuildOptions, skipped: int, knn_sessions: int
) -> Manifest:
    of_items = log.event_type[log.item >= 0]
    bought: Behaviour = "bought" if 2 * np.count_nonzero(of_items == EventType.PURCHASE) > len(of_items) else "viewed"
    training = TrainingSummary(
        events=len(log),
        sessions=sessions.count,
        items_with_events=int(np.count_nonzero(space.has_events)),
        skipped_rows=skipped,
        first_event_ms=None if log.time_ms is None else int(log.time_ms.min()),
        last_event_ms=None if log.time_ms is None else int(log.time_ms.max()),
    )
    return Manifest(
        behaviour=bought,
        items=space.count,
        dimensions=options.dimensions,
        sessions=knn_sessions,
        categories=len(space.category_names),
        training=training,
        options={"seed": options.seed, "default_event_type": options.default_event_type},
    )


def _write_index(embeddings: layout.Array, path: Path) -> None:
    hnsw.build(embeddings, path)
