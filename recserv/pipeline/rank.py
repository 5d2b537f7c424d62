"""Ranking: the table of candidates -> a score for each -> the best, with the share each source has in the score."""

from __future__ import annotations

import logging

import msgspec
import numpy as np
import numpy.typing as npt

from recserv._rank import Scorer
from recserv.pipeline.context import Context
from recserv.pipeline.engine import Engine, Floats, Positions
from recserv.pipeline.trail import Trail
from recserv.types import DegradedReason

logger = logging.getLogger(__name__)


class Ranking(msgspec.Struct, frozen=True):
    """Best first. items: int32 [m]; scores: float32 [m]; features: float32 [m, FEATURES], columns as in
    `_rank.FEATURE_NAMES`; shares: float32 [m, 6], as in `_rank.SHARE_NAMES`; named: uint8 [m], bits as in
    `_rank.NAMED_BY`.
    """

    items: Positions
    scores: Floats
    features: Floats
    shares: Floats
    named: npt.NDArray[np.uint8]

    def rows(self, rows: Positions | slice) -> Ranking:
        """These rows, in this order."""
        return Ranking(self.items[rows], self.scores[rows], self.features[rows], self.shares[rows], self.named[rows])


def rank(engine: Engine, context: Context, keep: int, trail: Trail) -> Ranking:
    """The `keep` best candidates; ties by position.

    Without a session there is nothing that the ranker has learned from, and a ranker that fails ranks nothing: then
    fixed weights decide.
    """
    scorer = engine.cold_scorer if context.empty else engine.scorer
    try:
        return _ranked(engine, scorer, context, keep)
    except Exception:
        logger.exception("the ranker failed")
        trail.degrade(DegradedReason.RANKER_UNAVAILABLE)
        return _ranked(engine, engine.plain_scorer, context, keep)


def _ranked(engine: Engine, scorer: Scorer, context: Context, keep: int) -> Ranking:
    return Ranking(
        *engine.table.rank(scorer, context.vector, context.items, context.session, float(context.events), keep)
    )
