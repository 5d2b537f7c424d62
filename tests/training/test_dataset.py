from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recserv.errors import DatasetError, UsageError
from recserv.training import readers
from recserv.training.dataset import EventLog, read_events
from recserv.training.event_names import parse_event_type
from recserv.training.notes import Notes
from recserv.training.problems import BadRows
from recserv.types import EventType
from tests.factories import tiny_log, write_event_file

HEADER = "event_type,session_id,item_id,event_time\n"


def csv_file(folder: Path, *rows: str, header: str = HEADER, name: str = "events.csv") -> str:
    path = folder / name
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return str(path)


def rows_of(log: EventLog) -> list[tuple[int, str, int]]:
    """Sessions in order of first appearance, ids as text."""
    return [
        (int(s), log.item_ids[i] if i >= 0 else "", int(k))
        for s, i, k in zip(log.session, log.item, log.event_type, strict=True)
    ]


@pytest.mark.parametrize("name", ["events.parquet", "events.csv", "events.jsonl"])
def test_every_format_gives_the_same_log(tmp_path: Path, name: str) -> None:
    log = tiny_log(50, 60)
    read = read_events([str(write_event_file(tmp_path / name, log))])
    assert [log.item_ids[code] for code in log.item] == [read.item_ids[code] for code in read.item]
    assert (read.session == log.session).all()
    assert (read.event_type == log.event_type).all()
    assert log.time_ms is not None
    assert read.time_ms is not None
    assert (read.time_ms == log.time_ms).all()
    assert read.session_count == log.session_count


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl"])
def test_compressed_files_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    plain = write_event_file(tmp_path / name, tiny_log(20, 20))
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert rows_of(read_events([str(packed)])) == rows_of(read_events([str(plain)]))


def test_session_lines_are_views_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "sessions.txt.gz"
    path.write_bytes(gzip.compress(b"1 2\n\n 3  1 3 \n"))
    log = read_events([str(path)])
    assert rows_of(log) == [(0, "1", 1), (0, "2", 1), (1, "3", 1), (1, "1", 1), (1, "3", 1)]
    assert log.time_ms is None


def test_equal_lines_of_two_files_are_different_sessions(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("1 2\n")
    assert read_events([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]).session_count == 2


def test_a_session_may_go_on_in_another_file(tmp_path: Path) -> None:
    views = csv_file(tmp_path, "view,s,a,1700000001", name="views.csv")
    sales = csv_file(tmp_path, "purchase,s,a,1700000002", name="sales.csv")
    log = read_events([views, sales])
    assert log.session_count == 1
    assert log.event_type.tolist() == [EventType.VIEW, EventType.PURCHASE]


def test_files_are_read_in_small_batches_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tiny_log(50, 60)
    paths = [str(write_event_file(tmp_path / name, log)) for name in ("e.parquet", "e.csv", "e.jsonl")]
    whole = [rows_of(read_events([path])) for path in paths]
    monkeypatch.setattr(readers, "BATCH_ROWS", 7)
    monkeypatch.setattr(readers, "_CSV_BLOCK_BYTES", 500)
    monkeypatch.setattr(readers, "_LINES_A_BATCH", 7)
    assert [rows_of(read_events([path])) for path in paths] == whole


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("view", EventType.VIEW),
        ("addtocart", EventType.ADD_TO_CART),
        ("Add-To-Cart", EventType.ADD_TO_CART),
        ("transaction", EventType.PURCHASE),
        ("EVENT_TYPE_PURCHASE", EventType.PURCHASE),
        (" Click ", EventType.CLICK),
        ("pageview", EventType.VIEW),
        ("search", EventType.SEARCH),
        ("nonsense", None),
        ("", None),
    ],
)
def test_event_types_have_their_usual_aliases(name: str, kind: EventType | None) -> None:
    assert parse_event_type(name) == kind


def test_foreign_column_names_are_mapped(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "536365,85123A,2010-12-01T08:26:00", header="Invoice,StockCode,InvoiceDate\n")
    mapping = {"session_id": "Invoice", "item_id": "StockCode", "event_time": "InvoiceDate"}
    log = read_events([path], mapping=mapping, default_event_type="purchase")
    assert rows_of(log) == [(0, "85123A", EventType.PURCHASE)]


def test_the_default_event_type_fills_gaps_only(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "view,s,a,1700000001", ",s,b,1700000002")
    assert read_events([path], default_event_type="click").event_type.tolist() == [EventType.VIEW, EventType.CLICK]


def test_searches_need_no_item(tmp_path: Path) -> None:
    log = read_events([csv_file(tmp_path, "search,s,,1700000001", "view,s,b,1700000002")])
    assert rows_of(log) == [(0, "", EventType.SEARCH), (0, "b", EventType.VIEW)]


