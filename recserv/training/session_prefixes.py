"""Sessions as questions for training: what came before an event is the context, the event itself the answer.

    sessions -> held out (the newest, for validation) | trained on
    trained on -> vocabulary (items that occur in them) -> targets (events with something before them) -> batches

Where a session has no order, it is shuffled anew in every epoch, so each of its items comes after every other one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recserv.training.linear_algebra import Matrix
from recserv.training.sessions import Sessions

HELD_OUT_PREFIXES_MAX = 2000


@dataclass(frozen=True)
class Contexts:
    """The events of b contexts, newest first: `items` int32 [e]; `places` int32 [e], 0 for the newest; `weights`
    float32 [e]; `segments` int64 [b + 1], where each context begins.
    """

    items: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    weights: Matrix
    segments: npt.NDArray[np.int64]


class Prefixes:
    """Sequences over a vocabulary and the events in them that can be asked for.

    `vocabulary` int32 [m]: item rows, ascending; items are numbered by it from here on. `items` int32 [e],
    `weights` float32 [e], `place` int32 [e] (events before it in its session), `targets` int32 [t]: events whose place
    is not 0.
    """

    def __init__(self, sessions: Sessions, chosen: npt.NDArray[np.bool_], places_max: int):
        """Takes the sessions marked in `chosen`, bool [s]. Contexts reach back `places_max` events."""
        lengths = sessions.lengths()
        rows = np.flatnonzero(np.repeat(chosen, lengths))
        lengths = lengths[chosen]
        self.vocabulary, numbers = np.unique(sessions.items[rows], return_inverse=True)
        self.items = numbers.astype(np.int32)
        self.weights = sessions.weights[rows].astype(np.float32)
        starts = np.cumsum(lengths) - lengths
        self.place = (np.arange(len(rows)) - np.repeat(starts, lengths)).astype(np.int32)
        self.targets = np.flatnonzero(self.place > 0).astype(np.int32)
        self._places_max = places_max
        self._loose = np.flatnonzero(np.repeat(sessions.unordered[chosen], lengths))
        self._basket = np.repeat(np.arange(len(lengths)), lengths)[self._loose].astype(np.float64)

    def shuffle(self, rng: np.random.Generator) -> None:
        """Shuffles the events of every session without an order."""
        order = self._loose[np.argsort(self._basket + rng.random(len(self._basket)), kind="stable")]
        self.items[self._loose] = self.items[order]
        self.weights[self._loose] = self.weights[order]

    def frequency(self) -> npt.NDArray[np.float64]:
        """Share of each item in the targets: float64 [m]. An unordered session's events are all equally likely ones."""
        weight = (self.place > 0).astype(np.float64)
        if len(self._loose):
            # An event of a basket of n is a target in n - 1 of n shuffles.
            size = np.bincount(self._basket.astype(np.int64))[self._basket.astype(np.int64)]
            weight[self._loose] = 1 - 1 / size
        counts = np.bincount(self.items, weight, minlength=len(self.vocabulary))
        share: npt.NDArray[np.float64] = counts / max(counts.sum(), 1e-12)
        return share

    def contexts(self, targets: npt.NDArray[np.int32]) -> Contexts:
        """What came before each of the events `targets`."""
        lengths = np.minimum(self.place[targets], self._places_max)
        segments = np.zeros(len(targets) + 1, np.int64)
        np.cumsum(lengths, out=segments[1:])
        places = np.arange(segments[-1], dtype=np.int32) - np.repeat(segments[:-1].astype(np.int32), lengths)
        events = np.repeat(targets, lengths) - 1 - places
        return Contexts(self.items[events], places, self.weights[events], segments)


@dataclass(frozen=True)
class HeldOut:
    """Prefixes that training has not seen. `answers` int32 [b]; `exclude` bool [b]: whether the items of the context
    are no candidates (a basket does not hold a product twice; a click may come back).
    """

    contexts: Contexts
    answers: npt.NDArray[np.int32]
    exclude: npt.NDArray[np.bool_]

    @property
    def count(self) -> int:
        return len(self.answers)


def split(sessions: Sessions, share: float, places_max: int, rng: np.random.Generator) -> tuple[Prefixes, HeldOut]:
    """Training data and up to HELD_OUT_PREFIXES_MAX prefixes of the newest `share` of sessions, items new in them left
    out. A session is either trained on or held out.
    """
    usable = sessions.lengths() > 1
    held = _held_out(sessions, np.flatnonzero(usable), share, rng)
    trained = usable.copy()
    trained[held] = False
    prefixes = Prefixes(sessions, trained, places_max)
    return prefixes, _questions(sessions, held, prefixes.vocabulary, places_max, rng)


def _held_out(
    sessions: Sessions, usable: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    newest = usable[len(usable) - int(share * len(usable)) :]
    newest = rng.permutation(newest)
    asked = np.where(sessions.unordered[newest], 1, sessions.lengths()[newest] - 1)
    return np.sort(newest[np.cumsum(asked) <= HELD_OUT_PREFIXES_MAX])


def _questions(
    sessions: Sessions,
    held: npt.NDArray[np.int64],
    vocabulary: npt.NDArray[np.int32],
    places_max: int,
    rng: np.random.Generator,
) -> HeldOut:
    """Every prefix of an ordered session, one at random of an unordered one."""
    items: list[npt.NDArray[np.int32]] = []
    weights: list[Matrix] = []
    answers: list[int] = []
    exclude: list[bool] = []
    for session in held:
        span = slice(sessions.offsets[session], sessions.offsets[session + 1])
        number = np.searchsorted(vocabulary, sessions.items[span]).astype(np.int32)
        known = number < len(vocabulary)
        known[known] = vocabulary[number[known]] == sessions.items[span][known]
        number, weight = number[known], sessions.weights[span][known]
        loose = bool(sessions.unordered[session])
        if len(number) < 2:
            continue
        for cut in [int(rng.integers(1, len(number)))] if loose else range(1, len(number)):
            first = max(cut - places_max, 0)
            items.append(number[first:cut][::-1])
            weights.append(weight[first:cut][::-1])
            answers.append(int(number[cut]))
            exclude.append(loose)
    lengths = np.array([len(one) for one in items], np.int64)
    segments = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    contexts = Contexts(
        items=np.concatenate([*items, np.zeros(0, np.int32)]).astype(np.int32),
        places=(np.arange(segments[-1]) - np.repeat(segments[:-1], lengths)).astype(np.int32),
        weights=np.concatenate([*weights, np.zeros(0, np.float32)]).astype(np.float32),
        segments=segments,
    )
    return HeldOut(contexts, np.array(answers, np.int32), np.array(exclude, bool))
