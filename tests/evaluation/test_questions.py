"""The file that eval takes: whose question each line is, and what the file beside it says."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import msgspec
import pytest

from recserv.errors import DatasetError
from recserv.evaluation.questions import Line, read_questions, session_numbers
from recserv.model.data_report import HoldoutReport


@pytest.mark.parametrize(
    ("lines", "sessions"),
    [
        ([(["a"], "b"), (["a", "b"], "c"), (["x"], "y")], [0, 0, 1]),
        ([(["a", "b", "c"], "d"), (["a", "b"], "c"), (["a"], "b"), (["a"], "z")], [0, 0, 0, 1]),
        ([(["a"], "b"), (["a", "b", "c", "d"], "e")], [0, 0]),  # Some of the places of a long session.
        ([(["a", "b"], "c"), (["a", "c"], "b"), (["b", "c"], "d")], [0, 0, 1]),  # A basket, each item in turn.
        ([(["a"], "b"), (["a"], "b")], [0, 1]),  # Two sessions that are alike.
    ],
)
def test_lines_of_one_session_are_found_again(lines: list[Line], sessions: list[int]) -> None:
    assert session_numbers(lines).tolist() == sessions


def said(content: bytes) -> bytes:
    report = HoldoutReport(
        chosen="5%",
        file="q.tsv",
        sha256=hashlib.sha256(content).hexdigest(),
        events=("e.csv",),
        sessions=1,
        sessions_asked=1,
        sessions_without_order=0,
        questions=1,
    )
    return msgspec.json.encode(report)


def test_what_lies_beside_the_file_is_read_if_it_is_about_this_file(tmp_path: Path) -> None:
    path, beside = tmp_path / "q.tsv", tmp_path / "q.tsv.json"
    path.write_bytes(b"a\tb\n")
    assert read_questions(path).said is None
    beside.write_bytes(said(b"a\tb\n"))
    found = read_questions(path)
    assert found.said is not None
    assert found.said.events == ("e.csv",)
    path.write_bytes(b"a\tc\n")
    found = read_questions(path)
    assert (found.said, found.said_wrongly) == (None, True)
    beside.write_bytes(b"[1, 2]")
    assert read_questions(path).said_wrongly is False


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("", "no lines"),
        ("event_type,session_id,item_id\nview,1,a\n", "recserv build --holdout 5%"),
        ('{"event_type": "view", "item_id": "a"}\n', "recserv build --holdout 5%"),
        ("a b c\n", "prefix ids TAB target id"),
    ],
)
def test_another_kind_of_file_is_answered_with_what_makes_a_right_one(tmp_path: Path, content: str, hint: str) -> None:
    path = tmp_path / "q.tsv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=hint):
        read_questions(path)


def test_a_packed_file_that_is_damaged_is_refused_in_words(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("".join(f"a{n} b{n}\tc{n}\n" for n in range(2000)).encode()))
    packed[100:140] = b"\xff" * 40
    path = tmp_path / "q.tsv.gz"
    path.write_bytes(packed)
    with pytest.raises(DatasetError, match=r"q\.tsv\.gz"):
        read_questions(path)


def test_a_file_written_by_hand_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "q.tsv"
    path.write_bytes(b"\xef\xbb\xbfa b\tc\r\nb\td\r\n")
    assert read_questions(path).lines == [(["a", "b"], "c"), (["b"], "d")]


def test_a_third_column_is_no_part_of_the_target(tmp_path: Path) -> None:
    path = tmp_path / "q.tsv"
    path.write_text("a\tb\nb\tc\t3\n")
    with pytest.raises(DatasetError, match="expected: prefix ids TAB target id") as caught:
        read_questions(path)
    assert caught.value.row == 2