def test_an_event_sent_twice_counts_once(tmp_path: Path) -> None:
    header = "event_id,event_type,session_id,item_id\n"
    path = csv_file(tmp_path, "e1,view,s,a", "e2,view,s,a", "e1,view,s,a", "e1,view,t,a", header=header)
    log = read_events([path])
    assert len(log) == 3
    assert log.duplicates == 1


def test_quotes_line_breaks_semicolons_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes('\ufeffevent_type;session_id;item_id;note\nview;s;"a;1";"two\nlines"\nview;s;b;\n'.encode())
    assert rows_of(read_events([str(path)])) == [(0, "a;1", 1), (0, "b", 1)]


def test_wrong_rows_of_one_format_have_the_same_number_in_every_other(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        log = tiny_log(20, 10)
        log.event_type[4] = EventType.UNSPECIFIED
        path = write_event_file(tmp_path / f"events.{suffix}", log)
        with pytest.raises(DatasetError) as caught:
            read_events([str(path)])
        assert (caught.value.path, caught.value.row, caught.value.column) == (str(path), 5, "event_type")


BAD_ROWS = {
    "unknown event type": ("teleport,s,a,1700000001", "event_type", "unknown event type: 'teleport'"),
    "empty event type": (",s,a,1700000001", "event_type", "empty"),
    "no session": ("view,,a,1700000001", "session_id", "empty"),
    "no item": ("view,s,,1700000001", "item_id", "empty"),
    "bad time": (
        "view,s,a,noon",
        "event_time",
        "neither ISO 8601 nor an epoch time; --time-format can name its format: 'noon'",
    ),
    "no time": ("view,s,a,", "event_time", "empty"),
    "control character": ("view,s,a\x01,1700000001", "item_id", "not an id"),
    "long id": (f"view,s,{'x' * 300},1700000001", "item_id", "not an id"),
    "too few values": ("view,s", None, "2 values where the header names 4"),
    "too many values": ("view,s,a,1,2", None, "5 values where the header names 4"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_with_file_row_and_column(tmp_path: Path, case: str) -> None:
    row, column, problem = BAD_ROWS[case]
    path = csv_file(tmp_path, "view,s,a,1700000001", row, "view,s,b,1700000002")
    with pytest.raises(DatasetError) as caught:
        read_events([path])
    assert (caught.value.path, caught.value.row, caught.value.column) == (path, 2, column)
    assert problem in caught.value.problem


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_counted_and_left_out_if_asked(tmp_path: Path, case: str) -> None:
    row, column, _ = BAD_ROWS[case]
    problems = BadRows(skip=True)
    log = read_events([csv_file(tmp_path, "view,s,a,1700000001", row, "view,s,b,1700000002", row)], problems=problems)
    assert rows_of(log) == [(0, "a", 1), (0, "b", 1)]
    assert [(found.column or None, found.first_row, found.count) for found in problems.report()] == [
        (column, 2, 2)
    ] or column is None
    assert problems.total == 2


def test_rows_behind_a_broken_one_keep_their_numbers(tmp_path: Path) -> None:
    problems = BadRows(skip=True)
    read_events(
        [
            csv_file(
                tmp_path,
                "view,s,a,1700000001",
                "broken",
                "view,s,b,1700000002",
                "hop,s,b,1700000002",
                "view,s,a,1700000003",
            )
        ],
        problems=problems,
    )
    assert {(found.first_row, found.column) for found in problems.report()} == {(2, ""), (4, "event_type")}


def test_a_negative_value_is_a_bad_row(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "view,s,a,-0.5", header="event_type,session_id,item_id,value\n")
    with pytest.raises(DatasetError, match="negative") as caught:
        read_events([path])
    assert (caught.value.row, caught.value.column) == (1, "value")


def test_a_return_is_left_out_and_counted_and_no_bad_row(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, "purchase,s,a,2,3.5", "purchase,s,a,-2,-3.5", header="event_type,session_id,item_id,quantity,value\n"
    )
    notes = Notes()
    log = read_events([path], notes=notes)
    assert (len(log), notes.rows_returned) == (1, 1)
    assert notes.of_amounts()[-1] == "1 rows with a negative quantity are returns: left out"


def test_what_becomes_of_users_and_amounts_is_said_where_a_file_has_them(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "view,s,a,u,3", header="event_type,session_id,item_id,Customer,quantity\n")
    notes = Notes()
    read_events([path], mapping={"user_id": "Customer"}, notes=notes)
    quantity, user = notes.of_amounts()
    assert quantity.startswith("quantity: ")
    assert user.startswith("user_id (Customer): ")
    assert "recserv import" in user


@pytest.mark.parametrize(("column", "value"), [("quantity", "x"), ("value", "inf"), ("value", "--")])
def test_an_amount_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path, column: str, value: str) -> None:
    path = csv_file(
        tmp_path, "view,s,a,1", f"view,s,b,{value}", "view,s,c,nan", header=f"event_type,session_id,item_id,{column}\n"
    )
    notes = Notes()
    assert len(read_events([path], notes=notes)) == 3
    (found,) = notes.values_left_out()
    assert (found.column, found.first_row, found.count, found.example) == (column, 2, 1, repr(value))


def test_the_column_is_named_as_the_file_does(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "s,a,-1", header="session_id,item_id,Price\n")
    with pytest.raises(DatasetError) as caught:
        read_events([path], mapping={"value": "Price"}, default_event_type="view")
    assert caught.value.column == "Price"


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(HEADER.encode() + b"view,s,a,1700000001\nview,s,\xff\xfe,1700000002\n")
    with pytest.raises(DatasetError, match="not an id") as caught:
        read_events([str(path)])
    assert (caught.value.row, caught.value.column) == (2, "item_id")
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b'{"event_type":"view","session_id":"s","item_id":"a"}\n{"item_id":"\xff"}\n')
    with pytest.raises(DatasetError, match="not UTF-8") as caught:
        read_events([str(lines)])
    assert caught.value.row == 2


@pytest.mark.parametrize("line", ["{", "[1]", "null", '"text"', "[" * 5000, '{"a":1} x'])
def test_json_lines_that_are_no_objects_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event_type":"view","session_id":1,"item_id":2}\n\n' + line + "\n")
    with pytest.raises(DatasetError, match="not a JSON object") as caught:
        read_events([str(path)])
    assert caught.value.row == 3


def test_json_values_of_mixed_types_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"event_type":"view","session_id":1,"item_id":2}\n{"event_type":"view","session_id":"1","item_id":"x"}\n'
        '{"event_type":"view","session_id":1.0,"item_id":123456789012345678901234567890}\n'
    )
    expected = [(0, "2", 1), (0, "x", 1), (0, "123456789012345678901234567890", 1)]
    assert rows_of(read_events([str(path)])) == expected


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "e.parquet":
        pq.write_table(pa.table({"event_type": ["view"], "item_id": ["a"]}), path)
    else:
        path.write_text(
            '{"event_type":"view","item_id":"a"}\n' if name == "e.jsonl" else "event_type,item_id\nview,a\n"
        )
    with pytest.raises(DatasetError, match="event_type, item_id") as caught:
        read_events([str(path)])
    assert caught.value.column == "session_id"


