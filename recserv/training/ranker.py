"""Trains the ranker: on the newest sessions, with candidates from sources that were built from the older ones.

    log -> older, newer sessions -> model of the older ones, served from a temporary directory -> examples of the newer
    -> perceptron -> Ranker; the sources of the real model are then built from everything

Fixed weights stay where there are too few examples, and where they rank the validation lists no worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from recserv._rank import linear_scorer
from recserv.model.ranker import Ranker
from recserv.pipeline.scoring import PLAIN_WEIGHTS
from recserv.ranking_features import FEATURE_NAMES
from recserv.training import holdout, mlp
from recserv.training.catalog import Catalog
from recserv.training.checkpoints import Arrays, Checkpoints
from recserv.training.dataset import EventLog
from recserv.training.examples import Examples
from recserv.training.options import BuildOptions
from recserv.training.problems import Progress, no_progress
from recserv.training.trial import PLAIN_RANKER, asked, trial_engine

EXAMPLES_MIN = 200


@dataclass(frozen=True)
class RankerReport:
    """On the newest sessions, which the sources had not seen: `found` is the share of next items among the candidates;
    the qualities are over the validation part of the lists that hold the next item.
    """

    examples: int
    found: float
    plain: mlp.Quality
    learned: mlp.Quality
    chosen: bool


def learn_ranker(
    log: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    checkpoints: Checkpoints | None = None,
    progress: Progress = no_progress,
) -> tuple[Ranker, RankerReport | None]:
    """None: too little to learn from. `checkpoints`: an interrupted build resumes from them."""
    kept = None if checkpoints is None else checkpoints.stage("ranker")
    stored = None if kept is None else kept.load()
    if stored is not None:
        return _from_arrays(stored)
    ranker, report = _learn(log, catalog, options, progress, checkpoints)
    if kept is not None:
        kept.save(_as_arrays(ranker, report))
    return ranker, report


def _learn(
    log: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    progress: Progress,
    checkpoints: Checkpoints | None,
) -> tuple[Ranker, RankerReport | None]:
    parts = holdout.split(log) if options.rank_examples else None
    if parts is None:
        return PLAIN_RANKER, None
    older, newer = parts
    examples = _examples(older, newer, catalog, options, progress, checkpoints)
    if examples.count < EXAMPLES_MIN:
        return PLAIN_RANKER, None

    def on_epoch(epoch: int, loss: float, hit_rate: float, reciprocal_rank: float) -> None:
        progress(f"ranker: loss {loss:.3f}, HR@20 {hit_rate:.3f}, MRR@20 {reciprocal_rank:.3f}", epoch, mlp.EPOCHS)

    learned = mlp.learn(examples, seed=options.seed, on_epoch=on_epoch)
    held = mlp.parts(examples.count)[1]
    plain = mlp.ranked(linear_scorer(PLAIN_WEIGHTS).scores(examples.features), examples, held)
    quality = mlp.ranked(learned.scores(examples.features), examples, held)
    chosen = sum(quality) > sum(plain)
    report = RankerReport(examples.count, examples.found, plain, quality, chosen)
    return (_as_ranker(learned) if chosen else PLAIN_RANKER), report


def _examples(
    older: EventLog,
    newer: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    progress: Progress,
    checkpoints: Checkpoints | None,
) -> Examples:
    def first(name: str, done: int, total: int) -> None:
        progress(f"older sessions: {name}", done, total)

    engine = trial_engine(older, catalog, options, checkpoints, first)
    try:
        return asked(engine, newer, limit=options.rank_examples, seed=options.seed, progress=progress)
    finally:
        engine.close()


def _as_ranker(learned: mlp.Perceptron) -> Ranker:
    def numbers(values: mlp.Floats) -> tuple[float, ...]:
        # Short decimals that read back as the same float32.
        return tuple(float(str(value)) for value in values)

    return Ranker(
        "mlp",
        FEATURE_NAMES,
        numbers(learned.skip),
        mean=numbers(learned.mean),
        scale=numbers(learned.scale),
        hidden=tuple(numbers(row) for row in learned.hidden),
        bias=numbers(learned.bias),
        out=numbers(learned.out),
    )


def _as_arrays(ranker: Ranker, report: RankerReport | None) -> dict[str, npt.NDArray[np.uint8]]:
    return {
        "ranker": np.frombuffer(msgspec.json.encode(ranker), np.uint8),
        "report": np.frombuffer(msgspec.json.encode(report), np.uint8),
    }


def _from_arrays(stored: Arrays) -> tuple[Ranker, RankerReport | None]:
    ranker = msgspec.json.decode(stored["ranker"].tobytes(), type=Ranker)
    return ranker, msgspec.json.decode(stored["report"].tobytes(), type=RankerReport | None)
