from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from recserv.errors import DatasetError, UsageError
from recserv.training import past as past_module
from recserv.training.mapped import MissingColumn
from recserv.training.mapping_tables import TableMapping, combined
from recserv.training.notes import Notes
from recserv.training.past import Past, read_past
from recserv.training.problems import BadRows
from recserv.types import MARK_BYTES, EventType, UserPast

NOW_MS = 1_750_000_000_000
HEADER = "event_type,user_id,item_id,event_time,quantity\n"


def csv_file(folder: Path, *lines: str, name: str = "events.csv", header: str = HEADER) -> str:
    path = folder / name
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return str(path)


def pasts(past: Past, *paths: str, skip: bool = False, before_ms: int | None = None, **columns: str) -> list[UserPast]:
    table = combined(TableMapping(), columns, {})
    read_past(paths, past, table, BadRows(skip), Notes(), before_ms=before_ms, now_ms=NOW_MS)
    return sorted(past.users(), key=lambda one: one.user_id)


def marks_of(past: UserPast) -> list[bytes]:
    return [past.marks[at : at + MARK_BYTES] for at in range(0, len(past.marks), MARK_BYTES)]


def items_of(found: Sequence[UserPast]) -> dict[str, list[str]]:
    return {one.user_id: [event.item_id for event in one.events] for one in found}


def test_each_user_is_whole_and_the_oldest_event_is_first(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "purchase,u1,b,1700000002,3",
        "view,u2,x,1700000000,",
        "purchase,u1,a,1700000001,",
        "search,u1,,1700000003,",
    )
    with Past() as past:
        u1, u2 = pasts(past, path)
    assert items_of([u1, u2]) == {"u1": ["a", "b", ""], "u2": ["x"]}
    first, second, _ = u1.events
    assert (first.event_type, first.quantity, first.event_time_ms) == (EventType.PURCHASE, 0, 1_700_000_001_000)
    assert (second.quantity, second.user_id, second.session_id) == (3, "u1", "")
    assert len(set(marks_of(u1))) == 3


def test_events_alike_are_told_apart_within_a_file_and_are_the_same_in_the_next(tmp_path: Path) -> None:
    twice = ["purchase,u,a,1700000000,1"] * 2
    first = csv_file(tmp_path, *twice, name="1.csv")
    second = csv_file(tmp_path, *twice, "purchase,u,b,1700000000,1", name="2.csv")
    with Past() as past:
        [one] = pasts(past, first)
    with Past() as past:
        [other] = pasts(past, second)
    assert len(set(marks_of(one))) == 2
    assert marks_of(other)[:2] == marks_of(one)
    with Past() as past:
        [both] = pasts(past, first, second)
    assert set(marks_of(both)) == set(marks_of(other))


@pytest.mark.parametrize("parts", [1, 7])
def test_marks_depend_on_nothing_but_the_events(parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"view,u{n % 5},i{n % 3},{1_700_000_000 + n // 4}," for n in range(200)]
    path = csv_file(tmp_path, *lines)
    with Past() as past:
        wanted = pasts(past, path)
    monkeypatch.setattr(past_module, "PARTS", parts)
    monkeypatch.setattr(past_module, "_ROWS_AT_ONCE", 3)
    with Past() as past:
        assert pasts(past, path) == wanted
    assert sum(len(one.events) for one in wanted) == 200


def test_an_event_id_counts_once_and_says_which_event_it_is_in_any_file(tmp_path: Path) -> None:
    header = HEADER.rstrip() + ",event_id,session_id\n"
    line = "view,u,a,1700000000,,e1,s1"
    path = csv_file(tmp_path, line, line, "view,u,a,1700000000,,e1,s2", header=header)
    with Past() as past:
        [one] = pasts(past, path)
        assert past.duplicates == 1
    assert [event.event_id for event in one.events] == ["e1", "e1"]
    corrected = csv_file(tmp_path, "view,u,a,1700000009,,e1,s1", name="2.csv", header=header)
    with Past() as past:
        [other] = pasts(past, corrected)
    assert marks_of(other) == marks_of(one)[:1]


def test_an_event_id_of_two_events_is_refused_before_anything_can_be_imported(tmp_path: Path) -> None:
    """An order number for an id: of each order one line would count, and the others never again."""
    header = HEADER.rstrip() + ",event_id\n"
    path = csv_file(tmp_path, "purchase,u,a,1700000000,,7", "purchase,u,b,1700000000,,7", header=header)
    with Past() as past, pytest.raises(DatasetError, match="--column event_id=") as caught:
        pasts(past, path)
    assert (caught.value.row, caught.value.column) == (2, "event_id")
    with Past() as past:
        assert items_of(pasts(past, path, skip=True)) == {"u": ["a"]}
    with Past() as past:
        assert items_of(pasts(past, path, event_id="")) == {"u": ["a", "b"]}


def test_what_is_no_event_of_a_user_is_left_out_and_counted(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, "view,,a,1700000000,", "purchase,u,b,1700000000,-1", "view,u,c,1700000000,", "view,u,d,1700000100,"
    )
    with Past() as past:
        assert items_of(pasts(past, path, before_ms=1_700_000_100_000)) == {"u": ["c"]}
        assert (past.without_user, past.too_young, past.rows) == (1, 1, 1)


def test_a_user_with_too_many_events_is_left_out_and_reported_as_a_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_module, "PAST_EVENTS_MAX", 3)
    path = csv_file(tmp_path, *["view,guest,a,1700000000,"] * 4, *["view,u,a,1700000000,"] * 3)
    with Past() as past:
        assert items_of(pasts(past, path)) == {"u": ["a"] * 3}
        assert past.crowds == [("guest", 4)]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("stare,u,a,1700000000,", "event_type"),
        ("view,u,a,noon,", "event_time"),
        ("view,u,a,1750001000,", "event_time"),
        ("view,u,,1700000000,", "item_id"),
    ],
)
def test_a_bad_row_of_an_import_is_refused_with_its_column(line: str, column: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, "view,u,a,1700000000,", line)
    with Past() as past, pytest.raises(DatasetError) as caught:
        pasts(past, path)
    assert (caught.value.row, caught.value.column) == (2, column)
    with Past() as past:
        assert items_of(pasts(past, path, skip=True)) == {"u": ["a"]}


@pytest.mark.parametrize("column", ["user_id", "event_time"])
def test_a_file_that_does_not_say_who_or_when_is_refused(column: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, "view,u,a,1700000000,", header=HEADER.replace(column, "other"))
    with Past() as past, pytest.raises(MissingColumn) as caught:
        pasts(past, path)
    assert caught.value.column == column


@pytest.mark.parametrize("rows", [1, 5000], ids=["in the buffer until the end", "at the first write"])
def test_a_disk_that_cannot_hold_the_parts_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """And the parts are closed without another word, though they cannot be written out then either."""
    path = csv_file(tmp_path, *[f"view,u,{row * 7919 % 10007},{1700000000 + row * row},{row}" for row in range(rows)])
    monkeypatch.setattr(past_module.tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b"))  # noqa: SIM115
    with pytest.raises(UsageError, match=r"No space left on device; TMPDIR names another"), Past() as past:
        pasts(past, path)


def test_a_folder_that_takes_no_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(past_module.tempfile, "TemporaryFile", refused)
    with pytest.raises(UsageError, match=r"Too many open files; TMPDIR names another"):
        Past()
