"""Quotation marks far behind the beginning of a file: what swallows rows is noticed, text of several lines is read."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.training.csv_dialect import ReadAs, find_dialect
from recserv.training.quotes import SWALLOWS, BrokenQuotes, QuoteCheck
from recserv.training.swallowed import RowShape
from tests.training.files.support import Builder, Built, events

FAR = 6000
"""Rows of some 50 bytes each: behind the 256 KiB that are looked at first."""
HEADER = "item_id,title,category,price\n"


def rows(count: int, first: int = 0) -> list[str]:
    """pot, lid and rack first, which sell."""
    names = ["pot", "lid", "rack"]
    return [
        f"{names[n] if n < 3 else f'sku-{n}'},{'Slim shelf of oak' if n % 2 else 'A pot for tea'},Home,{n % 90}.50"
        for n in range(first, first + count)
    ]


def catalog(*between: str, behind: int = 5) -> str:
    return HEADER + "\n".join([*rows(FAR), *between, *rows(behind, FAR)]) + "\n"


def built_of(shop: Builder, text: str, *options: str) -> Built:
    return shop.build(events(), "--allow-unknown-items", *options, c_csv=text)


def swallowing(lines: int, column: int = 1, last_column: int | None = None) -> list[str]:
    """A value that opens with a mark in one row and closes with one in the same column, or another, of a row below."""
    last_column = column if last_column is None else last_column
    made = [row.split(",") for row in rows(lines + 1, 10_000)]
    made[0][column] = f'"{made[0][column]}'
    made[-1][last_column] = f'{made[-1][last_column]}"'
    return [",".join(values) for values in made]


@pytest.mark.parametrize("lines", [1, 2, 300, 5_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_mark_that_takes_rows_with_it_far_behind_is_refused_where_it_opens(
    shop: Builder, lines: int, line_end: str
) -> None:
    text = catalog(*swallowing(lines)).replace("\n", line_end)
    for options in ((), ("--skip-bad-rows",)):
        built = built_of(shop, text, *options)
        assert built.code == 2
        assert f"c.csv, row {FAR + 1}: {SWALLOWS}" in built.err
        assert "--quotes off" in built.err
    assert built_of(shop, text, "--quotes", "off").model.item_count == FAR + 5 + lines + 1


@pytest.mark.parametrize(("column", "last_column"), [(0, 0), (1, 2), (2, 1), (3, 3), (0, 3), (3, 0)])
def test_swallowed_rows_are_found_whichever_columns_the_mark_opens_and_closes_in(
    shop: Builder, column: int, last_column: int
) -> None:
    built = built_of(shop, catalog(*swallowing(3, column, last_column)), "--skip-bad-rows")
    assert built.code == 2
    assert f"row {FAR + 1}: {SWALLOWS}" in built.err


LEGIT = [
    '"Two lines,\nof text"',
    '"Fits, well and\nwears, and tears, and\ncosts, 5"',
    '"sku-1, sku-2\nsku-3, sku-4, Home, 5\nsku-5"',
    '"One\nTwo\nThree"',
    '"Says ""hi"",\nthen leaves"',
    '"1,5 m\n2,5 m"',
]


@pytest.mark.parametrize("value", LEGIT)
def test_a_value_with_lines_of_its_own_is_read(shop: Builder, value: str) -> None:
    text = catalog(f"x,{value},Home,5.50")
    assert built_of(shop, text).item("x").title == value.strip('"').replace('""', '"')


def test_many_descriptions_of_several_lines_are_read(shop: Builder) -> None:
    rng = random.Random(4)
    words = [
        "A12,",
        "2-pack,",
        "S,M,L",
        "40",
        "sku-5,",
        "100%",
        "for",
        "tea,",
        "and",
        "coffee,",
        "oak",
        "with",
        "a",
        "lid",
        "in",
        "blue,",
    ]
    made = []
    for n in range(FAR):
        lines = [" ".join(rng.choices(words, k=6)) for _ in range(rng.randrange(1, 5))]
        made.append(f'k-{n},"{chr(10).join(lines)}",Home,{n}.5')
    assert built_of(shop, catalog(*made)).model.item_count == 2 * FAR + 5


def test_rows_of_words_alone_are_judged_by_what_most_values_of_several_lines_are() -> None:
    shape = RowShape.of(",", [["one", "two words", "three"]] * 3, 3)
    assert shape.swallowed('a,"b,c\nd,e",f') is None
    for legit, refused in ((0, True), (5, False)):
        text = 'a,"x\ny",c\n' * legit + 'a,"b,c\nd,e",f\n'
        check = QuoteCheck(",", shape=shape)
        check.feed(text.encode())
        if refused:
            with pytest.raises(BrokenQuotes, match="whole rows"):
                check.finish()
        else:
            check.finish()


def pass_all(check: QuoteCheck, text: bytes, size: int) -> None:
    for begin in range(0, len(text), size):
        check.feed(text[begin : begin + size])
    check.finish()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_the_row_that_is_named_does_not_depend_on_how_the_text_is_cut(seed: int, size: int) -> None:
    rng = random.Random(seed)
    good = ["a-1,Pot,5", 'a-2,"Pot, large",5', 'a-3,"Two\nlines",5', "", 'a-4,"",5', 'a-5,24" x,5', 'a-6,"q ""x""",7']
    lines = rng.choices(good, k=rng.randrange(0, 12))
    at = rng.randrange(len(lines) + 1)
    lines[at:at] = ['a-7,"Slim,5', *["a-8,Mug,6"] * rng.randrange(0, 3), 'a-9,Big",8']
    text = ("\n".join(lines) + "\n").encode()
    shape = RowShape.of(",", [["a-1", "Pot x", "5"]] * 3, 3)
    found = set()
    for numbered in (False, True):
        check = QuoteCheck(",", numbered=numbered, shape=shape)
        with pytest.raises(BrokenQuotes, match="whole rows") as caught:
            pass_all(check, text, size)
        found.add(caught.value.row if numbered else 0)
    assert found == {0, 1 + sum(line != "" for line in lines[:at])}


