"""Training examples for a ranker: session prefixes, the candidates that serving finds for them, and the next item.

    model of the older sessions -> Engine, Retrieval: the code that serves
    newer sessions -> prefix, next item -> table of candidates with features, the row of the next item

A prefix whose next item no source finds is of no use for training and is only counted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recserv.pipeline.context import ContextBuilder
from recserv.pipeline.degradation import Guards
from recserv.pipeline.engine import Engine
from recserv.pipeline.observer import SilentObserver
from recserv.pipeline.retrieve import Retrieval
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.trace import Trace
from recserv.resilience.deadline import Deadline
from recserv.training.problems import Progress, no_progress
from recserv.training.sessions import TYPE_WEIGHTS, Sessions
from recserv.types import Event, EventType, RecommendQuery, ShopperState

PREFIX_EVENTS_MAX = 50
SESSION_PREFIXES_MAX = 30
NO_STATE = ShopperState()
NOTHING_BLOCKED = np.empty(0, np.int32)
PATIENCE_S = 60.0
# A sequence knows what an event weighs, not its type: any type of that weight stands for it.
TYPE_OF = {float(TYPE_WEIGHTS[kind]): kind for kind in (EventType.PURCHASE, EventType.ADD_TO_CART, EventType.VIEW)}


@dataclass(frozen=True)
class Examples:
    """Lists of candidates, one after the other: features float32 [m, f]; offsets int64 [lists + 1]; target int64
    [lists], the row of the next item. `prefixes`: how many were tried; `repeats` bool [lists]: the next item had been
    in the prefix.
    """

    features: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.bool_]
    prefixes: int

    @property
    def count(self) -> int:
        return len(self.target)

    @property
    def found(self) -> float:
        """The share of prefixes whose next item is among the candidates: no ranker can do better."""
        return self.count / max(self.prefixes, 1)


def ranking_examples(
    engine: Engine, sessions: Sessions, *, limit: int, seed: int, progress: Progress = no_progress
) -> Examples:
    """Of at most `limit` prefixes, drawn evenly. `sessions.items` are rows of the engine's model, -1 for items
    that it does not know.
    """
    return asyncio.run(_examples(engine, sessions, limit, seed, progress))


async def _examples(engine: Engine, sessions: Sessions, limit: int, seed: int, progress: Progress) -> Examples:
    settings = PipelineSettings()
    builder = ContextBuilder(engine, settings)
    retrieval = Retrieval(engine, settings, SilentObserver(), Guards().index)
    features, targets, repeats = [], [], []
    ends = _ends(sessions, limit, seed)
    for number, (begin, end) in enumerate(ends):
        if number % 500 == 0:
            progress("examples to rank", number, len(ends))
        prefix, wanted = sessions.items[begin:end], sessions.items[end]
        query = RecommendQuery(context_events=_events(engine, prefix, sessions.weights[begin:end]))
        trace, deadline = Trace(SilentObserver()), Deadline(PATIENCE_S)
        context = builder.build(NO_STATE, query, 0)
        found = await retrieval.search(context, query, NOTHING_BLOCKED, deadline, trace)
        retrieval.fill(context, query, NOTHING_BLOCKED, found, trace)
        items, table = engine.table.features(context.vector, context.items, context.session, float(context.events))
        place = np.flatnonzero(items == wanted)
        if len(place):
            features.append(table)
            targets.append(int(place[0]))
            repeats.append(bool((prefix == wanted).any()))
    sizes = [len(table) for table in features]
    return Examples(
        features=np.concatenate(features) if features else np.empty((0, 0), np.float32),
        offsets=np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64),
        target=np.array(targets, np.int64),
        repeats=np.array(repeats, bool),
        prefixes=len(ends),
    )


def _ends(sessions: Sessions, limit: int, seed: int) -> list[tuple[int, int]]:
    """(begin of the prefix, place of the next item) into sessions.items, in order."""
    rng = np.random.default_rng(seed)
    ends: list[tuple[int, int]] = []
    for begin, end in zip(sessions.offsets[:-1].tolist(), sessions.offsets[1:].tolist(), strict=True):
        places = np.arange(begin + 1, end)
        if len(places) > SESSION_PREFIXES_MAX:
            places = np.sort(rng.choice(places, SESSION_PREFIXES_MAX, replace=False))
        known = places[sessions.items[places] >= 0]
        ends += [(max(begin, place - PREFIX_EVENTS_MAX), place) for place in known.tolist()]
    if len(ends) > limit:
        chosen = np.sort(rng.choice(len(ends), limit, replace=False))
        ends = [ends[place] for place in chosen.tolist()]
    return ends


def _events(engine: Engine, items: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> tuple[Event, ...]:
    return tuple(
        Event(event_type=TYPE_OF.get(weight, EventType.VIEW), item_id=engine.items.id(item))
        for item, weight in zip(items.tolist(), weights.tolist(), strict=True)
        if item >= 0
    )
