"""What a build made of its files: kept in the manifest, shown by `recserv check`, written by `--report`.

Nothing in it depends on when or in which folder the model was built.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TieReason = Literal["sorted", "tried", "told", "rule"]


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows or values of one file left out for one reason; `first_row` counts from 1, the header not counted, and
    `example` is its value. `file` is a name without folders.
    """

    file: str
    column: str
    problem: str
    first_row: int
    count: int
    example: str = ""


class EventName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`taken_as`: an event type in lower case, `ignored` or `unknown`."""

    name: str
    taken_as: str
    count: int


class RuleCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of events that a rule of `--leave-out` or of the mapping took away."""

    rule: str
    count: int


class LopsidedSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session that holds much more than others: mostly a placeholder that stands for many shoppers, or a robot."""

    session_id: str
    events: int


class TriedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HR@20 of a light trial model on newer sessions, asked for what comes next in the file and for what comes next in
    a random order of the same lines.
    """

    asked_in_file_order: float
    asked_in_random_order: float

    @property
    def worse(self) -> float:
        return min(self.asked_in_file_order, self.asked_in_random_order)


class TieReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions whose lines share one time: how many, as a share of those with more than one event, whether the order
    of their lines was `kept`, and why: the rows are `sorted` by item, both ways were `tried`, it was `told`, or it is
    the `rule`: purchases of one time have no order, anything else has that of its rows.
    """

    sessions: int
    share: float
    reason: TieReason
    kept: bool
    file_order: TriedOrder | None = None
    no_order: TriedOrder | None = None


class CatalogMatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`events_share`: of the events with an item, how many have one of the catalogue. The samples are a few ids of each
    side that the other lacks.
    """

    items: int
    items_without_events: int
    items_outside: int
    events_share: float
    outside_samples: tuple[str, ...] = ()
    catalog_samples: tuple[str, ...] = ()


class HoldoutReport(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that were kept from a model, and the file of questions made of them: beside it as FILE.json, and in the
    model. `sha256` is that of the file, `events` the names of the files that the sessions are from. Sessions of one
    item ask nothing. `first_end_ms`, `last_end_ms`: when the first and the last of them ended.
    """

    chosen: str
    file: str
    sha256: str
    events: tuple[str, ...]
    sessions: int
    sessions_asked: int
    sessions_without_order: int
    questions: int
    first_end_ms: int | None = None
    last_end_ms: int | None = None
    rows_with_blanks: int = 0


class DataReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rows_read` of the event files. Of all files `rows_bad` were wrong and `rows_blank` had no value; of the events
    `rows_without_item` said nothing of a product, `rows_ignored` had an event type to be ignored. Times are None where
    the data carry none.
    """

    files: int = 0
    rows_read: int = 0
    rows_bad: int = 0
    rows_blank: int = 0
    rows_without_item: int = 0
    rows_ignored: int = 0
    duplicate_events: int = 0
    events: int = 0
    order: Literal["time", "file"] = "file"
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    event_names: tuple[EventName, ...] = ()
    bad_rows: tuple[Finding, ...] = ()
    values_left_out: tuple[Finding, ...] = ()
    unused_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rows_by_rule: tuple[RuleCount, ...] = ()
    sessions: int = 0
    sessions_with_several: int = 0
    lopsided_sessions: tuple[LopsidedSession, ...] = ()
    catalog: CatalogMatch | None = None
    ties: TieReport | None = None
    holdout: HoldoutReport | None = None
