"""`recserv build`: event and catalogue files in, a model directory out.

    read events, catalogue -> ranker, learned on the newest sessions -> sources of all sessions -> model directory,
    written whole or not at all

The same input and seed give the same bytes on one machine.
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec
from threadpoolctl import threadpool_limits

from recserv.model import snapshot
from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.catalog import CATALOG_COLUMNS, read_catalog
from recserv.training.dataset import EVENT_COLUMNS, read_events
from recserv.training.options import BuildOptions
from recserv.training.problems import BadRows, Progress, SkippedRows, no_progress
from recserv.training.ranker import RankerReport, learn_ranker


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
    ranker: RankerReport | None
    skipped: tuple[SkippedRows, ...]
    seconds: float

    @property
    def skipped_rows(self) -> int:
        return sum(found.count for found in self.skipped)


def build(options: BuildOptions, progress: Progress = no_progress) -> BuildReport:
    """Builds a model. Raises DatasetError for bad input, UsageError for bad options; nothing is written then."""
    began = time.monotonic()
    options.check()
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
    # One thread: the bytes of a model must not depend on how many there are, and two that share busy cores with others
    # were five times slower than one.
    with threadpool_limits(1, user_api="blas"):
        ranker, ranking = learn_ranker(log, catalog, options, progress)
        contents, space = assemble(log, catalog, options, ranker, skipped=problems.total, progress=progress)
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
        ranker=ranking,
        skipped=problems.report(),
        seconds=time.monotonic() - began,
    )
