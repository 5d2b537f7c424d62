"""Whatever bytes stand in a file: it is read, or refused with its name; never anything else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recserv.errors import DatasetError
from recserv.training.catalog import read_catalog
from recserv.training.dataset import read_events
from recserv.training.inspection import inspect_file
from recserv.training.mapping_tables import TableMapping
from recserv.training.problems import BadRows
from recserv.training.quotes import BrokenQuotes, QuoteCheck

HEADER = b"event_type,session_id,item_id,event_time,value,event_id,price,categories,available,attributes\n"
JSON_START = b'{"event_type": "view", "session_id": "s", "item_id": '
PIECES = [
    *(
        b",",
        b"\n",
        b"\r",
        b'"',
        b'""',
        b"\t",
        b";",
        b"|",
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\xc3",
        b"\xef\xbb\xbf",
        b" ",
        b"\\",
    ),
    *(
        b"view",
        b"search",
        b"s1",
        b"pot",
        b"NULL",
        b"1714557600",
        b"20240501",
        b"2024-05-01",
        b"1e999",
        b"-1",
        b"nan",
        b"1,50",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b'{"item_id":',
        b'"\\ud800"',
        b"[[",
        b"\x85",
        "é€".encode(),
        b"x" * 300,
        b"PAR1",
        b"true",
    ),
]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
contents = st.one_of(
    st.binary(max_size=200),
    texts,
    texts.map(lambda text: HEADER + text),
    texts.map(lambda text: HEADER + b"view,s,pot,1714557600,1,,1,a,1,\n" + text),
    texts.map(lambda text: JSON_START + text),
    texts.map(lambda text: JSON_START + b'"pot"}\n' + text),
    texts.map(lambda text: b"[" + JSON_START + b'"pot"}' + text),
)
NAMES = ["f.csv", "f.tsv", "f.json", "f.jsonl", "f.txt", "f.parquet", "f.csv.gz", "part-0"]


def refusal(read: Callable[[str], object], path: Path) -> DatasetError | None:
    try:
        read(str(path))
    except DatasetError as error:
        return error
    return None


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120)
@given(content=contents, skip=st.booleans())
@example(content=HEADER.replace(b"\n", b"\r") + b"view,s,a", skip=False)
@example(content=b'item_id\n"', skip=True)
@example(content=b"[" * 100_000, skip=True)
@example(content=b'\x04"M\x18', skip=False)
@example(content=b"\x1f\x8b", skip=False)
@example(content=b'[{"item_id": "\\ud800", "session_id": 1, "event_type": "view"}]', skip=True)
def test_any_bytes_are_read_or_refused(name: str, content: bytes, skip: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        skipping = BadRows(skip)
        for read in (
            lambda p: read_events([p], problems=skipping),
            lambda p: read_catalog(p, problems=skipping),
            lambda p: inspect_file(p, TableMapping(), TableMapping()),
        ):
            error = refusal(read, path)
            assert error is None or error.path == str(path)


def naive(text: str) -> int:
    """The row in which a mark is broken, 0 for none; one character after the other."""
    row, at, opened = 1, 0, 0
    boundary = True
    while at < len(text):
        sign = text[at]
        if opened:
            if sign == '"':
                following = text[at + 1 : at + 2]
                if following == '"':
                    at += 1
                elif following in ("", ",", "\n"):
                    opened = 0
                else:
                    return opened
        elif sign == '"' and boundary:
            opened = row
        elif sign == "\n" and (at and text[at - 1] != "\n"):
            row += 1
        boundary = not opened and sign in ",\n"
        at += 1
    return opened


@given(
    text=st.text(alphabet='a",\n', max_size=40), cuts=st.lists(st.integers(1, 9), max_size=20), numbered=st.booleans()
)
def test_marks_are_judged_as_one_by_one_however_the_text_is_cut(text: str, cuts: list[int], numbered: bool) -> None:
    check = QuoteCheck(",", numbered=numbered)
    pieces, begin = [], 0
    for cut in [*cuts, len(text)]:
        pieces.append(text[begin : begin + cut])
        begin += cut
    found = 0
    try:
        for piece in pieces:
            check.feed(piece.encode())
        check.finish()
    except BrokenQuotes as error:
        found = error.row if numbered else 1
    expected = naive(text)
    assert (found == expected) if numbered else (found > 0) == (expected > 0)
