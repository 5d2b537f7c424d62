"""`recserv build`: event and catalogue files in, a model directory out.

    read events, catalogue -> ranker, learned on the newest sessions -> model directory, written whole or not at all
                           -> sources of all sessions                ->

The ranker needs sources of its own, of the older sessions, which take nearly as long as those of all: with more than
one processor it is learned in a process beside, and the bytes are the same.

The same input and seed give the same bytes on one machine. What takes long is kept beside the target while it goes on
(`checkpoints`): a build that was interrupted and is started again, on the same data, goes on from its last whole epoch.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from recserv.model import snapshot
from recserv.model.data_report import DataReport
from recserv.model.writer import ModelContents, save_snapshot
from recserv.training.assemble import assemble
from recserv.training.beside import POSSIBLE, Beside
from recserv.training.catalog import CATALOG_COLUMNS, Catalog, catalog_wanted, read_catalog
from recserv.training.checkpoints import Checkpoints, fingerprint
from recserv.training.data_report import data_report, refuse_strangers
from recserv.training.dataset import EVENT_COLUMNS, EventLog, read_events
from recserv.training.files import expand, kind_of
from recserv.training.item_space import ItemSpace
from recserv.training.mapped import MissingColumn
from recserv.training.mapping_fit import hint
from recserv.training.notes import Notes
from recserv.training.options import BuildOptions
from recserv.training.problems import BadRows, Progress, no_progress
from recserv.training.ranker import RankerReport, learn_ranker
from recserv.training.readers import read_batches
from recserv.training.set_aside import set_aside, split_newest
from recserv.training.ties import settle_ties

BESIDE_EVENTS_MIN = 200_000
"""With fewer, training the ranker takes no longer than starting a process."""


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a build read, left out and wrote. `items_outside_catalog`: in the events, not in the catalogue given;
    `variants`: how many items each group of several has, the largest first.
    """

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
    variants: tuple[int, ...] = ()
    behaviour: Literal["bought", "viewed"]
    ranker: RankerReport | None
    data: DataReport
    seconds: float
    holdout_file: str = ""

    @property
    def skipped_rows(self) -> int:
        return self.data.rows_bad


def build(options: BuildOptions, progress: Progress = no_progress) -> BuildReport:
    """Builds a model. Raises DatasetError for bad input, UsageError for bad options; nothing is written then."""
    began = time.monotonic()
    options.check()
    log, catalog, data = _read(options, progress)
    newer = None
    if options.holdout is not None:
        log, newer = split_newest(log, options.holdout, options.events[0])
    log, ties = settle_ties(log, options, progress)
    data = msgspec.structs.replace(data, ties=ties)
    held = None
    if newer is not None and options.holdout is not None:
        newer = replace(newer, ties=log.ties)
        held = set_aside(newer, options.holdout, options.holdout_path(), options.events, options.seed)
        data = msgspec.structs.replace(data, holdout=held.report)
    checkpoints = Checkpoints.beside(Path(options.out), _fingerprint(options, log, catalog))
    # One thread: the bytes of a model must not depend on how many there are, and two that share busy cores with others
    # were five times slower than one.
    with threadpool_limits(1, user_api="blas"):
        contents, space, ranking = _learned(log, catalog, options, data.rows_bad, checkpoints, progress)
    contents = replace(contents, manifest=msgspec.structs.replace(contents.manifest, data=data))
    if held is not None:
        held.write()
    manifest = save_snapshot(contents, options.out)
    checkpoints.clear()
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
        variants=tuple(sorted(np.bincount(space.groups[space.groups >= 0]).tolist(), reverse=True)),
        behaviour=manifest.behaviour,
        ranker=ranking,
        data=data,
        seconds=time.monotonic() - began,
        holdout_file="" if held is None else str(held.path),
    )


def _read(options: BuildOptions, progress: Progress) -> tuple[EventLog, Catalog | None, DataReport]:
    problems, notes, of_catalog = BadRows(options.skip_bad_rows), Notes(), Notes()
    table = options.table
    item_names = options.catalog_table.columns.get("item_id", ())
    if options.catalog is not None and item_names and "item_id" not in table.told:
        table = table.falling_back("item_id", item_names)  # The events may call it what the catalogue calls it.
    if options.catalog is not None:
        _check_catalog(options)
    try:
        log = read_events(
            options.events,
            mapping={name: source for name, source in options.columns.items() if name in EVENT_COLUMNS},
            default_event_type=options.default_event_type,
            table=table,
            problems=problems,
            notes=notes,
            progress=progress,
        )
    except MissingColumn as error:
        raise error.with_hint(hint(error, "events", table.name)) from error
    catalog = None
    if options.catalog is not None:
        try:
            catalog = read_catalog(
                options.catalog,
                mapping={name: source for name, source in options.columns.items() if name in CATALOG_COLUMNS},
                table=options.catalog_table,
                problems=problems,
                notes=of_catalog,
                progress=progress,
            )
        except MissingColumn as error:
            raise error.with_hint(hint(error, "catalog", options.catalog_table.name)) from error
    same_file = options.catalog in options.events
    data = data_report(log, catalog, notes, of_catalog, problems, same_file=same_file)
    if options.catalog is not None and not options.allow_unknown_items:
        refuse_strangers(data, options.catalog)
    return log, catalog, data


def _check_catalog(options: BuildOptions) -> None:
    """Checks the columns before the events are read, which may take minutes. Raises DatasetError, UsageError."""
    first = expand([str(options.catalog)])[0]
    if kind_of(first) == "json":
        return  # The contents of a JSON array are known only at its end.
    try:
        next(read_batches(first, catalog_wanted(options.columns, options.catalog_table), BadRows(skip=True)), None)
    except MissingColumn as error:
        raise error.with_hint(hint(error, "catalog", options.catalog_table.name)) from error


def _learned(
    log: EventLog,
    catalog: Catalog | None,
    options: BuildOptions,
    skipped: int,
    checkpoints: Checkpoints,
    progress: Progress,
) -> tuple[ModelContents, ItemSpace, RankerReport | None]:
    sources = partial(assemble, log, catalog, options, skipped=skipped, checkpoints=checkpoints)
    if POSSIBLE and len(log) >= BESIDE_EVENTS_MIN and (os.cpu_count() or 1) > 1:
        with Beside(learn_ranker, log, catalog, options, checkpoints) as learning:
            contents, space = sources(progress=learning.telling(progress))
            ranker, ranking = learning.result(progress)
    else:
        ranker, ranking = learn_ranker(log, catalog, options, checkpoints, progress)
        contents, space = sources(progress=progress)
    return contents.ranked_by(ranker), space, ranking


def _fingerprint(options: BuildOptions, log: EventLog, catalog: Catalog | None) -> str:
    chosen = (options.seed, options.dimensions, options.epochs, options.rank_examples, log.ties)
    ids = "\0".join(log.item_ids).encode("utf-8", "surrogatepass")
    events = (log.session, log.item, log.event_type, log.time_ms)
    products: tuple[bytes | npt.NDArray[Any], ...] = ()
    if catalog is not None:
        columns = {name: column.to_pylist() for name, column in (*catalog.text.items(), *catalog.lists.items())}
        described = (catalog.ids, columns, catalog.attributes, catalog.groups)
        products = (msgspec.msgpack.encode(described), catalog.price, catalog.available)
    return fingerprint((msgspec.json.encode(chosen), ids, *events, *products))
