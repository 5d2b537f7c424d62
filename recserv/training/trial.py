"""A model of some of the sessions, served by the code that serves, for questions about the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from recserv.index.hnsw import HnswIndex
from recserv.model.ranker import Ranker
from recserv.model.snapshot import load_snapshot
from recserv.model.writer import save_snapshot
from recserv.pipeline.engine import Engine
from recserv.pipeline.scoring import PLAIN_WEIGHTS
from recserv.training.assemble import assemble
from recserv.training.catalog import Catalog
from recserv.training.checkpoints import Checkpoints
from recserv.training.dataset import EventLog
from recserv.training.examples import Examples, ranking_examples
from recserv.training.options import BuildOptions
from recserv.training.problems import Progress, no_progress
from recserv.training.sessions import build_sessions

PLAIN_RANKER = Ranker("linear", tuple(PLAIN_WEIGHTS), tuple(PLAIN_WEIGHTS.values()))


def trial_engine(
    log: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    checkpoints: Checkpoints | None = None,
    progress: Progress = no_progress,
) -> Engine:
    """Of a light model of all sessions of the log, without a ranker; the caller closes it."""
    contents, _ = assemble(log, catalog, options, trial=True, checkpoints=checkpoints, progress=progress)
    with tempfile.TemporaryDirectory(prefix="recserv-build-") as scratch:
        path = Path(scratch, "model")
        save_snapshot(contents.ranked_by(PLAIN_RANKER), path, durable=False)
        del contents
        snapshot = load_snapshot(path)
        with snapshot.verified_index() as file:
            return Engine(snapshot, HnswIndex.load(file, dimensions=snapshot.dimensions))


def asked(
    engine: Engine, log: EventLog, *, limit: int, seed: int, keep_repeats: bool = True, progress: Progress = no_progress
) -> Examples:
    """At most `limit` questions of the log's sessions: what came before, and which candidate came next."""
    item_rows = np.array([engine.items.row(item) for item in log.item_ids], np.int32)
    sessions = build_sessions(log, item_rows, seed=seed, keep_repeats=keep_repeats)
    return ranking_examples(engine, sessions, limit=limit, seed=seed, progress=progress)