def dialect_of(text: str) -> tuple[bool, bool]:
    found = find_dialect("f", text.encode(), True, ReadAs(), {"item_id"})
    return found.quotes, found.blanks


@pytest.mark.parametrize(
    ("text", "blanks"),
    [
        ('item_id, title\n1, "Pot, large"\n', True),
        ('item_id, "title"\n1, "Pot"\n2,  "Lid"\n3, ""\n4, Mug\n', True),
        ('item_id, title\n1, "Slim" shelf\n', False),
        ('item_id,title\n1,"a, ""b"" c"\n', False),
        ("item_id, title\n1, Pot\n", False),
    ],
)
def test_a_blank_before_a_mark_is_no_part_of_the_value_where_all_are_written_so(text: str, blanks: bool) -> None:
    assert dialect_of(text) == (True, blanks)


def test_values_with_a_blank_before_their_mark_are_read_without_both(
    shop: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'item_id, "title", category, price\n'
    text += "".join(f'sku-{n}, "Shelf, {n}", "", {n}\n' for n in range(8000))
    text += 'pot, "Pot ""XL"", blue", Home, 5\nlid, "", Home, 6\nrack,  "Two, \nlines", "", 7\n'
    built = built_of(shop, text)
    assert built.code == 0, built.err
    assert [built.item(name).title for name in ("pot", "lid", "rack", "sku-77")] == [
        'Pot "XL", blue',
        "",
        "Two, \nlines",
        "Shelf, 77",
    ]
    assert built.item("sku-77").price == 77
    broken = built_of(shop, text + 'x, "Slim" shelf, Home, 5\n')
    assert broken.code == 2
    assert "row 8004: a quotation mark opens here and closes in the middle of a value" in broken.err


class Cut(io.RawIOBase):
    """A stream that gives few bytes at a time."""

    def __init__(self, data: bytes, size: int):
        self._data, self._size = data, size

    def read(self, size: int = -1) -> bytes:
        piece, self._data = self._data[: self._size], self._data[self._size :]
        return piece


@pytest.mark.parametrize("size", range(1, 9))
def test_blanks_before_marks_are_removed_at_any_chunk_boundary(size: int) -> None:
    from recserv.training.checked_text import _WithoutBlanks

    text = b'a, "b, c",   "", d\n, "x""y"\ne, ""\nf,  g, "h'
    stream = _WithoutBlanks(Cut(text, size), ",")  # type: ignore[arg-type]
    read = b"".join(iter(lambda: stream.read(1 << 20), b""))
    assert read == b'a,"b, c","", d\n,"x""y"\ne,""\nf,  g,"h'