def test_a_mapping_to_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_events([csv_file(tmp_path, "view,s,a,1700000001")], mapping={"value": "Price"})
    assert caught.value.column == "Price"


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet", "e.txt"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError, match="empty"):
        read_events([str(tmp_path / name)])


def test_files_without_rows_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        read_events([csv_file(tmp_path)])
    (tmp_path / "e.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match="no rows"):
        read_events([str(tmp_path / "e.txt")])


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.jsonl.gz", "e.parquet", "e.txt.gz"])
def test_garbage_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DatasetError) as caught:
        read_events([str(tmp_path / name)])
    assert caught.value.path == str(tmp_path / name)


def test_a_compressed_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(write_event_file(tmp_path / "e.csv", tiny_log(50, 200)).read_bytes())
    (tmp_path / "e.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DatasetError):
        read_events([str(tmp_path / "e.csv.gz")])


def test_unknown_files_and_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_events([str(tmp_path / "nowhere.csv")])
    (tmp_path / "e.xlsx").write_bytes(b"x")
    with pytest.raises(DatasetError, match="unknown kind"):
        read_events([str(tmp_path / "e.xlsx")])
    with pytest.raises(UsageError, match="no such event type"):
        read_events([csv_file(tmp_path, "view,s,a,1700000001")], default_event_type="nonsense")


def test_a_file_with_times_and_one_without_do_not_go_together(tmp_path: Path) -> None:
    with_times = csv_file(tmp_path, "view,s,a,1700000001")
    without = csv_file(tmp_path, "view,s,a", header="event_type,session_id,item_id\n", name="more.csv")
    with pytest.raises(DatasetError, match="has no event_time") as caught:
        read_events([with_times, without])
    assert caught.value.path == without


def test_nothing_but_bad_rows_is_an_error_even_if_they_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no good row"):
        read_events([csv_file(tmp_path, "hop,s,a,1700000001")], problems=BadRows(skip=True))


def test_progress_reaches_the_whole_of_every_file(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    for name in ("e.parquet", "e.csv", "e.jsonl"):
        read_events(
            [str(write_event_file(tmp_path / name, tiny_log(20, 20)))], progress=lambda *call: calls.append(call)
        )
    assert [stage for stage, _, _ in calls] == ["reading e.parquet", "reading e.csv", "reading e.jsonl"]
    assert all(done == total > 0 for _, done, total in calls)
