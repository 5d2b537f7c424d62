"""How a delimited file is written: its separator, its header, whether quotation marks mean something.

    the first 256 KiB as UTF-8 -> for each separator the rows it would make -> the one that all lines agree on
    -> Dialect

Everything can be told instead (`ReadAs`). A header is read by the standard library's parser: its cells may hold line
breaks, separators and quotation marks, may be empty and may repeat.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import msgspec

from recserv.errors import DatasetError
from recserv.training.quotes import SWALLOWS, BrokenQuotes, QuoteCheck
from recserv.training.swallowed import RowShape

SEPARATORS = (",", "\t", ";", "|")
HEADER_BYTES_MAX = 64 << 10
COLUMNS_MAX = 5_000
QUOTES_HINT = "; --quotes off takes such marks as text, --quotes on means them"
_ROWS_LOOKED_AT = 200
_AGREEMENT_MIN = 0.5


class ReadAs(msgspec.Struct, frozen=True, kw_only=True):
    """What the user said about a file; empty or None: detect it. `names`: of the columns of a file that has no
    header.
    """

    delimiter: str = ""
    encoding: str = ""
    quotes: bool | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """`names` one a column, without the header's blanks around them, "" where the header has none; `header_bytes`: how
    many bytes of the text the header takes, 0 without one. `blanks`: values stand in quotation marks with a blank
    before them. `shape`: by which values that have swallowed rows are known; None: nobody wants to know.
    """

    names: list[str]
    delimiter: str
    quotes: bool
    header_bytes: int
    blanks: bool = False
    shape: RowShape | None = None


def find_dialect(path: str, head: bytes, whole: bool, told: ReadAs, known: Collection[str]) -> Dialect:
    """`head`: the beginning of the file, `whole`: all of it. `known`: names of columns, in lower case, that decide
    between separators that fit alike. Raises DatasetError.
    """
    try:
        text = head.decode("utf-8", "strict" if whole else "replace")
    except UnicodeDecodeError:
        text = head.decode("utf-8", "replace")
    told_by_file, text, skipped = _told_by_file(text)
    separators = [told.delimiter or told_by_file] if told.delimiter or told_by_file else list(SEPARATORS)
    if told.delimiter and told.delimiter not in text.lstrip().partition("\n")[0]:
        separators = list(SEPARATORS)  # Meant for another one of the files.
    quotes = told.quotes is not False
    best: tuple[tuple[float, ...], str, _Rows] | None = None
    for separator in separators:
        rows = _rows(path, text, separator, quotes, whole)
        if rows is not None:
            score = rows.score({name.lower() for name in known})
            if best is None or score > best[0]:
                best = (score, separator, rows)
    if best is None:
        raise DatasetError(path, f"the first line is too long to be a header (more than {HEADER_BYTES_MAX} bytes)")
    _, separator, rows = best
    blanks = quotes and _blanks_before_quotes(text, separator, rows)
    if blanks:
        rows = _rows(path, text, separator, quotes, whole, blanks=True) or rows
    if told.quotes is None and b'"' in head:
        quotes = _marks_enclose(path, without_blanks(text, separator) if blanks else text, whole, separator)
        rows = rows if quotes else _rows(path, text, separator, quotes, whole) or rows
    shape = RowShape.of(separator, rows.rows, len(rows.header)) if quotes and told.quotes is None else None
    names = [name.strip() for name in rows.header]
    if "\ufffd" in text[: rows.header_size]:
        raise DatasetError(path, "the header is not UTF-8; name its encoding with --encoding")
    header_bytes = skipped + len(text[: rows.header_size].encode())
    if told.names and not {name.lower() for name in names} & {name.lower() for name in told.names}:
        names, header_bytes = list(told.names), skipped
        rows.rows.insert(0, rows.header)
    return Dialect(_fitted(names, rows.widths), separator, quotes, header_bytes, blanks, shape)


def _marks_enclose(path: str, text: str, whole: bool, separator: str) -> bool:
    """Whether quotation marks enclose values. Raises DatasetError where they would take rows with them."""
    broken, row = _broken(text if whole else text[: text.rfind("\n") + 1], whole, separator)
    if broken and separator == "\t":
        # Tabs are seldom inside of values, so such files are mostly written without quotation marks of their own.
        return False
    if row:
        raise DatasetError(path, f"{SWALLOWS}{QUOTES_HINT}", row=row)
    return True


@dataclass
class _Rows:
    header: list[str]
    header_size: int
    rows: list[list[str]]

    @property
    def widths(self) -> list[int]:
        return [len(row) for row in self.rows]

    def agreeing(self) -> float:
        """The share of the rows that have as many values as the header."""
        return sum(len(row) == len(self.header) for row in self.rows) / len(self.rows) if self.rows else 1.0

    def score(self, known: set[str]) -> tuple[float, ...]:
        """Larger is better: the rows agree with the header, it names what is looked for, it has many columns."""
        named = sum(name.strip().lower() in known for name in self.header)
        width = len(self.header)
        agreeing = self.agreeing()
        return (float(width > 1 and agreeing > _AGREEMENT_MIN), float(named), round(agreeing, 1), float(width))


def _rows(path: str, text: str, separator: str, quotes: bool, whole: bool, blanks: bool = False) -> _Rows | None:
    """None: no header of a plausible size."""
    lines = _CountedLines(text)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=blanks)
    header: list[str] = []
    rows = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header, header_size = row, lines.taken
                if header_size > HEADER_BYTES_MAX or len(header) > COLUMNS_MAX:
                    return None
            else:
                rows.append(row)
            if len(rows) > _ROWS_LOOKED_AT:
                break
        else:
            if not whole and rows:
                rows.pop()  # Cut off.
    except csv.Error:
        if not header:
            return None
    if not header:
        raise DatasetError(path, "the file has no header")
    return _Rows(header, header_size, rows)


def _blanks_before_quotes(text: str, separator: str, rows: _Rows) -> bool:
    """Whether a mark behind a separator and blanks opens a value: wherever there is one, such a value ends as it must,
    and the rows have no fewer values for it than the header.
    """
    if separator == " " or not re.search(rf"{re.escape(separator)} +\"", text):
        return False
    lines = io.StringIO(text[: text.rfind("\n") + 1] or text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    read = _Rows([], 0, [])
    try:
        read.header = next(reader, [])
        for row in reader:
            read.rows.append(row)
            if len(read.rows) > _ROWS_LOOKED_AT:
                break
    except csv.Error:
        return False
    differs = any(
        one != other for one, other in zip([read.header, *read.rows], [rows.header, *rows.rows], strict=False)
    )
    return differs and read.agreeing() >= rows.agreeing()


def without_blanks(text: str, separator: str) -> str:
    """Text without the blanks between a separator and the mark that opens a value."""
    sign = re.escape(separator)
    return re.sub(rf'{sign} +"(?!"(?!{sign}|[\r\n]|$))', f'{separator}"', text)


class _CountedLines:
    """Lines, with the number of characters that a parser has consumed."""

    def __init__(self, text: str):
        self._lines = io.StringIO(text, newline="")
        self.taken = 0

    def __iter__(self) -> _CountedLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += len(line)
        return line


def _told_by_file(text: str) -> tuple[str, str, int]:
    """A first line `sep=;`, as spreadsheets write it: the separator, the text behind it, its size in bytes."""
    line = text[:8].splitlines()[0] if text else ""
    if len(line) == len("sep=;") and line.lower().startswith("sep="):
        rest = text[len(line) :].lstrip("\r\n")
        return line[-1], rest, len(text) - len(rest)
    return "", text, 0


def _fitted(names: list[str], widths: list[int]) -> list[str]:
    """As many names as the rows have values: exports end the header, or every row, with separators of no column."""
    width = max(set(widths), key=widths.count) if widths else len(names)
    if width > len(names):
        return names + [""] * (width - len(names)) if widths.count(width) == len(widths) else names
    return names[:width] if not any(names[width:]) else names


def _broken(text: str, whole: bool, separator: str) -> tuple[bool, int]:
    """Whether quotation marks are used in another way than RFC 4180 has it, and the row where one of them takes whole
    rows with it, 0 for none.
    """
    row = _swallowing_row(text, separator)
    check = QuoteCheck(separator)
    try:
        check.feed(text.encode())
        if whole:
            check.finish()
    except BrokenQuotes:
        return True, 0  # Refused when the row is read, or read without marks.
    return row > 0, row


def _swallowing_row(text: str, separator: str) -> int:
    """The first row with a value over several lines that each look like a row, if most such values are like that."""
    lines = _CountedLines(text)
    width = before = first = swallowing = spanning = 0
    try:
        for number, row in enumerate(csv.reader(lines, delimiter=separator)):
            width = width or len(row)
            taken = text[before : lines.taken].rstrip("\r\n").split("\n")
            before = lines.taken
            if number and len(taken) > 1:
                spanning += 1
                if width > 2 and all(line.count(separator) == width - 1 for line in taken):
                    swallowing += 1
                    first = first or number
    except csv.Error:
        return first
    return first if 2 * swallowing > spanning else 0
