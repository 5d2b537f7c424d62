"""Assembles everything that goes into a model, from data that was read before.

    item table -> sessions -> covisitation, behaviour vectors, content vectors, words, session-kNN, popularity, index
    -> ModelContents

Every stage is a pure function of arrays; this file names their order and reports progress.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.index import hnsw
from recserv.model import layout
from recserv.model.items import pack_ids, pack_items
from recserv.model.manifest import Behaviour, Manifest, TrainingSummary
from recserv.model.writer import ModelContents
from recserv.training import covisitation, popular, session_knn
from recserv.training.catalog import Catalog
from recserv.training.checkpoints import Checkpoint, Checkpoints
from recserv.training.content import blend, effect_of_content
from recserv.training.dataset import EventLog
from recserv.training.embeddings import behaviour_vectors
from recserv.training.item_space import ItemSpace, item_space
from recserv.training.linear_algebra import Matrix
from recserv.training.options import BuildOptions
from recserv.training.problems import Progress, no_progress
from recserv.training.session_space import EpochReport, SessionSpace, learn_session_space
from recserv.training.sessions import Sessions, build_sessions
from recserv.training.stand_ins import indexed_rows
from recserv.training.words import holders, word_lists, word_vectors
from recserv.types import EventType

UNLEARNED_PLACE_DECAY = 0.7
"""From one event to the one before it, where no weights were learned."""

TRIAL_HOLDOUT_SHARE = 0.02
TRIAL_EF_CONSTRUCTION = 60
NEAREST_ITEMS = 64
"""A search of a request asks for 40, and for one more of each item that is ruled out."""

_STAGES = (
    "sessions",
    "covisitation",
    "embeddings",
    "content vectors",
    "words",
    "session-kNN",
    "popularity",
    "index",
    "writing the model",
)


def assemble(
    log: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    *,
    skipped: int = 0,
    trial: bool = False,
    checkpoints: Checkpoints | None = None,
    progress: Progress = no_progress,
) -> tuple[ModelContents, ItemSpace]:
    """A model of all sessions of the log, but for the ranker. `skipped` rows are only noted. `trial`: for the ranker to
    learn on, what its features do not need is left out (content vectors, words, a thorough index), and a few of the
    newest sessions are not learned from, so that progress tells how well the item vectors find their next items.
    """

    def stage(name: str) -> None:
        progress(name, _STAGES.index(name), len(_STAGES))

    space = item_space(log, catalog)
    stage("sessions")
    sessions = build_sessions(log, space.item_row_of_code, seed=options.seed)
    stage("covisitation")
    baskets = covisitation.basket_pairs(sessions, space.count)
    # With repeats: that a shopper looks at the same item again is part of what comes next, one time in five or more.
    repeating = build_sessions(log, space.item_row_of_code, seed=options.seed, keep_repeats=True)
    arrays = covisitation.arrays(repeating, space.count, baskets=baskets, groups=space.groups)
    stage("embeddings")
    spectral = behaviour_vectors(sessions, space.count, options.dimensions, seed=options.seed, baskets=baskets)
    checkpoint = None if checkpoints is None else checkpoints.stage("trial-vectors" if trial else "vectors")
    learned = _learned(spectral, repeating, options, progress, TRIAL_HOLDOUT_SHARE if trial else 0.0, checkpoint)
    stage("content vectors")
    described = None if trial else catalog
    arrays["embeddings"], arrays["embedding_origin"] = _vectors(
        learned.vectors, described, space, sessions, options.seed
    )
    # The longest remaining stage, and it releases the GIL: it runs on a thread beside the others.
    effort = TRIAL_EF_CONSTRUCTION if trial else hnsw.EF_CONSTRUCTION
    with ThreadPoolExecutor(1) as beside:
        rows = indexed_rows(arrays["embeddings"], space.groups, space.available)
        drawing = beside.submit(hnsw.Graph, arrays["embeddings"], rows=rows, ef_construction=effort)
        arrays["item_importance"] = learned.importance
        arrays["position_weights"] = learned.position_weights
        stage("words")
        items, vectors, counts = space.items, arrays["embeddings"], space.popularity
        if trial:
            items, vectors, counts = [], vectors[:0], counts[:0]
        held = holders(items)
        words, arrays["word_vectors"], arrays["word_rarity"] = word_vectors(held, vectors, counts)
        arrays |= word_lists(held)
        stage("session-kNN")
        arrays |= session_knn.arrays(sessions, space.count)
        stage("popularity")
        arrays |= _popularity(space)
        blobs, item_arrays = _item_table(space)
        blobs[layout.WORDS_FILE] = msgspec.json.encode(words) + b"\n"
        arrays |= item_arrays
        stage("index")
        graph = drawing.result()
    # In a trial the graph stands in for the lists: both find the same.
    arrays["nearest_items"] = graph.neighbours(0 if trial else NEAREST_ITEMS)
    stage("writing the model")
    manifest = _manifest(log, space, sessions, options, skipped, len(arrays["knn_session_age"]))
    return ModelContents(manifest, arrays, blobs, graph.save), space


def _learned(
    start: Matrix,
    sessions: Sessions,
    options: BuildOptions,
    progress: Progress,
    holdout_share: float,
    checkpoint: Checkpoint | None,
) -> SessionSpace:
    """Item vectors and the weights of a session's sum; the last weight of a place falls off for older events."""
    if options.epochs == 0:
        places = UNLEARNED_PLACE_DECAY ** np.arange(layout.POSITIONS_MAX)
        return SessionSpace(start, np.ones(len(start), np.float32), places.astype(np.float32))

    def on_epoch(report: EpochReport) -> None:
        found = "" if report.hit_rate is None else f", HR@20 {report.hit_rate:.3f}, MRR@20 {report.reciprocal_rank:.3f}"
        done, total = round(100 * report.epoch), round(100 * report.epochs)
        progress(f"item vectors: loss {report.loss:.3f}{found}", done, total)

    space = learn_session_space(
        sessions,
        len(start),
        dimensions=options.dimensions,
        epochs=options.epochs,
        seed=options.seed,
        start=start,
        holdout_share=holdout_share,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    older = layout.POSITIONS_MAX - len(space.position_weights)
    tail = space.position_weights[-1] * UNLEARNED_PLACE_DECAY ** np.arange(1, older + 1)
    places = np.concatenate((space.position_weights, tail)).astype(np.float32)
    return SessionSpace(space.vectors, space.importance, places)


def _vectors(
    behaviour: Matrix, catalog: Catalog | None, space: ItemSpace, sessions: Sessions, seed: int
) -> tuple[Matrix, npt.NDArray[np.uint8]]:
    support = np.bincount(sessions.items, minlength=space.count).astype(np.float32)
    content = None
    if catalog is not None:
        content = effect_of_content(catalog, space.catalog_row, behaviour, support, seed=seed)
    return blend(behaviour, content, support)


def _popularity(space: ItemSpace) -> dict[str, layout.Array]:
    category_offsets, category_items = popular.top_by_category(
        space.popularity,
        space.available,
        space.category_offsets,
        space.categories,
        len(space.category_names),
        layout.CATEGORY_POPULAR_MAX,
        space.groups,
    )
    return {
        "popularity": space.popularity,
        "popularity_recent": space.popularity_recent,
        "popular_items": popular.top_items(space.popularity, space.available, layout.POPULAR_ITEMS_MAX),
        "trending_items": popular.top_items(space.popularity_recent, space.available, layout.POPULAR_ITEMS_MAX),
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
    }
    arrays: dict[str, layout.Array] = {
        "item_id_offsets": id_offsets,
        "item_offsets": item_offsets,
        "available": space.available,
        "item_groups": space.groups,
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
        options={
            "seed": options.seed,
            "default_event_type": options.default_event_type,
            "epochs": options.epochs,
            "rank_examples": options.rank_examples,
        },
    )
