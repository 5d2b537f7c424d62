"""Ranking: the table of candidates -> a score for each -> the best, with the contribution of each source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec
import numpy as np
import numpy.typing as npt

from recserv._rank import Scorer
from recserv.pipeline.context import Context
from recserv.pipeline.degradation import BadAnswer, Guard
from recserv.pipeline.engine import Engine, Floats, ItemRows
from recserv.pipeline.ranker import Ranker, checked
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.side_thread import within
from recserv.pipeline.sources.context_vector import ContextVector
from recserv.pipeline.trace import Trace
from recserv.pipeline.vector_search import Neighbours
from recserv.ranking_features import column
from recserv.resilience.deadline import Deadline

COSINE = column("context_cosine")
NONE_MATCHES: Neighbours = (np.empty(0, np.int32), np.empty(0, np.float32))


class Ranking(msgspec.Struct, frozen=True):
    """Best first. items: int32 [m]; scores: float32 [m]; features: float32 [m, FEATURES], columns as in
    `ranking_features.FEATURES`; contributions: float32 [m, 6], as in `ranking_features.CONTRIBUTION_NAMES`;
    source_masks: uint8 [m], the bits of the sources.
    """

    items: ItemRows
    scores: Floats
    features: Floats
    contributions: Floats
    source_masks: npt.NDArray[np.uint8]

    def rows(self, rows: npt.NDArray[np.int32] | slice) -> Ranking:
        """The ranking of these rows, in this order."""
        return Ranking(
            self.items[rows], self.scores[rows], self.features[rows], self.contributions[rows], self.source_masks[rows]
        )


def words_first(ranking: Ranking, matching: Neighbours, keep: int, *, cold: bool) -> Ranking:
    """The first `keep` of a ranking, after moving the items that contain words of a search (int32, float32 > 0) to the
    top, by the rarity of these words. Ties: by similarity to the context vector if there is nothing else to rank by
    (`cold`), else in the order of the ranking. Scores still fall with rank: the rarity is added to the best score of
    the others, which keep theirs.
    """
    items, rarity = matching
    order = np.argsort(items)
    place = np.minimum(np.searchsorted(items, ranking.items, sorter=order), len(items) - 1)
    at = order[place]
    held = np.where(items[at] == ranking.items, rarity[at], np.float32(0))
    top = max(0.0, float(ranking.scores[held == 0].max(initial=0.0)))
    scores = np.where(held > 0, held + np.float32(top), ranking.scores).astype(np.float32)
    # Credited to the search, even if other sources proposed them, too.
    source_masks = np.where(held > 0, np.uint8(ContextVector.bit), ranking.source_masks)
    nearness = np.where(held > 0, ranking.features[:, COSINE], 0) if cold else np.zeros(len(held))
    rows = np.lexsort((np.arange(len(held)), -nearness, -held))[:keep]
    return msgspec.structs.replace(ranking, scores=scores, source_masks=source_masks).rows(rows.astype(np.int32))


class RankStage:
    """Ranks with one engine. The table must not change between `Retrieval.fill` and the call of `rank`, which copies
    what it needs before it first awaits anything.
    """

    def __init__(self, engine: Engine, settings: PipelineSettings, guard: Guard):
        self._engine, self._settings, self._guard = engine, settings, guard

    def rank(
        self, context: Context, keep: int, deadline: Deadline, trace: Trace, matching: Neighbours = NONE_MATCHES
    ) -> Awaitable[Ranking]:
        """The `keep` best candidates; ties by item row. `matching`: items that contain the words of a search come
        before all others, however the ranker scores them.
        """
        if not len(matching[0]):
            return self._ranked(context, keep, deadline, trace)
        return self._words_first(context, keep, deadline, trace, matching)

    async def _words_first(
        self, context: Context, keep: int, deadline: Deadline, trace: Trace, matching: Neighbours
    ) -> Ranking:
        everything = await self._ranked(context, self._engine.table.count, deadline, trace)
        return words_first(everything, matching, keep, cold=context.empty)

    async def _ranked(self, context: Context, keep: int, deadline: Deadline, trace: Trace) -> Ranking:
        """The `keep` best.

        Fixed weights are used without a session, as rankers learn from sessions only, and if the ranker fails.
        """
        engine = self._engine
        if context.empty:
            return self._scored(engine.cold_scorer, context, keep)
        if engine.ranker is not None:
            return await self._by_another(engine.ranker, context, keep, deadline, trace)
        ranking = self._guard.call(trace, None, self._by_model, context, keep)
        return ranking or self._scored(engine.plain_scorer, context, keep)

    def _by_model(self, context: Context, keep: int) -> Ranking | None:
        ranking = self._scored(self._engine.scorer, context, keep)
        if len(ranking.items) < min(keep, self._engine.table.count):
            raise BadAnswer("the ranker gave scores that are not numbers")
        return ranking

    async def _by_another(
        self, ranker: Ranker, context: Context, keep: int, deadline: Deadline, trace: Trace
    ) -> Ranking:
        engine = self._engine
        plain = self._scored(engine.plain_scorer, context, engine.table.count)
        scores = await self._guard.run(trace, None, self._asked, ranker, plain.features, deadline)
        if scores is None:
            return plain.rows(slice(0, keep))
        best = np.lexsort((plain.items, -scores))[:keep].astype(np.int32)
        return msgspec.structs.replace(plain.rows(best), scores=scores[best])

    async def _asked(self, ranker: Ranker, features: Floats, deadline: Deadline) -> Floats | None:
        if ranker.bounded:
            return checked(ranker.scores(features), len(features))
        search: asyncio.Future[Floats] = self._engine.ranker_thread.start(ranker.scores, features)
        return checked(await within(search, deadline.share_s(self._settings.rank_share)), len(features))

    def _scored(self, scorer: Scorer, context: Context, keep: int) -> Ranking:
        return Ranking(
            *self._engine.table.rank(
                scorer, context.vector, context.items, context.session, float(context.events), keep
            )
        )
