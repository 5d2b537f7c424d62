"""Ties: is the file's order of a basket's lines that share one time of any use?

It may be the order in which things were put into the basket, or nothing but the way in which an export sorts its rows.
The same file cannot say which; but what either answer costs if it is wrong can be measured:

    newest sessions, split: older -> two trial models, one in the file's order, one that has no order
                            newer -> questions to both: what comes next in the file, what comes next in a random order

Whoever learned the file's order is better at the first question and worse at the second. The order is kept only if the
worse of its two answers is better than the worse of the other's. Nothing is tried where the rows are plainly sorted by
item, or where few sessions are concerned.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recserv.model.data_report import TieReason, TieReport, TriedOrder
from recserv.training import holdout, mlp
from recserv.training.dataset import EventLog, Ties
from recserv.training.examples import Examples
from recserv.training.options import BuildOptions
from recserv.training.problems import Progress, no_progress
from recserv.training.sessions import TiedSessions, tied_sessions
from recserv.training.trial import asked, trial_engine

SHARE_MIN = 0.1
"""Of the sessions with more than one event; where fewer are tied, there is nothing to say."""
TRIED_MIN = 0.5
EVENTS_MAX = 120_000
NEWER_SHARE = 0.15
ASKED_SHARE = 0.4
LEARNED_MAX = 4_000
ASKED_MAX = 2_000
EXAMPLES_MIN = 200
EPOCHS = 1.0
_DIMENSIONS_MAX = 32
_BOTH: tuple[Ties, Ties] = ("file", "none")


def settle_ties(
    log: EventLog, options: BuildOptions, progress: Progress = no_progress
) -> tuple[EventLog, TieReport | None]:
    """The log with what is to be done about tied lines, and what was found; None: too few sessions to speak of."""
    tied = tied_sessions(log)
    if not tied.sessions or tied.share < SHARE_MIN:
        return replace(log, ties=options.ties if options.ties != "try" else "rule"), None
    if options.ties != "try":
        return replace(log, ties=options.ties), _report(tied, "told", options.ties == "file")
    if tied.sorted_by_item:
        return replace(log, ties="none"), _report(tied, "sorted", kept=False)
    if log.time_ms is None or not tied.bought or tied.share < TRIED_MIN:
        # Without times the order of rows is the order of time; views of one second come in the order of a log.
        return replace(log, ties="rule"), _report(tied, "rule", kept=not tied.bought)
    tried = _tried(log, options, progress)
    if tried is None:
        return replace(log, ties="none"), _report(tied, "rule", kept=False)
    in_file, no_order = tried
    kept = in_file.worse > no_order.worse
    report = _report(tied, "tried", kept, in_file, no_order)
    return replace(log, ties="file" if kept else "none"), report


def _report(
    tied: TiedSessions,
    reason: TieReason,
    kept: bool,
    in_file: TriedOrder | None = None,
    no_order: TriedOrder | None = None,
) -> TieReport:
    return TieReport(
        sessions=tied.sessions, share=tied.share, reason=reason, kept=kept, file_order=in_file, no_order=no_order
    )


def _tried(log: EventLog, options: BuildOptions, progress: Progress) -> tuple[TriedOrder, TriedOrder] | None:
    """What a model finds that learned the file's order, and one that learned none; None: too little to tell."""
    newest = holdout.newest(log, EVENTS_MAX)
    parts = holdout.split(newest, share=NEWER_SHARE)
    later = None if parts is None else holdout.split(parts[1], share=ASKED_SHARE)
    if parts is None or later is None:
        return None
    older, (learned, questions) = parts[0], later
    light = replace(options, epochs=min(EPOCHS, options.epochs), dimensions=min(_DIMENSIONS_MAX, options.dimensions))
    found = []
    for number, ties in enumerate(_BOTH):
        progress("trying the order of tied lines", number, 2)
        engine = trial_engine(replace(older, ties=ties), None, light)
        try:
            lists = asked(engine, replace(learned, ties=ties), limit=LEARNED_MAX, seed=options.seed)
            both = [
                asked(engine, replace(questions, ties=order), limit=ASKED_MAX, seed=options.seed) for order in _BOTH
            ]
        finally:
            engine.close()
        if min(lists.count, *(one.count for one in both)) < EXAMPLES_MIN:
            return None
        ranker = mlp.learn(lists, seed=options.seed)
        found.append(TriedOrder(*(_hit_rate(ranker, one) for one in both)))
    return found[0], found[1]


def _hit_rate(ranker: mlp.Perceptron, questions: Examples) -> float:
    """Of all questions, those included whose answer no source finds."""
    every = np.arange(questions.count)
    return mlp.ranked(ranker.scores(questions.features), questions, every).hit_rate * questions.found
